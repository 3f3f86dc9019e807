"""The ready campaigns of the phase-pure windows, the length regression and the open loop: a small cut of each, run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.judge.measured import Absent
from lemctl.judge.regression import LengthModel
from lemctl.paths import Home, data_folder
from lemctl.report.lengths import INPUTS, LengthFit, fit_results
from lemctl.report.lengths_text import lengths_text
from lemctl.simulate import run_campaign
from lemctl.store.database import Store
from lemctl.store.queries import find_campaign
from lemctl.store.read_results import campaign_results
from night import Night

READY = data_folder() / "campaigns"
#: So that a run takes a moment; `quick-test` waits for nothing.
CUT = {
    "backend": "replay",
    "model": "random:{vocab_size: 1000}",
    "replay.engine.decode_ms_per_token": "0.2",
    "replay.engine.prefill_ms_per_token": "0.001",
    "cycles": "1",
}
CUTS: dict[str, dict[str, str]] = {
    "prefill-only": {"workload.prompts": "8", "sweep.workload.random.input_len": "[16, 32]"},
    "decode-heavy": {"workload.prompts": "16", "workload.max_new_tokens": "16"},
    "length-regression": {
        "workload.prompts": "8",
        "sweep.workload.random.input_len": "[8, 16, 24]",
        "sweep.workload.max_new_tokens": "[4, 8, 12]",
    },
    "open-loop": {
        "workload.prompts": "60",
        "workload.random.input_len": "8",
        "workload.max_new_tokens": "4",
        "sweep.workload.load.rate": "[100/s, 200/s]",
    },
}


class CutNight(Night):
    """A night of ready campaigns, cut down."""

    cut: dict[str, str]

    def plan(self, text: str) -> Plan:
        return plan(loads(text, "ready.yaml", self.cut, "quick-test", catalogue_dir=data_folder() / "images"))


@pytest.fixture
def night(tmp_path: Path) -> Iterator[CutNight]:
    with CutNight(tmp_path) as made:
        yield made


def fits_of(home: Home, include_suspect: bool) -> list[LengthFit]:
    with Store.open(home) as store:
        campaign = find_campaign(store.connection, None)
        results = campaign_results(store.connection, campaign.id, INPUTS)
    return fit_results(results, include_suspect=include_suspect)


@pytest.mark.parametrize("name", sorted(CUTS))
def test_a_small_cut_of_a_ready_campaign_runs(night: CutNight, name: str) -> None:
    night.cut = CUT | CUTS[name]
    text = (READY / f"{name}.yaml").read_text()
    night.add(text)
    night.begin()
    night.wait_campaign(name=name)
    night.end()
    assert set(night.statuses(name)) == {"Done"}, night.said()
    assert len(night.statuses(name)) == len(night.plan(text).runs)
    outputs = night.rows("SELECT m.value, n.value FROM metrics m JOIN metrics n USING (attempt_id)"
                         " WHERE m.name = 'tokens_out' AND n.name = 'requests'")  # fmt: skip
    if name == "prefill-only":
        assert all(tokens == requests for tokens, requests in outputs)
    if name == "length-regression":
        (found,) = fits_of(night.home, include_suspect=True)
        assert isinstance(found.fitted, Absent)
        assert "not fitted: E_net: " in lengths_text([found])


def test_the_length_regression_gives_coefficients_with_intervals(tmp_path: Path) -> None:
    text = (READY / "length-regression.yaml").read_text()
    planned = plan(loads(text, overrides={"backend": "replay", "model": "random:{vocab_size: 1000}"}))
    home = Home(tmp_path)
    run_campaign(planned, text, home, seed=3, sample_s=10.0)
    (found,) = fits_of(home, include_suspect=True)
    assert isinstance(found.fitted, LengthModel), found.fitted
    terms = {term.name: term for term in found.fitted.terms}
    assert len(found.points) == 48
    assert (found.fitted.centre_in, found.fitted.centre_out) == (320, 160)
    # The computed engine spends its time on steps: an output token costs, and more than a prompt token.
    assert terms["N_out"].interval.low > 0
    assert terms["N_out"].coefficient > 10 * abs(terms["N_in"].coefficient)
    assert max(term.vif for term in terms.values()) < 1.5
    body = found.to_json()
    assert [term["term"] for term in body["terms"]] == ["constant", "N_in", "N_out", "N_in N_out", "N_out^2"]
    printed = lengths_text([found])
    assert "lengths centred at N_in 320, N_out 160" in printed
    assert " .. " in printed


def test_a_grid_that_cannot_tell_the_terms_apart_is_refused(tmp_path: Path) -> None:
    text = (READY / "length-regression.yaml").read_text()
    overrides = {
        "backend": "replay",
        "model": "random:{vocab_size: 1000}",
        "sweep.workload.max_new_tokens": "[200, 208, 216, 1024]",
    }
    home = Home(tmp_path)
    run_campaign(plan(loads(text, overrides=overrides)), text, home, seed=3, sample_s=10.0)
    (found,) = fits_of(home, include_suspect=True)
    assert isinstance(found.fitted, Absent)
    assert "variance inflation factor" in found.fitted.reason
    assert "is above 10" in lengths_text([found])
