"""Whether the next run finds its engine loaded: what is expected of its duration depends on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.daemon.experiment import engine_need
from lemctl.daemon.lanes import Lane, OpenSession, engine_parts
from lemctl.daemon.specs import resolved
from lemctl.daemon.turn import expected_s
from lemctl.paths import data_folder
from lemctl.store import campaigns, queue
from lemctl.store.queue import QueuedRun
from small_hours import NO_SENSORS, Host, NoSensors

CAMPAIGN = """
name: night
preset: quick-test
model: "random:{{vocab_size: 1000}}"
backend: {backend}
workload: {{dataset: random, random: {{input_len: 8}}, prompts: 2, max_new_tokens: 4}}
sweep: {{workload.load.batch_size: [1, 2], engine.dtype: [float32, bfloat16]}}
{more}
"""


def lane_and_runs(host: Host, backend: str, more: str = "") -> tuple[Lane, list[QueuedRun]]:
    """A lane whose engine was loaded for the first run of a campaign, and all its runs."""
    text = CAMPAIGN.format(backend=backend, more=more)
    host.add(plan(loads(text, catalogue_dir=data_folder() / "images")))
    with host.store.transaction() as tx:
        campaign = campaigns.find(tx, "night")
        runs: list[QueuedRun] = []
        while run := queue.next_run(tx, campaign, host.clock, [one.experiment for one in runs]):
            runs.append(run)
    executor: Any = SimpleNamespace(identity=lambda backend: {"executor": "local"})
    sensors: Any = NoSensors(NO_SENSORS, host.clock.monotonic_ns)
    lane = Lane("cpu", (), host.store, host.clock, executor, sensors, host.clock.boot())
    world: Any = SimpleNamespace(runner_hash="runner")
    session: Any = None
    lane.open = OpenSession(1, "uuid", host.home.root, session, engine_need(runs[0], lane, world), {}, None, True)
    return lane, runs


@pytest.mark.parametrize("backend", ["replay", "pytorch", "vllm"])
def test_an_engine_is_known_by_its_resolved_parameters(tmp_path: Path, backend: str) -> None:
    host = Host(tmp_path)
    lane, runs = lane_and_runs(host, backend)
    document = runs[0].campaign.document
    found = {
        (run.spec["workload"]["load"]["batch_size"], run.spec["engine"].get("dtype")): lane.has_open(
            run.spec, resolved(run.spec, document).engine
        )
        for run in runs
    }
    first = runs[0].spec["engine"].get("dtype")
    assert {dtype for (_, dtype), is_open in found.items() if is_open} == {first}
    assert len(found) == 4
    host.store.close()


def test_requests_one_by_one_and_batches_have_vllm_engines_of_their_own(tmp_path: Path) -> None:
    host = Host(tmp_path)
    lane, runs = lane_and_runs(host, "vllm")
    (spec, *_) = (run.spec for run in runs)
    load = {**spec["workload"]["load"], "mode": "closed", "concurrency": 2}
    served = {**spec, "workload": {**spec["workload"], "load": load}}
    engine = resolved(spec, runs[0].campaign.document).engine
    assert lane.has_open(spec, engine)
    assert not lane.has_open(served, engine)
    keys = {engine_parts(one, engine, {}, "runner", ())[0] for one in (spec, served)}
    assert len(keys) == 2
    host.store.close()


def test_no_loading_is_expected_where_the_engine_stays_and_one_where_it_goes(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.add("")
    host.until(lambda: host.campaign().status.kind == "Finished", "a history")
    lane, (run, *_) = lane_and_runs(host, "replay", "isolation: engine")
    with host.store.transaction() as tx:
        kept = expected_s(tx, run.campaign, run, lane)
        anew = expected_s(tx, run.campaign, run, None)
    assert kept.p90_s < anew.p90_s
    host.store.close()
