"""One attempt, after the `go`: warm-up, window, result. Nothing is written during the window but `alive`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lem_runner import load, records, serving, workload
from lem_runner.admission import check_engine
from lem_runner.backends import ConcurrentEngine, Decoding, Engine
from lem_runner.events import EventLog
from lem_runner.progress import Progress
from lem_runner.prompts import Prompt
from lem_runner.protocol import CONTRACT_VERSION, RunSpec, begin_file, steady_file
from lem_runner.records import BatchOutcome, Outcome
from lem_runner.results import AttemptResult, WindowRecord, counted_inside, requests_file, result_file

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
    trace_s: Sequence[float] = ()

    @property
    def decoding(self) -> Decoding:
        """How tokens are made in this attempt."""
        work = self.spec.workload
        return Decoding(work.max_new_tokens, work.output, self.spec.sampling)

    def admit(self) -> None:
        """Raise where this engine cannot do the work. Nothing is measured yet."""
        check_engine(self.spec.workload, self.spec.measure, self.engine)
        if isinstance(self.engine, ConcurrentEngine):
            self.engine.expect(load.is_one_by_one(self.spec.workload))
        self.engine.admit(self.prompts, self.decoding)

    def drop(self) -> None:
        """It will not go; there is nothing to undo."""

    def run(self, folder: Path) -> None:
        """From `go` to the `result` event. Raises `Stopped`, or whatever the engine raised."""
        self.progress.enter("warmup")
        warm = self._warm_up(folder / steady_file(self.name))
        self.log.emit("warm", warm, self.name)
        if self.spec.replica is not None:
            self.progress.enter("waiting")
            self._await_others(folder / begin_file(self.name))
        self.progress.enter("window")
        outcome = self._serve() if load.is_one_by_one(self.spec.workload) else self._window()
        self.log.emit("window_end", window_end(outcome.window), self.name)
        self.progress.enter("writing")
        self._leave_result(folder, outcome, warm)

    def _warm_up(self, released: Path) -> dict[str, Any]:
        warmup = self.spec.measure.warmup
        batch_s: list[float] = []
        schedule = self._warmup_batches(batch_s)
        begin_ns = time.monotonic_ns()
        while (ended := workload.warmup_end(warmup, batch_s, not warmup.await_device or released.exists())) is None:
            t_submit_ns = time.monotonic_ns()
            self._warm(list(next(schedule)), len(batch_s))
            self.engine.sync()
            batch_s.append((time.monotonic_ns() - t_submit_ns) / 1e9)
        duration_s = (time.monotonic_ns() - begin_ns) / 1e9
        return {"batches": len(batch_s), "duration_s": duration_s, "ended": ended, "batch_s": batch_s}

    def _await_others(self, told: Path) -> None:
        """Until the moment that all replicas were told: written when the last of them is warm."""
        while not told.exists():
            self._stop_if_asked()
            time.sleep(0.002)
        time.sleep(max(0.0, (int(told.read_bytes()) - time.monotonic_ns()) / 1e9))

    def _warmup_batches(self, batch_s: Sequence[float]) -> Iterator[Iterable[int]]:
        """Batches of the window's shape; of a load without batches, as many requests as it keeps in flight."""
        work = self.spec.workload
        if not load.is_one_by_one(work):
            yield from workload.dealt(workload.endless(self._lengths(), work, self.spec.seed), self.spec.replica)
            return
        limit, rate_per_s = self._concurrent.batch_limit(), load.mean_rate_per_s(work, self.trace_s)
        positions = itertools.cycle(range(len(self.prompts)))
        while True:
            size = load.warmup_size(work, limit, rate_per_s, batch_s)
            yield list(itertools.islice(positions, size))

    def _warm(self, positions: Sequence[int], number: int) -> None:
        """One batch, by the path that the window takes: an engine's own batching may have to start up too."""
        if load.is_one_by_one(self.spec.workload):
            prompts = [self.prompts[position] for position in positions]
            self._hand_over(load.all_at_once(len(prompts)), prompts, self.spec.seed + number)
        else:
            self._batch(positions, number)

    def _hand_over(self, wanted: load.Load, prompts: Sequence[Prompt], seed: int) -> list[serving.Served]:
        on_ended, stop = (lambda made: self.progress.add_batch(len(made.tokens))), self._stop_if_asked
        return serving.serve(self._concurrent, wanted, prompts, self.decoding, seed, on_ended, stop)

    def _window(self) -> Outcome:
        window_ns = None if self.spec.measure.window_s is None else int(self.spec.measure.window_s * 1e9)
        whole = workload.schedule(self._lengths(), self.spec.workload, self.spec.measure, self.spec.seed)
        schedule = workload.dealt(whole, self.spec.replica)
        batches: list[BatchOutcome] = []
        t_begin_ns = self._begin_window()
        for positions in schedule:
            batches.append(self._batch(positions, len(batches)))
            if window_ns is not None and time.monotonic_ns() - t_begin_ns >= window_ns:
                break
        self.engine.sync()
        window = records.window_record(WINDOW, t_begin_ns, time.monotonic_ns(), batches)
        gauges = self._end_window(window.requests)
        return Outcome(window, records.request_records(WINDOW, batches), gauges)

    def _serve(self) -> Outcome:
        """A load that hands requests over one by one; which part of it is the window is known when it is over."""
        limit, t_begin_ns = self._concurrent.batch_limit(), self._begin_window()
        served_load = load.make_load(self.spec.workload, self.spec.measure, limit, self.trace_s, t_begin_ns)
        served = self._hand_over(served_load, self.prompts, self.spec.seed)
        self.engine.sync()
        gauges = self._end_window(len(served))
        span = served_load.span([one.ended for one in served])
        requests = serving.request_records(WINDOW, served)
        ended, tokens_in, tokens_out = counted_inside(requests, span.t_begin_ns, span.t_end_ns)
        window = WindowRecord(WINDOW, span.t_begin_ns, span.t_end_ns, ended, ended, tokens_in, tokens_out)
        return Outcome(window, requests, gauges, "by_token_time", span.facts)

    @property
    def _concurrent(self) -> ConcurrentEngine:
        assert isinstance(self.engine, ConcurrentEngine), "admission.check_engine sees to it"
        return self.engine

    def _begin_window(self) -> int:
        self.engine.forget_prompts()
        self.engine.sync()
        self.engine.gauges()
        t_begin_ns = time.monotonic_ns()
        self.log.emit("window_begin", {"window": WINDOW, "t_ns": t_begin_ns}, self.name)
        return t_begin_ns

    def _end_window(self, requests: int) -> dict[str, float | None]:
        note = workload.repeat_note(requests, len(self.prompts))
        if note is not None:
            self.notes.append(note)
        gauges: dict[str, float | None] = records.plain(self.engine.gauges())
        return gauges

    def _stop_if_asked(self) -> None:
        if self.is_stopped():
            raise Stopped

    def _batch(self, positions: Iterable[int], number: int) -> BatchOutcome:
        self._stop_if_asked()
        prompts = [self.prompts[position] for position in positions]
        seed = self.spec.seed + workload.place(number, self.spec.replica)
        t_submit_ns = time.monotonic_ns()
        generated = self.engine.generate(prompts, self.decoding, seed)
        self.progress.add_batch(sum(len(made.tokens) for made in generated))
        return BatchOutcome(prompts, t_submit_ns, generated)

    def _leave_result(self, folder: Path, outcome: Outcome, warm: dict[str, Any]) -> None:
        """Requests first, then the result: its presence is the success."""
        memory = records.plain(self.engine.memory())
        effective = records.plain(self.engine.effective())
        self._stop_if_asked()
        leave_result(
            folder, self.name, self.spec.engine_key, outcome, memory=memory, effective=effective, warm=warm,
            notes=self.notes, log=self.log,
        )  # fmt: skip

    def _lengths(self) -> list[int]:
        return [len(prompt.ids) for prompt in self.prompts]


