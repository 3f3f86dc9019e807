"""Power and temperature around every measured window, thinned out so that a page of a thousand windows stays small."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lemctl.paths import Home
from lemctl.steps import Step, Tell, counted, unheard
from lemctl.store.database import Store
from lemctl.store.read_traces import Bucket, MeasuredAttempt, device_rows, thinned_power

#: Buckets of one trace: as many as a plot can show where there are few traces, fewer where there are many.
MOST_BUCKETS, LEAST_BUCKETS, ALL_BUCKETS = 300, 40, 110_000
#: From so many traces on they are read by processes side by side: SQLite's threads wait for each other's memory.
MANY, MOST_READERS = 100, 4
#: Shares of a reader: after each it is known how far it is.
SHARES = 4
READING = "reading samples"
NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Trace:
    """One GPU through one attempt. Times in the buckets, phases and windows are monotonic ns."""

    attempt: MeasuredAttempt
    gpu: str
    buckets: Sequence[Bucket]

    def seconds(self, t_ns: int) -> float:
        """Since the attempt began."""
        return (t_ns - self.attempt.begin_ns) / NS_PER_S

    @property
    def phases(self) -> list[tuple[str, float, float]]:
        """(phase, begin, end) in seconds since the attempt began."""
        timeline = self.attempt.timeline
        edges = [self.seconds(t_ns) for _, t_ns in timeline] + [self.seconds(self.attempt.end_ns)]
        return [(name, edges[i], edges[i + 1]) for i, (name, _) in enumerate(timeline) if edges[i + 1] > edges[i]]

    @property
    def windows(self) -> list[tuple[float, float]]:
        """The measured windows in seconds since the attempt began."""
        return [(self.seconds(begin_ns), self.seconds(end_ns)) for begin_ns, end_ns in self.attempt.windows]


def read_traces(
    store: Store, attempts: Sequence[MeasuredAttempt], buckets: int | None = None, tell: Tell = unheard
) -> list[Trace]:
    """The traces of the attempts that have samples, in their order, one for each of their GPUs."""
    devices = device_rows(store.connection)
    wanted = [(attempt, gpu) for attempt in attempts for gpu in attempt.gpus or devices if gpu in devices]
    if not wanted:
        return []
    count = buckets or max(LEAST_BUCKETS, min(MOST_BUCKETS, ALL_BUCKETS // len(wanted)))
    series = [Series(devices[gpu], attempt.boot_id, _spans(attempt, count)) for attempt, gpu in wanted]
    readers = min(MOST_READERS, len(os.sched_getaffinity(0))) if len(series) >= MANY else 1
    found = _read(store, series, tell) if readers == 1 else _read_side_by_side(store.home, series, readers, tell)
    return [Trace(attempt, gpu, buckets) for (attempt, gpu), buckets in zip(wanted, found, strict=True) if buckets]


class Series(NamedTuple):
    """What is read for a trace: a device's row, the boot, and (begin ns, end ns, buckets) of stretches of time."""

    device: int
    boot_id: str
    spans: Sequence[tuple[int, int, int]]


def _read(store: Store, series: Sequence[Series], tell: Tell = unheard) -> list[list[Bucket]]:
    return [
        [
            bucket
            for begin_ns, end_ns, count in one.spans
            for bucket in thinned_power(store.connection, one.device, one.boot_id, begin_ns, end_ns, count)
        ]
        for one in counted(series, tell, READING, "traces", len(series))
    ]


def _read_side_by_side(home: Home, series: Sequence[Series], readers: int, tell: Tell) -> list[list[Bucket]]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Spawned, not forked: a database is not carried into another process.
    with ProcessPoolExecutor(readers, mp_context=get_context("spawn")) as pool:
        count = readers * SHARES
        shares = [series[start::count] for start in range(count)]
        parts: list[list[list[Bucket]]] = []
        for part in pool.map(_read_of, [home] * count, shares):
            parts.append(part)
            tell(Step(READING, sum(map(len, parts)), len(series), "traces"))
    return [parts[place % count][place // count] for place in range(len(series))]


def _read_of(home: Home, series: Sequence[Series]) -> list[list[Bucket]]:
    with Store.open(home) as store:
        return _read(store, series)


def even_traces(store: Store, attempt: MeasuredAttempt, columns: int) -> list[Trace]:
    """The traces of one attempt in stretches of equal length, one for each of its GPUs that has samples."""
    devices = device_rows(store.connection)
    gpus = [gpu for gpu in attempt.gpus or devices if gpu in devices]
    span = (attempt.begin_ns, attempt.end_ns, columns)
    found = _read(store, [Series(devices[gpu], attempt.boot_id, [span]) for gpu in gpus])
    return [Trace(attempt, gpu, buckets) for gpu, buckets in zip(gpus, found, strict=True) if buckets]


def _spans(attempt: MeasuredAttempt, count: int) -> list[tuple[int, int, int]]:
    """Half of the buckets are the windows', the rest is shared by what was before and after."""
    if not attempt.windows:
        return [(attempt.begin_ns, attempt.end_ns, count)]
    first_ns, last_ns = attempt.windows[0][0], attempt.windows[-1][1]
    outside = [(attempt.begin_ns, first_ns), (last_ns, attempt.end_ns)]
    total_ns = sum(max(0, end_ns - begin_ns) for begin_ns, end_ns in outside) or 1
    before, after = (max(1, count // 2 * max(0, end_ns - begin_ns) // total_ns) for begin_ns, end_ns in outside)
    spans = [(*outside[0], before), (first_ns, last_ns, count - count // 2), (*outside[1], after)]
    return [(begin_ns, end_ns, share) for begin_ns, end_ns, share in spans if end_ns > begin_ns]
