"""Many traces are read by processes side by side: the same as one reader gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.paths import Home, data_folder
from lemctl.report import traces
from lemctl.simulate import run_campaign
from lemctl.store.database import Store
from lemctl.store.queries import find_campaign
from lemctl.store.read_traces import measured_attempts

CAMPAIGN = """
name: evening
model: "random:{vocab_size: 1000}"
preset: benchmark
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 32}
sweep: {workload.load.batch_size: [1, 4, 16]}
cycles: 2
backend: replay
"""


def test_processes_read_what_one_reader_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    made = plan(loads(CAMPAIGN, catalogue_dir=data_folder() / "images"))
    assert run_campaign(made, CAMPAIGN, home, seed=4, sample_s=1.0) == 0
    with Store.open(home) as store:
        attempts = measured_attempts(store.connection, find_campaign(store.connection, None).id)
        alone = traces.read_traces(store, attempts)
        assert len(alone) == len(attempts) == 6
        assert all(len(trace.buckets) > 20 for trace in alone)
        monkeypatch.setattr(traces, "MANY", 1)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
        asked = []
        side_by_side = traces._read_side_by_side
        monkeypatch.setattr(traces, "_read_side_by_side", lambda *args: asked.append(args[2]) or side_by_side(*args))
        assert traces.read_traces(store, attempts) == alone
        assert asked == [4]
