"""What an engine is told around a window: to forget earlier prompts between warm-up and measuring."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lem_runner.attempt import Attempt
from lem_runner.backends import Decoding, Engine, Generated
from lem_runner.events import EventLog
from lem_runner.progress import Progress
from lem_runner.prompts import Prompt, ids_sha256
from lem_runner.protocol import MeasureSpec, ModelRef, RunSpec, Warmup, WorkloadSpec
from lem_runner.results import RequestRecord, requests_file


class Noted(Engine):
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def load(self, spec: RunSpec) -> None:
        """Nothing to load."""

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        self.asked.append("generate")
        now_ns = time.monotonic_ns()
        return [Generated([7, 8], None, now_ns, None, "length", cached_tokens=1) for _ in prompts]

    def forget_prompts(self) -> None:
        self.asked.append("forget")

    def sync(self) -> None:
        self.asked.append("sync")

    def gauges(self) -> dict[str, float | None]:
        self.asked.append("gauges")
        return {}


def test_prompts_are_forgotten_between_warm_up_and_window_and_outputs_are_kept(tmp_path: Path) -> None:
    work: dict[str, Any] = {"prompts_path": "", "prompts_sha256": "", "prompts": 1, "max_new_tokens": 2}
    spec = RunSpec(
        backend="noted", engine_key="key", model=ModelRef("random", "shape"), engine={}, sampling={},
        workload=WorkloadSpec(**work, output="fixed", mode="offline", batch_size=1),
        measure=MeasureSpec(None, Warmup("one_batch")),
    )  # fmt: skip
    engine, prompt = Noted(), Prompt(0, None, [1, 2], ids_sha256([1, 2]))
    Attempt("a1", spec, [prompt], engine, EventLog(tmp_path), Progress(), lambda: False).run(tmp_path)
    measured = engine.asked.index("forget")
    assert engine.asked[:measured].count("generate") == 1, "the warm-up comes first"
    assert engine.asked[measured:] == ["forget", "sync", "gauges", "generate", "sync", "gauges"]
    (line,) = (tmp_path / requests_file("a1")).read_bytes().splitlines()
    record = RequestRecord.decode(line)
    assert (record.output_ids, record.cached_tokens) == ([7, 8], 1)
    assert record.output_sha256 == ids_sha256([7, 8])
