"""Energy of a window from what the meters read: counter at the edges, integrated power, and both compared. Pure.

The counter is the headline. It ticks, so its value at an edge is interpolated between the ticks around it, and how well
those are known in time goes into the uncertainty. Both figures may come from one sensor: that they agree is no proof
of accuracy, and the sensor's own gain error is stated elsewhere, once.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lemctl.measure.readings import MJ_PER_J, NS_PER_S, CounterTick

#: A change seen between polls at most this far apart is timed by them, any other by its neighbours.
CLOSE_NS = round(0.03 * NS_PER_S)
#: Fewer gaps between neighbouring ticks, both seen closely, do not make a period known.
MIN_GAPS = 4


@dataclass(frozen=True, slots=True)
class TickTime:
    """When a counter changed, in monotonic ns, and the standard uncertainty of that."""

    t_ns: float
    u_ns: float


@dataclass(frozen=True, slots=True)
class NoEnergy:
    """There is no figure, and why.

    `fault` where there should be one: the counter fell (the driver was reloaded), does not move, or was not read in
    time. None where the hardware gives none.
    """

    reason: str
    fault: Literal["reset", "stopped", "unread"] | None = None


@dataclass(frozen=True, slots=True)
class CounterEnergy:
    """Energy between two times from the counter. `u_j` is the standard uncertainty of its two edges."""

    energy_j: float
    u_j: float
    ticks: int
    """Changes of the counter inside the window."""
    period_s: float | None
    """Median time between changes: the counter's own tick."""


@dataclass(frozen=True, slots=True)
class SeriesEnergy:
    """Energy between two times from the integrated power, and what the series lacked."""

    energy_j: float
    u_j: float
    samples: int
    unreadable: int
    """Readings of None or 0 W (no powered board draws that): left out of the integral, kept in the raw series."""
    longest_hole_s: float
    """The longest time without a usable reading, edges included."""
    period_s: float | None


def find_tick_period_s(ticks: Sequence[CounterTick]) -> float | None:
    """Median time between changes of the counter in s, None with fewer than two changes."""
    changes = _changes(ticks)
    gaps = [later.t_ns - earlier.t_ns for earlier, later in pairwise(time_changes(changes))]
    return statistics.median(gaps) / NS_PER_S if gaps else None


def energy_from_counter(ticks: Sequence[CounterTick], t_begin_ns: int, t_end_ns: int) -> CounterEnergy | NoEnergy:
    """Energy of [t_begin_ns, t_end_ns] in J, from ticks in order that reach beyond both edges."""
    if not ticks:
        return NoEnergy("the energy counter was never read", fault="unread")
    if any(later.energy_mj < earlier.energy_mj for earlier, later in pairwise(ticks)):
        return NoEnergy("the energy counter fell: the driver was reloaded", fault="reset")
    changes = _changes(ticks)
    if len(changes) < 2 < len(ticks):
        return NoEnergy("the energy counter does not move", fault="stopped")
    # A counter that stopped still shows its last value: that is its answer, and the integral will disagree with it.
    timed = time_changes(changes)
    if ticks[-1] is not changes[-1]:
        changes, timed = [*changes, ticks[-1]], [*timed, _own_time(ticks[-1])]
    begin, end = (_value_at(changes, timed, t_ns) for t_ns in (t_begin_ns, t_end_ns))
    if begin is None or end is None:
        return NoEnergy("the energy counter was not read beyond both edges of the window", fault="unread")
    times_ns = [time.t_ns for time in timed]
    inside = bisect_right(times_ns, t_end_ns) - bisect_right(times_ns, t_begin_ns)
    return CounterEnergy(
        energy_j=(end[0] - begin[0]) / MJ_PER_J,
        u_j=math.hypot(begin[1], end[1]) / MJ_PER_J,
        ticks=inside,
        period_s=find_tick_period_s(ticks),
    )


def _changes(ticks: Sequence[CounterTick]) -> list[CounterTick]:
    """The first tick and each that differs from the one before."""
    return [tick for index, tick in enumerate(ticks) if index == 0 or tick.energy_mj != ticks[index - 1].energy_mj]


def time_changes(changes: Sequence[CounterTick]) -> list[TickTime]:
    """When each change of the counter happened, the first of them being no change but the first reading.

    A change happened somewhere between two polls. One between polls far apart is timed by the closely seen ones around
    it instead: a counter keeps time, so n changes in n periods are evenly spaced. Taken only where as many were seen
    as the periods there are, and each within its own polls.
    """
    times = [_own_time(change) for change in changes]
    close = [n for n, change in enumerate(changes) if n > 0 and change.t_mono_ns - change.t_before_ns <= CLOSE_NS]
    spans = [(left, right, times[right].t_ns - times[left].t_ns) for left, right in pairwise(close)]
    rough_ns = statistics.median(gaps) if (gaps := [span for left, right, span in spans if right == left + 1]) else 0.0
    if len(gaps) < MIN_GAPS:
        return times
    period_ns = math.fsum(span for _, _, span in spans) / sum(round(span / rough_ns) for _, _, span in spans)
    jitter_ns = statistics.median(abs(span - round(span / period_ns) * period_ns) for _, _, span in spans)
    for left, right, span_ns in spans:
        if right - left == 1 or right - left != round(span_ns / period_ns):
            continue
        u_ns = math.hypot(max(times[left].u_ns, times[right].u_ns), jitter_ns)
        for n in range(left + 1, right):
            t_ns = times[left].t_ns + span_ns * (n - left) / (right - left)
            if changes[n].t_before_ns - u_ns <= t_ns <= changes[n].t_mono_ns + u_ns:
                times[n] = TickTime(t_ns, min(u_ns, times[n].u_ns))
    return times