def leave_result(
    folder: Path,
    attempt: str,
    engine_key: str,
    outcome: Outcome,
    *,
    memory: dict[str, Any],
    effective: dict[str, Any],
    warm: dict[str, Any],
    notes: list[str],
    log: EventLog,
) -> None:
    """Requests first, then the result: its presence is the success."""
    lines = b"".join(record.encode() for record in outcome.requests)
    requests_sha256 = records.publish(folder / requests_file(attempt), lines)
    result = AttemptResult(
        contract=CONTRACT_VERSION,
        attempt=attempt,
        engine_key=engine_key,
        windows=[outcome.window],
        requests=len(outcome.requests),
        requests_sha256=requests_sha256,
        effective=effective,
        memory=memory,
        warmup=warm,
        notes=notes,
        gauges=outcome.gauges,
        counting=outcome.counting,
        load=outcome.load,
    )
    content = json.dumps(result.to_json(), separators=(",", ":"), allow_nan=False).encode() + b"\n"
    sha256 = records.publish(folder / result_file(attempt), content)
    data = {
        "file": result_file(attempt),
        "sha256": sha256,
        "requests_file": requests_file(attempt),
        "requests_sha256": requests_sha256,
        "requests": len(outcome.requests),
    }
    log.emit("result", data, attempt)


def window_end(window: WindowRecord) -> dict[str, Any]:
    """The data of the event."""
    return {
        "window": window.window,
        "t_ns": window.t_end_ns,
        "batches": window.batches,
        "requests": window.requests,
        "tokens_in": window.tokens_in,
        "tokens_out": window.tokens_out,
    }
