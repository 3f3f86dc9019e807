"""When the next request is due, and which part of a load is measured. Time is an argument: no clock and no engine here.

For engines that take requests one by one (`backends.ConcurrentEngine`); batches are in `workload.py`.
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lem_runner.failures import BadRequestError
from lem_runner.protocol import CLOSED_FILLINGS, CONTINUOUS_FILLINGS, SETTLE_P95, MeasureSpec, WorkloadSpec

OPEN_MODES = ("poisson", "gamma", "trace")
#: Arrivals end after so many windows, settled or not: where latency grows with time, waiting does not help.
MOST_WINDOWS = 3.0
#: Arrivals go on for so much longer than settling seems to take: those that are last may have the longest latencies.
SETTLE_MARGIN = 1.2


def is_one_by_one(work: WorkloadSpec) -> bool:
    """Whether requests are handed over singly: every load but batches that end before the next begins."""
    return work.mode != "offline" or work.batching == "continuous"


def in_flight_of(work: WorkloadSpec) -> int:
    """How many requests a load without arrivals of its own keeps in flight."""
    if work.mode == "closed":
        assert work.concurrency is not None
        return work.concurrency
    return work.batch_size


def fillings_of(work: WorkloadSpec) -> int:
    """How often what is in flight must be replaced, in one window."""
    return CLOSED_FILLINGS if work.mode == "closed" else CONTINUOUS_FILLINGS


def arrivals_s(work: WorkloadSpec, trace_s: Sequence[float]) -> Iterator[float]:
    """Seconds after the first arrival, ascending: without end where they are drawn, `trace_s` where recorded."""
    if work.mode == "trace":
        return iter(trace_s)
    assert work.rate_per_s is not None
    shape, mean_s = work.burstiness if work.mode == "gamma" else 1.0, 1.0 / work.rate_per_s
    assert shape is not None
    draw = random.Random(work.arrival_seed)  # noqa: S311 - repeatable, not secret
    return itertools.accumulate((draw.gammavariate(shape, mean_s / shape) for _ in itertools.count()), initial=0.0)


def mean_rate_per_s(work: WorkloadSpec, trace_s: Sequence[float]) -> float:
    """Mean arrivals a second of an open loop."""
    if work.rate_per_s is not None:
        return work.rate_per_s
    span_s = trace_s[-1] - trace_s[0] if trace_s else 0.0
    return (len(trace_s) - 1) / span_s if span_s > 0 else float(len(trace_s))


def warmup_size(work: WorkloadSpec, limit: int, rate_per_s: float, batch_s: Sequence[float]) -> int:
    """Requests in the next batch of the warm-up, `limit` at most.

    As many as the load keeps in flight; in an open loop those that arrive while the last batch took (Little's law).
    """
    arriving = round(rate_per_s * batch_s[-1]) if batch_s else 1
    wanted = arriving if work.mode in OPEN_MODES else in_flight_of(work)
    return max(1, min(wanted, limit, work.prompts))


@dataclass(frozen=True)
class Ended:
    """One request that is over; `t_due_ns` None where the load waits for others to end."""

    t_due_ns: int | None
    t_submit_ns: int
    t_first_ns: int | None
    t_end_ns: int


@dataclass(frozen=True)
class Span:
    """The measured part of a load. `facts`: what decided its edges, in words of JSON."""

    t_begin_ns: int
    t_end_ns: int
    facts: dict[str, Any]


class Load(Protocol):
    """One load while it is served."""

    def due_ns(self, now_ns: int, in_flight: int) -> int | None:
        """When the next request is due, `now_ns` or earlier for at once; None: not before another ends, or never."""
        ...

    def is_scheduled(self) -> bool:
        """Whether arrivals keep to moments of their own, whatever the engine does."""
        ...

    def submitted(self) -> None:
        """The request that was due has been handed over."""
        ...

    def ended(self, request: Ended) -> None:
        """A request is over."""
        ...

    def span(self, served: Sequence[Ended]) -> Span:
        """The measured part, when all are over. `BadRequestError` where there is none."""
        ...


@dataclass
class Steady:
    """Keeps `in_flight` requests with the engine; `target` of them is what the engine works on at most.

    Ends after `total` requests, or (None) when, since the ramp, `window_ns` have passed and `least` have ended.
    """

    in_flight: int
    target: int
    least: int
    window_ns: int
    total: int | None
    _submitted: int = 0
    _first_ns: list[int] = field(default_factory=list)

    def due_ns(self, now_ns: int, in_flight: int) -> int | None:
        """At once, where there is room."""
        return None if in_flight >= self.in_flight or self._is_over(now_ns) else now_ns

    def is_scheduled(self) -> bool:
        """It waits for the engine."""
        return False

    def submitted(self) -> None:
        """One more in flight."""
        self._submitted += 1

    def ended(self, request: Ended) -> None:
        """Its first token tells how far the ramp has come."""
        insort(self._first_ns, _begun_ns(request))

    def span(self, served: Sequence[Ended]) -> Span:
        """From the moment when `target` requests had begun until fewer than `target` were left."""
        begun_ns = sorted(map(_begun_ns, served))
        ends_ns = sorted(request.t_end_ns for request in served)
        if len(served) < 2 * self.target or begun_ns[self.target - 1] >= ends_ns[-self.target]:
            raise BadRequestError(
                f"{len(served)} requests with {self.target} at a time leave nothing between ramp and drain: more "
                "prompts or a longer window are needed"
            )
        first_ns = min(request.t_submit_ns for request in served)
        begin_ns, end_ns = begun_ns[self.target - 1], ends_ns[-self.target]
        facts = {
            "in_flight": self.in_flight,
            "worked_on": self.target,
            "ramp_s": (begin_ns - first_ns) / 1e9,
            "drain_s": (ends_ns[-1] - end_ns) / 1e9,
        }
        return Span(begin_ns, end_ns, facts)

    def _is_over(self, now_ns: int) -> bool:
        if self.total is not None:
            return self._submitted >= self.total
        if len(self._first_ns) < self.target:
            return False
        ramp_ns = self._first_ns[self.target - 1]
        return now_ns - ramp_ns >= self.window_ns and len(self._first_ns) - self.target >= self.least


@dataclass
class Open:
    """Arrivals at moments of their own, `begin_ns` and later, whether the engine keeps up or not.

    Ends with them, or (`window_ns`) when a window of that length lies behind the settling.
    """

    begin_ns: int
    offsets_s: Iterator[float]
    window_ns: int | None
    _next_ns: int | None = None
    _first_ns: int | None = None
    _last_ns: int | None = None
    _latencies_ns: list[int] = field(default_factory=list)
    _is_over: bool = False

    def __post_init__(self) -> None:
        self._advance()

    def due_ns(self, now_ns: int, in_flight: int) -> int | None:  # noqa: ARG002 - that is what makes it open
        """The next moment, however long it has passed."""
        self._is_over = self._is_over or self._is_long_enough()
        return None if self._is_over else self._next_ns

    def is_scheduled(self) -> bool:
        """It never waits for the engine."""
        return True

    def submitted(self) -> None:
        """On to the next arrival."""
        self._first_ns = self._next_ns if self._first_ns is None else self._first_ns
        self._last_ns = self._next_ns
        self._advance()

    def ended(self, request: Ended) -> None:
        """Its latency tells how long settling takes."""
        insort(self._latencies_ns, _latency_ns(request))

    def span(self, served: Sequence[Ended]) -> Span:
        """From 3 x the 95th percentile of latency after the first arrival to the last arrival.

        Where that leaves less than the window asked for (half of all, where every prompt is sent once) the window
        begins earlier and is not settled.
        """
        if self._first_ns is None or self._last_ns is None or self._last_ns == self._first_ns:
            raise BadRequestError(f"{len(served)} arrivals make no window: more prompts or a higher rate are needed")
        span_ns = self._last_ns - self._first_ns
        p95_ns = percentile_95(sorted(map(_latency_ns, served)))
        settle_ns = round(SETTLE_P95 * p95_ns)
        room_ns = span_ns - min(span_ns, self.window_ns) if self.window_ns is not None else span_ns // 2
        facts = {
            "latency_p95_s": p95_ns / 1e9,
            "settling_s": min(settle_ns, room_ns) / 1e9,
            "settled": settle_ns <= room_ns,
        }
        return Span(self._first_ns + min(settle_ns, room_ns), self._last_ns, facts)

    def _advance(self) -> None:
        offset_s = next(self.offsets_s, None)
        self._next_ns = None if offset_s is None else self.begin_ns + round(offset_s * 1e9)

    def _is_long_enough(self) -> bool:
        """Whether the last arrival ends a window; looked at with the latencies that are known by then."""
        if self.window_ns is None or self._first_ns is None or self._last_ns is None:
            return False
        elapsed_ns = self._last_ns - self._first_ns
        if elapsed_ns >= MOST_WINDOWS * self.window_ns:
            return True
        p95_ns = percentile_95(self._latencies_ns) if self._latencies_ns else math.inf
        return elapsed_ns >= self.window_ns + SETTLE_MARGIN * SETTLE_P95 * p95_ns


def make_load(
    work: WorkloadSpec, measure: MeasureSpec, batch_limit: int, trace_s: Sequence[float], begin_ns: int
) -> Load:
    """The load of a window; with `window_s` None every prompt is sent exactly once."""
    window_ns = None if measure.window_s is None else round(measure.window_s * 1e9)
    if work.mode in OPEN_MODES:
        offsets_s = arrivals_s(work, trace_s)
        once = itertools.islice(offsets_s, work.prompts) if window_ns is None else offsets_s
        return Open(begin_ns, once, window_ns)
    in_flight = in_flight_of(work)
    target = min(in_flight, batch_limit)
    least = fillings_of(work) * target
    return Steady(in_flight, target, least, window_ns or 0, work.prompts if window_ns is None else None)


def all_at_once(count: int) -> Load:
    """A batch: so many requests, all in flight from the start."""
    return Steady(count, count, 0, 0, count)


def percentile_95(ascending: Sequence[int]) -> int:
    """The nearest-rank 95th percentile of sorted values."""
    return ascending[math.ceil(0.95 * len(ascending)) - 1]


def _begun_ns(request: Ended) -> int:
    """When the engine had begun with it; one that failed before its first token had by its end."""
    return request.t_end_ns if request.t_first_ns is None else request.t_first_ns


def _latency_ns(request: Ended) -> int:
    """From the moment it was due: what a late submission costs is not the engine's gain."""
    return request.t_end_ns - (request.t_submit_ns if request.t_due_ns is None else request.t_due_ns)
