"""When to look at an energy counter: densely until its period is known, then only around some expected ticks. Pure.

Each waking of the sampler costs CPU beside the work that is measured, and most looks at a counter that ticks every
100 ms show nothing. What the energy at a window's edge needs is not many looks but to know when the ticks around it
came. A counter keeps time: two close looks, before and after one tick in a few, tell when the others came, too
(`measure.energy` works that out), and the counter's value at those is read whenever this process is awake anyhow.
A tick that was not where it had to be ends the trust: then it is dense again until the period is learnt.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

LEARNT_GAPS, KEPT_GAPS = 8, 32
#: Around an expected tick the looks are at most this many polls apart.
CLOSE_POLLS = 0.1
#: One tick in so many is looked at closely once the period is known, fewer are skipped where it is known less well.
CLOSE_EVERY = (5, 2, 1)
#: Ticks that come faster than this are not skipped: a counter as fast as the polls looks like one of their period.
MIN_SKIPPED_POLLS = 2.5
#: How far a tick may stray from its period at first, in polls. Each surprise doubles it.
STRAY_POLLS = 0.005
#: An expected tick less certain than this saves nothing.
MAX_WIDTH_POLLS = 2.0

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """A tick seen between two looks, in monotonic ns, and how many periods lie between it and the one found before."""

    begin_ns: float
    end_ns: float
    periods: int


class TickForecast:
    """Looks at one counter, in monotonic ns. `poll_ns` is their spacing where nothing is known, on a grid."""

    def __init__(self, poll_ns: int, first_ns: int):
        self._poll_ns, self._first_ns = poll_ns, first_ns
        self._stray_ns = STRAY_POLLS * poll_ns
        self._found: deque[Found] = deque(maxlen=KEPT_GAPS + 1)
        self._expected: Span | None = None
        self._ahead, self._period_ns = 1, 0.0

    def forget(self) -> None:
        """Start anew, because nobody looked for a while or the ticks came otherwise."""
        self._found.clear()
        self._expected, self._ahead = None, 1

    def note_tick(self, t_before_ns: int, t_ns: int) -> None:
        """The counter changed between these two looks. The ticks on the way to the expected one say nothing new."""
        if self._ahead > 1 and self._expected is not None and t_before_ns < self._expected[0] - self._period_ns / 2:
            return
        begin_ns, end_ns = float(t_before_ns), float(t_ns)
        # Seen at the first look after a pause: it came too early, or this process was late, or more than one has come.
        is_surprise = end_ns - begin_ns > MAX_WIDTH_POLLS * self._poll_ns
        if self._expected is not None and not is_surprise:
            # What is known of the ticks before, and of the period, often says more than the two looks do.
            narrowed = (max(begin_ns, self._expected[0]), min(end_ns, self._expected[1]))
            is_surprise = narrowed[0] >= narrowed[1]
            begin_ns, end_ns = (begin_ns, end_ns) if is_surprise else narrowed
        if is_surprise:
            if self._expected is not None:
                self._stray_ns = min(2 * self._stray_ns, self._poll_ns)
            self.forget()
        self._found.append(Found(begin_ns, end_ns, self._ahead))
        self._expect()

    def next_look_ns(self, now_ns: int) -> int:
        """When to look next, always later than `now_ns` and on a grid: a late look does not shift those after it."""
        if self._expected is None:
            return _next_on_grid(self._first_ns, self._poll_ns, now_ns)
        begin_ns, end_ns = map(round, self._expected)
        if now_ns < begin_ns:
            return begin_ns
        if now_ns < end_ns + self._poll_ns:
            looks = math.ceil((end_ns - begin_ns) / (CLOSE_POLLS * self._poll_ns))
            return _next_on_grid(begin_ns, math.ceil((end_ns - begin_ns) / looks), now_ns)
        return _next_on_grid(self._first_ns, self._poll_ns, now_ns)

    def _expect(self) -> None:
        """Between which times the next tick to look at lies; nothing where that is not known well enough."""
        self._expected, self._ahead = None, 1
        periods = sum(tick.periods for tick in list(self._found)[1:])
        if len(self._found) <= LEARNT_GAPS:
            return
        first, last = self._found[0], self._found[-1]
        period_ns = (last.begin_ns + last.end_ns - first.begin_ns - first.end_ns) / 2 / periods
        u_period_ns = (last.end_ns - last.begin_ns + first.end_ns - first.begin_ns) / 2 / periods
        for ahead in CLOSE_EVERY:
            u_ns = ahead * u_period_ns + self._stray_ns
            begin_ns, end_ns = last.begin_ns + ahead * period_ns - u_ns, last.end_ns + ahead * period_ns + u_ns
            is_certain = end_ns - begin_ns <= MAX_WIDTH_POLLS * self._poll_ns
            if is_certain and (ahead == 1 or period_ns > MIN_SKIPPED_POLLS * self._poll_ns):
                self._expected, self._ahead, self._period_ns = (begin_ns, end_ns), ahead, period_ns
                return


def _next_on_grid(first_ns: int, step_ns: int, now_ns: int) -> int:
    return first_ns + ((now_ns - first_ns) // step_ns + 1) * step_ns
