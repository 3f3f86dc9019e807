"""`--simulate` serves every kind of load, by the runner's own policy."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.paths import Home, data_folder
from lemctl.report.gather import gather_report
from lemctl.report.text import text_report
from lemctl.simulate import run_campaign
from lemctl.store.database import Store

CAMPAIGN = """
name: rehearsal
model: "random:{vocab_size: 1000}"
backend: replay
preset: throughput
workload: {dataset: random, random: {input_len: 100}, prompts: 200, max_new_tokens: 32, load: LOAD}
cycles: 1
"""


def rehearsed(folder: Path, load: str) -> tuple[str, dict[str, float | None], dict[str, Any], list[str]]:
    """Verdict, metrics, facts and codes of findings of one run."""
    (folder / "arrivals.txt").write_text("".join(f"{number / 4}\n" for number in range(200)))
    text = CAMPAIGN.replace("LOAD", load)
    home = Home(folder / "home")
    run_campaign(plan(loads(text, catalogue_dir=data_folder() / "images", dataset_dirs=[folder])), "", home, seed=1)
    with sqlite3.connect(home.database) as db:
        ((verdict, facts),) = db.execute("SELECT verdict, facts FROM attempts").fetchall()
        metrics = dict(db.execute("SELECT name, value FROM metrics").fetchall())
        codes = [code for (code,) in db.execute("SELECT code FROM findings")]
    return verdict, metrics, json.loads(facts), codes


@pytest.mark.parametrize(
    ("load", "in_flight", "rate_per_s"),
    [
        ("{mode: closed, concurrency: 16}", (15, 16), None),
        ("{mode: offline, batch_size: 16, batching: continuous}", (15, 16), None),
        ("{mode: poisson, rate: 4/s}", (2, 8), 4.0),
        ("{mode: gamma, rate: 4/s, burstiness: 4}", (2, 8), 4.0),
        ("{mode: trace, trace: file:arrivals.txt}", (2, 8), 4.0),
    ],
)
def test_a_load_is_rehearsed_as_it_will_be_served(
    tmp_path: Path, load: str, in_flight: tuple[float, float], rate_per_s: float | None
) -> None:
    verdict, metrics, facts, codes = rehearsed(tmp_path, load)
    assert verdict == "VALID", codes
    low, high = in_flight
    assert low <= (metrics["in_flight_mean"] or 0) <= high + 1e-6
    assert (metrics["duration"] or 0) >= 29.5
    assert metrics["itl_p50"] is not None
    assert (metrics["energy_per_request"] or 0) > 0
    if rate_per_s is None:
        assert metrics["offered_requests_per_s"] is None
    else:
        assert metrics["offered_requests_per_s"] == pytest.approx(rate_per_s, rel=0.25)
        assert metrics["arrival_lateness_p90"] == 0
        assert facts["load"]["settled"] is True


def test_a_rehearsal_above_the_engines_rate_is_saturated(tmp_path: Path) -> None:
    verdict, metrics, _, codes = rehearsed(tmp_path, "{mode: poisson, rate: 100/s}")
    assert verdict == "SUSPECT"
    assert "saturated" in codes
    assert (metrics["offered_requests_per_s"] or 0) > 1.5 * (metrics["requests_per_s"] or 0)


def test_the_report_says_what_was_saturated(tmp_path: Path) -> None:
    text = CAMPAIGN.replace("LOAD", "{mode: poisson, rate: 1/s}") + "sweep: {workload.load.rate: [1/s, 100/s]}\n"
    home = Home(tmp_path)
    run_campaign(plan(loads(text, catalogue_dir=data_folder() / "images")), "", home, seed=1)
    with Store.open(home) as store:
        printed = text_report(gather_report(store, None))
    assert "served req/s" in printed
    (line,) = [line for line in printed.splitlines() if "more requests arrived than were served" in line]
    assert line.startswith("suspect    1 run (rate=100/s): ")


def test_longer_prompts_take_longer_and_are_counted(tmp_path: Path) -> None:
    text = CAMPAIGN.replace("LOAD", "{batch_size: 8}").replace("input_len: 100", "input_len: 1000")
    home = Home(tmp_path)
    run_campaign(plan(loads(text, catalogue_dir=data_folder() / "images")), "", home, seed=1)
    with sqlite3.connect(home.database) as db:
        metrics = dict(db.execute("SELECT name, value FROM metrics").fetchall())
    assert metrics["tokens_in"] == 1000 * metrics["requests"]
