"""One attempt on several replicas: begun together, aggregated late.

Each replica warms up and measures by itself, with batches of the one schedule that were dealt to it, and writes its own
records. The window is from the first begin to the last end: one that has ended waits for the others, and its idle
energy counts.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lem_runner import records
from lem_runner.attempt import WINDOW, Stopped, leave_result, window_end
from lem_runner.events import EventLog
from lem_runner.progress import Progress
from lem_runner.protocol import Event, EventType, RunSpec, begin_file, steady_file
from lem_runner.records import Outcome
from lem_runner.replicas import Replicas, torn, total_memory
from lem_runner.results import AttemptResult, RequestRecord, WindowRecord, requests_file, result_file

#: The common begin lies so far ahead when it is told, in seconds: far more than a look at a file takes.
BEGIN_AHEAD_S = 0.1


@dataclass
class ReplicatedAttempt:
    """A piece of work that every replica has its share of, and could begin."""

    name: str
    spec: RunSpec
    engine: Replicas
    log: EventLog
    progress: Progress
    is_stopped: Callable[[], bool]
    notes: list[str] = field(default_factory=list)
    _counts: dict[int, tuple[int, int]] = field(default_factory=dict)

    def admit(self) -> None:
        """Hand it to the replicas; raises what one of them told."""
        self.engine.run(self.name, self.spec)

    def drop(self) -> None:
        """It will not go."""
        self.engine.cancel(self.name)

    def run(self, folder: Path) -> None:
        """From `go` to the `result` event."""
        self.progress.enter("warmup")
        self.engine.send("go", self.name)
        warm = _warm([event.data for event in self._gather("warm", folder)])
        self.log.emit("warm", warm, self.name)
        self._begin_together()
        self.progress.enter("window")
        begins = self._gather("window_begin", folder)
        t_begin_ns = min(event.data["t_ns"] for event in begins)
        self.log.emit("window_begin", {"window": WINDOW, "t_ns": t_begin_ns}, self.name)
        self._gather("window_end", folder)
        self._gather("result", folder)
        self.progress.enter("writing")
        written = [self._read(one) for one in self.engine.folders()]
        results = [result for result, _ in written]
        outcome = _outcome(results, [requests for _, requests in written])
        self.log.emit("window_end", window_end(outcome.window), self.name)
        self._leave(folder, outcome, results, warm)

    def _gather(self, kind: EventType, folder: Path) -> list[Event]:
        def look(came: list[tuple[int, Event]]) -> None:
            self._release_when_steady(folder)
            self._count(came)
            if self.is_stopped():
                self.engine.cancel(self.name)
                raise Stopped

        return self.engine.gather(self.name, kind, look)

    def _release_when_steady(self, folder: Path) -> None:
        """The controller, which sees the sensors, lets all of them out of the warm-up."""
        if (folder / steady_file(self.name)).exists():
            for one in self.engine.folders():
                (one / steady_file(self.name)).touch()

    def _begin_together(self) -> None:
        t_ns = time.monotonic_ns() + round(BEGIN_AHEAD_S * 1e9)
        for one in self.engine.folders():
            records.publish(one / begin_file(self.name), b"%d\n" % t_ns)

    def _count(self, came: Iterable[tuple[int, Event]]) -> None:
        for index, event in came:
            if event.type == "alive" and event.attempt == self.name:
                self._counts[index] = event.data["batches"], event.data["tokens_out"]
        counts = self._counts.values()
        self.progress.count(sum(batches for batches, _ in counts), sum(tokens for _, tokens in counts))

    def _read(self, folder: Path) -> tuple[AttemptResult, list[RequestRecord]]:
        """What one has written."""
        try:
            result = AttemptResult.from_json(json.loads((folder / result_file(self.name)).read_bytes()))
            lines = (folder / requests_file(self.name)).read_bytes().splitlines()
            return result, [RequestRecord.decode(line) for line in lines]
        except (OSError, ValueError) as error:
            raise torn(folder.name, error) from error

    def _leave(self, folder: Path, outcome: Outcome, results: list[AttemptResult], warm: dict[str, Any]) -> None:
        said = {f"replica {index}: {note}": None for index, result in enumerate(results) for note in result.notes}
        leave_result(
            folder,
            self.name,
            self.spec.engine_key,
            outcome,
            memory=total_memory([result.memory for result in results]),
            effective=self.engine.effective(),
            warm=warm,
            notes=[*self.notes, *said],
            log=self.log,
        )


def _outcome(results: list[AttemptResult], requests: list[list[RequestRecord]]) -> Outcome:
    windows = [result.windows[0] for result in results]
    window = WindowRecord(
        window=WINDOW,
        t_begin_ns=min(one.t_begin_ns for one in windows),
        t_end_ns=max(one.t_end_ns for one in windows),
        batches=sum(one.batches for one in windows),
        requests=sum(one.requests for one in windows),
        tokens_in=sum(one.tokens_in for one in windows),
        tokens_out=sum(one.tokens_out for one in windows),
    )
    return Outcome(window, merged(requests), _mean_gauges([result.gauges for result in results]))


def merged(parts: list[list[RequestRecord]]) -> list[RequestRecord]:
    """The records of all replicas as one schedule's: batches by their place in it, numbered anew."""
    of = len(parts)
    dealt = [
        replace(record, batch=index + of * record.batch, replica=index)
        for index, part in enumerate(parts)
        for record in part
    ]
    dealt.sort(key=lambda record: (record.batch, record.index))
    return [replace(record, index=place) for place, record in enumerate(dealt)]


def _warm(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One warm-up of all: the longest, capped where one was."""
    ended = {part["ended"] for part in parts}
    return {
        "batches": sum(part["batches"] for part in parts),
        "duration_s": max(part["duration_s"] for part in parts),
        "ended": "capped" if "capped" in ended else parts[0]["ended"],
        "batch_s": parts[0]["batch_s"],
    }


def _mean_gauges(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in parts[0]:
        known = [value for value in (part.get(name) for part in parts) if value is not None]
        means[name] = statistics.fmean(known) if len(known) == len(parts) else None
    return means
