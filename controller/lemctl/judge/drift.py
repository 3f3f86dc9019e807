"""Whether the device's deep idle moved over a campaign: B0 at its start against B0 at its end. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lemctl.judge.verdict import Limits


@dataclass(frozen=True, slots=True)
class Drift:
    """Relative change of B0 from the first to the last reading, and its standard uncertainty."""

    shift: float
    u: float
    limit: float

    @property
    def is_warning(self) -> bool:
        """Whether figures from the campaign's two ends should be compared with care."""
        return abs(self.shift) > self.limit


def find_drift(
    readings: Sequence[tuple[float | None, float | None]], limit: float = Limits().baseline_shift
) -> Drift | None:
    """The drift over B0 readings (power in W, its standard uncertainty) in order of time; None below two known ones."""
    known = [(power_w, u_w or 0.0) for power_w, u_w in readings if power_w]
    if len(known) < 2:
        return None
    (first_w, u_first), (last_w, u_last) = known[0], known[-1]
    ratio = last_w / first_w
    return Drift(ratio - 1, ratio * math.hypot(u_first / first_w, u_last / last_w), limit)
