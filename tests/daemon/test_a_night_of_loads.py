"""Loads that hand requests over one by one, from a campaign file through the real daemon to stored figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.engines.prefetch import missing, prefetch
from lemctl.errors import PreflightRefused
from lemctl.paths import data_folder
from lemctl.report.gather import gather_report
from lemctl.report.text import text_report
from lemctl.settings import Settings, load_settings
from night import Night

CAMPAIGN = """
name: night
preset: quick-test
model: "random:{vocab_size: 1000}"
backend: replay
workload: {dataset: random, random: {input_len: 8}, prompts: 40, max_new_tokens: 4, load: {mode: poisson, rate: 60/s}}
replay: {engine: {decode_ms_per_token: 1.0, prefill_ms_per_token: 0.1}}
"""
SWEEP = """
sweep:
  groups:
    - {workload.load.mode: [closed], workload.load.concurrency: [4]}
    - {workload.load.mode: [poisson], workload.load.rate: [60/s]}
    - {workload.load.mode: [gamma], workload.load.rate: [60/s], workload.load.burstiness: [0.5]}
    - {workload.load.mode: [trace], workload.load.trace: ["file:arrivals.csv"]}
    - {workload.load.mode: [offline], workload.load.batch_size: [4], workload.load.batching: [static, continuous]}
"""


class NightWithTraces(Night):
    """A night whose data-set folder holds recorded arrivals."""

    @property
    def settings(self) -> Settings:
        return load_settings(home=self.home.root, lock_dir=self.locks, datasets_dir=self.home.root.parent)

    def plan(self, text: str) -> Plan:
        folders = self.settings.dataset_dirs
        return plan(loads(text, "night.yaml", catalogue_dir=data_folder() / "images", dataset_dirs=folders))


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    moments = "".join(f"{100 + number * 0.01:.2f}\n" for number in range(40))
    (tmp_path / "arrivals.csv").write_text("arrival_s\n" + moments)
    with NightWithTraces(tmp_path) as made:
        yield made


def figures(night: Night, mode: str, batching: str | None = None) -> dict[str, float | None]:
    """The metrics of the runs with that load."""
    sql = (
        "SELECT m.name, m.value FROM metrics m JOIN attempts a ON a.id = m.attempt_id JOIN runs r ON r.id = a.run_id"
        " JOIN experiments e ON e.hash = r.experiment WHERE json_extract(e.spec, '$.workload.load.mode') = ?"
        " AND json_extract(e.spec, '$.workload.load.batching') IS ?"
    )
    return dict(night.rows(sql, mode, batching))


def test_every_kind_of_load_is_served_and_measured(night: Night) -> None:
    night.add(CAMPAIGN + SWEEP + "targets: {ttft: 60s, tpot: 60s}\n")
    night.begin()
    night.wait_campaign()
    night.end()
    night.audit()
    assert night.statuses() == ["Done"] * 6, night.said()
    for mode in ("poisson", "gamma", "trace"):
        found = figures(night, mode)
        offered = found["offered_requests_per_s"]
        assert offered is not None
        assert 20 < offered < 200
        assert found["arrival_lateness_p50"] is not None
    closed, continuous = figures(night, "closed"), figures(night, "offline", "continuous")
    assert closed["offered_requests_per_s"] is continuous["offered_requests_per_s"] is None
    for found in (closed, continuous):
        # On a busy machine the next request comes late.
        assert 1 < (found["in_flight_mean"] or 0) <= 4.001
        assert found["queue_p50"] is not None
        assert found["ttft_p50"] is not None
    for found in (closed, continuous, figures(night, "poisson")):
        assert (found["goodput"], found["goodput_share"]) == (found["requests_per_s"], 1.0)
    static = figures(night, "offline", "static")
    assert static["goodput"] is None
    ((why,),) = night.rows("SELECT DISTINCT reason FROM metrics WHERE name = 'goodput_share' AND value IS NULL")
    assert "handed over in batches" in why
    with night.reading() as store:
        report = gather_report(store, None)
    assert report.to_json()["targets_s"] == {"ttft": 60.0, "tpot": 60.0}
    text = text_report(report)
    assert "targets    ttft 60 s, tpot 60 s" in text
    assert "goodput req/s" in text
    assert (static["requests"], static["tokens_out"]) == (40, 160)
    facts = [json.loads(row[0])["load"] for row in night.rows("SELECT facts FROM attempts ORDER BY id")]
    assert sum("settled" in load for load in facts) == 3
    assert sum("ramp_s" in load for load in facts) == 2


def test_a_trace_is_prepared_before_the_night_and_missed_by_name(night: Night) -> None:
    text = CAMPAIGN.replace("{mode: poisson, rate: 60/s}", "{mode: trace, trace: file:arrivals.csv}")
    what = night.plan(text)
    assert [(gap.what, gap.name) for gap in missing(what, night.settings, "local") if gap.what == "trace"] == [
        ("trace", "file:arrivals.csv")
    ]
    prefetch(what, night.settings, "local", lambda step: None)
    assert missing(what, night.settings, "local") == []
    (prepared,) = night.home.prompts.glob("trace-*.txt")
    assert prepared.read_text().splitlines()[:3] == ["0.0", "0.01", "0.02"]
    assert prepared.stat().st_mode & 0o044 == 0o044
    prepared.unlink()
    (night.settings.dataset_dirs[0] / "arrivals.csv").write_text("arrival_s\n1\n2\n")
    with pytest.raises(PreflightRefused, match=r"file:arrivals\.csv is gone or has changed"):
        prefetch(what, night.settings, "local", lambda step: None)


def test_an_open_loop_above_the_engines_rate_is_called_saturated(night: Night) -> None:
    slow = CAMPAIGN.replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 10.0, max_num_seqs: 1")
    slow = slow.replace("prompts: 40", "prompts: 80")
    night.add(slow + "targets: {e2e: 1ms}\n")
    night.begin()
    night.wait_campaign()
    night.end()
    assert night.rows("SELECT verdict FROM attempts") == [("SUSPECT",)]
    codes = {code for (code,) in night.rows("SELECT code FROM findings WHERE severity = 'SUSPECT'")}
    assert codes == {"saturated", "load_not_settled"}
    found = figures(night, "poisson")
    assert (found["offered_requests_per_s"] or 0) > 1.5 * (found["requests_per_s"] or 0)
    assert (found["goodput"], found["goodput_share"]) == (0.0, 0.0), "served, and all of it too late"
