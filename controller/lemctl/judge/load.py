"""Could the server keep up? Whether requests in flight grew during an open-loop window. Pure.

Arrivals that come faster than they are served make the queue grow for as long as one looks: latencies then say how long
one looked. A queue that merely fluctuates has no slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lemctl.judge.measured import NS_PER_S, ServedRequest
from lemctl.judge.student import t_quantile

LOOKS = 20
MIN_REQUESTS = 20
#: One-sided level of the slope test, and the least growth over the window that matters, in shares of the arrivals.
ALPHA = 0.01
GROWTH_SHARE = 0.05


def count_in_flight(requests: Sequence[ServedRequest], t_ns: float) -> int:
    """Requests submitted but not ended at a moment."""
    return sum(request.t_submit_ns <= t_ns < request.t_end_ns for request in requests)


def is_saturated(requests: Sequence[ServedRequest], t_begin_ns: int, t_end_ns: int) -> bool | None:
    """Whether in-flight requests grew in [t_begin_ns, t_end_ns]; None for too few requests to tell.

    Both must hold: the least-squares slope over evenly spaced looks is above zero at level `ALPHA`, and the fitted
    growth is at least `GROWTH_SHARE` of what arrived.
    """
    arrivals = sum(t_begin_ns <= request.t_submit_ns < t_end_ns for request in requests)
    if arrivals < MIN_REQUESTS or t_end_ns <= t_begin_ns:
        return None
    span_s = (t_end_ns - t_begin_ns) / NS_PER_S
    times_s = [span_s * (look + 0.5) / LOOKS for look in range(LOOKS)]
    counts = [count_in_flight(requests, t_begin_ns + t_s * NS_PER_S) for t_s in times_s]
    mean_t, mean_c = math.fsum(times_s) / LOOKS, math.fsum(counts) / LOOKS
    spread = math.fsum((t - mean_t) ** 2 for t in times_s)
    slope = math.fsum((t - mean_t) * (c - mean_c) for t, c in zip(times_s, counts, strict=True)) / spread
    residuals = [c - mean_c - slope * (t - mean_t) for t, c in zip(times_s, counts, strict=True)]
    error = math.sqrt(math.fsum(r * r for r in residuals) / (LOOKS - 2) / spread)
    return slope > t_quantile(1 - ALPHA, LOOKS - 2) * error and slope * span_s >= GROWTH_SHARE * arrivals
