"""When to look at an energy counter: densely until its period is known, then only around each expected tick. Pure.

Each waking of the sampler costs CPU beside the work that is measured, and most looks at a counter that ticks every
100 ms show nothing. What the energy at a window's edge needs is not many looks but two close ones, before and after
each tick. A tick that was not where it had to be ends the trust: then it is dense again until the period is learnt.
"""

from __future__ import annotations

import math
from collections import deque

LEARNT_GAPS, KEPT_GAPS = 8, 32
#: Around an expected tick the looks are at most this many polls apart.
CLOSE_POLLS = 0.1
#: How far a tick may stray from its period at first, in polls. Each surprise doubles it.
STRAY_POLLS = 0.005
#: An expected tick less certain than this saves nothing.
MAX_WIDTH_POLLS = 2.0

Span = tuple[float, float]


class TickForecast:
    """Looks at one counter, in monotonic ns. `poll_ns` is their spacing where nothing is known, on a grid."""

    def __init__(self, poll_ns: int, first_ns: int):
        self._poll_ns, self._first_ns = poll_ns, first_ns
        self._stray_ns = STRAY_POLLS * poll_ns
        self._found: deque[Span] = deque(maxlen=KEPT_GAPS + 1)
        self._expected: Span | None = None

    def forget(self) -> None:
        """Start anew, because nobody looked for a while or the ticks came otherwise."""
        self._found.clear()
        self._expected = None

    def note_tick(self, t_before_ns: int, t_ns: int) -> None:
        """The counter changed between these two looks."""
        found: Span = (t_before_ns, t_ns)
        # Seen at the first look after a pause: it came too early, or this process was late, or more than one has come.
        is_surprise = t_ns - t_before_ns > MAX_WIDTH_POLLS * self._poll_ns
        if self._expected is not None and not is_surprise:
            # What is known of the tick before, and of the period, often says more than the two looks do.
            narrowed = (max(found[0], self._expected[0]), min(found[1], self._expected[1]))
            is_surprise = narrowed[0] >= narrowed[1]
            found = found if is_surprise else narrowed
        if is_surprise:
            if self._expected is not None:
                self._stray_ns = min(2 * self._stray_ns, self._poll_ns)
            self.forget()
        self._found.append(found)
        self._expected = self._expect()

    def next_look_ns(self, now_ns: int, awake_ns: int | None = None) -> int:
        """When to look next, always later than `now_ns` and on a grid: a late look does not shift those after it.

        `awake_ns` is when this process will be awake anyhow. That moment serves as one of the two looks around a tick
        where it is no further away than a poll.
        """
        if self._expected is None:
            return _next_on_grid(self._first_ns, self._poll_ns, now_ns)
        begin_ns, end_ns = map(round, self._expected)
        early_ns, late_ns = end_ns - self._poll_ns, begin_ns + self._poll_ns
        if now_ns < min(early_ns, begin_ns):
            is_before = awake_ns is not None and early_ns <= awake_ns < begin_ns
            return awake_ns if is_before and awake_ns is not None else begin_ns
        if now_ns < end_ns and awake_ns is not None and max(end_ns, now_ns) < awake_ns <= late_ns:
            return awake_ns
        if now_ns < begin_ns:
            return end_ns
        if now_ns < end_ns + self._poll_ns:
            looks = math.ceil((end_ns - begin_ns) / (CLOSE_POLLS * self._poll_ns))
            return _next_on_grid(begin_ns, math.ceil((end_ns - begin_ns) / looks), now_ns)
        return _next_on_grid(self._first_ns, self._poll_ns, now_ns)

    def _expect(self) -> Span | None:
        """Between which times the next tick lies; None where that is not known well enough."""
        gaps = len(self._found) - 1
        if gaps < LEARNT_GAPS:
            return None
        (first_begin, first_end), (last_begin, last_end) = self._found[0], self._found[-1]
        period_ns = (last_begin + last_end - first_begin - first_end) / 2 / gaps
        u_ns = (last_end - last_begin + first_end - first_begin) / 2 / gaps + self._stray_ns
        expected = (last_begin + period_ns - u_ns, last_end + period_ns + u_ns)
        is_certain = expected[1] - expected[0] <= MAX_WIDTH_POLLS * self._poll_ns
        return expected if is_certain else None


def _next_on_grid(first_ns: int, step_ns: int, now_ns: int) -> int:
    return first_ns + ((now_ns - first_ns) // step_ns + 1) * step_ns