def _own_time(tick: CounterTick) -> TickTime:
    """Somewhere between its two polls: the middle, with a rectangular uncertainty."""
    return TickTime((tick.t_before_ns + tick.t_mono_ns) / 2, (tick.t_mono_ns - tick.t_before_ns) / math.sqrt(12))


def _value_at(changes: Sequence[CounterTick], timed: Sequence[TickTime], t_ns: int) -> tuple[float, float] | None:
    """Counter in mJ at a time, and its standard uncertainty; None outside of the ticks.

    Two things are not known: when the two ticks around happened, and how the power ran between them. For the second, a
    step from the power before to the power after, anywhere in the interval, is off by at most |step| f (1 - f) period,
    taken as rectangular.
    """
    after = bisect_right(timed, float(t_ns), key=lambda time: time.t_ns)
    if after == 0 or after == len(changes):
        return None
    left, right = timed[after - 1], timed[after]
    span_ns = right.t_ns - left.t_ns
    share = (t_ns - left.t_ns) / span_ns
    gained_mj = changes[after].energy_mj - changes[after - 1].energy_mj
    slope = gained_mj / span_ns
    # Polls and ticks both keep time, so neighbouring ticks are found with nearly the same error: it adds up.
    u_time_mj = slope * ((1 - share) * left.u_ns + share * right.u_ns)
    neighbours = [_slope(changes, timed, after - 2), _slope(changes, timed, after)]
    known = [slope, *(value for value in neighbours if value is not None)]
    step = max(known) - min(known)
    u_shape_mj = step * share * (1 - share) * span_ns / math.sqrt(3)
    return changes[after - 1].energy_mj + share * gained_mj, math.hypot(u_time_mj, u_shape_mj)


def _slope(changes: Sequence[CounterTick], timed: Sequence[TickTime], left: int) -> float | None:
    """Mean power between a tick and the next in mJ per ns, None where there is no such pair."""
    if left < 0 or left + 1 >= len(changes):
        return None
    return (changes[left + 1].energy_mj - changes[left].energy_mj) / (timed[left + 1].t_ns - timed[left].t_ns)


def energy_from_series(
    times_ns: Sequence[int], powers_mw: Sequence[float | None], t_begin_ns: int, t_end_ns: int
) -> SeriesEnergy | NoEnergy:
    """Trapezoidal integral of a power series over [t_begin_ns, t_end_ns], interpolated at the edges.

    `times_ns` ascend; a power of None was unreadable. The uncertainty is what the scatter between neighbouring samples
    leaves; where the series does not reach an edge, its nearest power is held and the missing time counts as a hole.
    """
    usable = [(t, p) for t, p in zip(times_ns, powers_mw, strict=True) if p]
    inside = [(t, p) for t, p in usable if t_begin_ns <= t <= t_end_ns]
    if not inside:
        return NoEnergy("no power was read inside the window")
    before = next(((t, p) for t, p in reversed(usable) if t < t_begin_ns), None)
    after = next(((t, p) for t, p in usable if t > t_end_ns), None)
    first = (t_begin_ns, _between(before, inside[0], t_begin_ns))
    last = (t_end_ns, _between(inside[-1], after, t_end_ns))
    points = [first, *inside, last]
    area = math.fsum((t2 - t1) * (p1 + p2) / 2 for (t1, p1), (t2, p2) in pairwise(points))
    around = [t for t, _ in ((before or first), *inside, (after or last))]
    gaps_s = [(later - earlier) / NS_PER_S for earlier, later in pairwise(around)]
    steps = [(t2 - t1) * (p2 - p1) for (t1, p1), (t2, p2) in pairwise(inside)]
    scatter = math.sqrt(math.fsum(step * step for step in steps) / 2)
    span = bisect_right(times_ns, t_end_ns) - bisect_right(times_ns, t_begin_ns - 1)
    periods = [(later - earlier) / NS_PER_S for (earlier, _), (later, _) in pairwise(inside)]
    return SeriesEnergy(
        energy_j=area / NS_PER_S / MJ_PER_J,
        u_j=scatter / NS_PER_S / MJ_PER_J,
        samples=len(inside),
        unreadable=span - len(inside),
        longest_hole_s=max(gaps_s, default=0.0),
        period_s=statistics.median(periods) if periods else None,
    )


def _between(left: tuple[int, float] | None, right: tuple[int, float] | None, t_ns: int) -> float:
    if left is None or right is None:
        present = left or right
        return present[1] if present is not None else 0.0
    (t1, p1), (t2, p2) = left, right
    return p1 if t2 == t1 else p1 + (p2 - p1) * (t_ns - t1) / (t2 - t1)


def relative_difference(counter: CounterEnergy | NoEnergy, series: SeriesEnergy | NoEnergy) -> float | None:
    """(counter - integral) / counter, None where either is missing."""
    if isinstance(counter, NoEnergy) or isinstance(series, NoEnergy) or counter.energy_j <= 0:
        return None
    return (counter.energy_j - series.energy_j) / counter.energy_j
