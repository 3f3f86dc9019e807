"""One attempt, after the `go`: warm-up, window, result. Nothing is written during the window but `alive`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lem_runner import records, workload
from lem_runner.backends import Decoding, Engine
from lem_runner.events import EventLog
from lem_runner.progress import Progress
from lem_runner.protocol import (
    CONTRACT_VERSION,
    AttemptResult,
    Prompt,
    RunSpec,
    WindowRecord,
    requests_file,
    result_file,
    steady_file,
)
from lem_runner.records import BatchOutcome

#: One window per attempt; the files allow more.
WINDOW = 0


class Stopped(Exception):
    """The attempt was cancelled, or the runner told to end, at a batch boundary."""


@dataclass
class Attempt:
    """A prepared piece of work on a loaded engine."""

    name: str
    spec: RunSpec
    prompts: list[Prompt]
    engine: Engine
    log: EventLog
    progress: Progress
    is_stopped: Callable[[], bool]
    notes: list[str] = field(default_factory=list)
    gauges: dict[str, float | None] = field(default_factory=dict)

    @property
    def decoding(self) -> Decoding:
        """How tokens are made in this attempt."""
        work = self.spec.workload
        return Decoding(work.max_new_tokens, work.output, self.spec.sampling)

    def run(self, folder: Path) -> None:
        """From `go` to the `result` event. Raises `Stopped`, or whatever the engine raised."""
        self.progress.enter("warmup")
        warm = self._warm_up(folder / steady_file(self.name))
        self.log.emit("warm", warm, self.name)
        self.progress.enter("window")
        window, batches = self._window()
        self.log.emit("window_end", _window_end(window), self.name)
        self.progress.enter("writing")
        self._leave_result(folder, window, batches, warm)

    def _warm_up(self, released: Path) -> dict[str, Any]:
        warmup = self.spec.measure.warmup
        schedule = workload.endless(self._lengths(), self.spec.workload, self.spec.seed)
        batch_s: list[float] = []
        begin_ns = time.monotonic_ns()
        while (ended := workload.warmup_end(warmup, batch_s, not warmup.await_device or released.exists())) is None:
            batch = self._batch(next(schedule), len(batch_s))
            self.engine.sync()
            batch_s.append((time.monotonic_ns() - batch.t_submit_ns) / 1e9)
        duration_s = (time.monotonic_ns() - begin_ns) / 1e9
        return {"batches": len(batch_s), "duration_s": duration_s, "ended": ended, "batch_s": batch_s}

    def _window(self) -> tuple[WindowRecord, list[BatchOutcome]]:
        window_ns = None if self.spec.measure.window_s is None else int(self.spec.measure.window_s * 1e9)
        schedule = workload.schedule(self._lengths(), self.spec.workload, self.spec.measure, self.spec.seed)
        batches: list[BatchOutcome] = []
        self.engine.sync()
        self.engine.gauges()
        t_begin_ns = time.monotonic_ns()
        self.log.emit("window_begin", {"window": WINDOW, "t_ns": t_begin_ns}, self.name)
        for positions in schedule:
            batches.append(self._batch(positions, len(batches)))
            if window_ns is not None and time.monotonic_ns() - t_begin_ns >= window_ns:
                break
        self.engine.sync()
        t_end_ns = time.monotonic_ns()
        self.gauges = records.plain(self.engine.gauges())
        window = records.window_record(WINDOW, t_begin_ns, t_end_ns, batches)
        note = workload.repeat_note(window.requests, len(self.prompts))
        if note is not None:
            self.notes.append(note)
        return window, batches

    def _batch(self, positions: Iterable[int], number: int) -> BatchOutcome:
        if self.is_stopped():
            raise Stopped
        prompts = [self.prompts[position] for position in positions]
        t_submit_ns = time.monotonic_ns()
        generated = self.engine.generate(prompts, self.decoding, self.spec.seed + number)
        self.progress.add_batch(sum(len(made.tokens) for made in generated))
        return BatchOutcome(prompts, t_submit_ns, generated)

    def _leave_result(
        self, folder: Path, window: WindowRecord, batches: list[BatchOutcome], warm: dict[str, Any]
    ) -> None:
        """Requests first, then the result: its presence is the success."""
        memory = records.plain(self.engine.memory())
        effective = records.plain(self.engine.effective())
        requests = records.request_records(WINDOW, batches)
        if self.is_stopped():
            raise Stopped
        lines = b"".join(record.encode() for record in requests)
        requests_sha256 = records.publish(folder / requests_file(self.name), lines)
        result = AttemptResult(
            contract=CONTRACT_VERSION,
            attempt=self.name,
            engine_key=self.spec.engine_key,
            windows=[window],
            requests=len(requests),
            requests_sha256=requests_sha256,
            effective=effective,
            memory=memory,
            warmup=warm,
            notes=self.notes,
            gauges=self.gauges,
        )
        content = json.dumps(result.to_json(), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        sha256 = records.publish(folder / result_file(self.name), content)
        data = {
            "file": result_file(self.name),
            "sha256": sha256,
            "requests_file": requests_file(self.name),
            "requests_sha256": requests_sha256,
            "requests": len(requests),
        }
        self.log.emit("result", data, self.name)

    def _lengths(self) -> list[int]:
        return [len(prompt.ids) for prompt in self.prompts]


def _window_end(window: WindowRecord) -> dict[str, Any]:
    return {
        "window": window.window,
        "t_ns": window.t_end_ns,
        "batches": window.batches,
        "requests": window.requests,
        "tokens_in": window.tokens_in,
        "tokens_out": window.tokens_out,
    }
