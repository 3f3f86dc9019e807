"""What a GPU's idle temperature is in each state, learnt from the waits themselves. Pure.

A loaded engine idles hotter than an empty GPU, by an amount that differs from session to session, and the room drifts:
so each state has a reference of its own, and each wait refines it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lemctl.measure.readings import NS_PER_S, Reading
from lemctl.thermal.curve import fit_slope
from lemctl.thermal.gate import Reference, asymptote_of, mean_power_w, mean_temp_c

#: Below this slope over `SETTLED_OVER_S` a GPU has settled, in C per s.
SETTLED_C_PER_S = 0.005
SETTLED_OVER_S = 60.0
POWER_OVER_S = 10.0


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How references are learnt."""

    worst_u_c: float = 1.0
    """An estimate less certain than this is not used at all."""
    floor_u_c: float = 0.2
    """However often it was estimated, a reference keeps this uncertainty, so that it can follow the room."""
    replace_beyond_u: float = 4.0
    """An estimate this far off, in uncertainties, means that the state has changed: it replaces the reference."""


def estimate_reference(readings: Sequence[Reading], *, is_idle: bool = False) -> Reference | None:
    """What one wait says about where its GPU settles: the settled value, else the fitted asymptote, else None.

    `is_idle`: the wait ended well, so the power at its end is that of the state.
    """
    settled = _settled(readings)
    if settled is None:
        curve = asymptote_of(readings)
        settled = None if curve is None else Reference(curve.temp_c, curve.u_c)
    if settled is None or not is_idle:
        return settled
    return Reference(settled.temp_c, settled.u_c, mean_power_w(readings, POWER_OVER_S))


def learn(reference: Reference | None, estimate: Reference | None, settings: LearningSettings) -> Reference | None:
    """The reference after one more estimate: weighted by certainty, the newer one never ignored."""
    if estimate is None or estimate.u_c > settings.worst_u_c:
        return reference
    if reference is None:
        return estimate
    if abs(estimate.temp_c - reference.temp_c) > settings.replace_beyond_u * math.hypot(reference.u_c, estimate.u_c):
        return Reference(estimate.temp_c, estimate.u_c, estimate.power_w or reference.power_w)
    old, new = 1 / reference.u_c**2, 1 / estimate.u_c**2
    temp_c = (old * reference.temp_c + new * estimate.temp_c) / (old + new)
    u_c = max(math.sqrt(1 / (old + new)), settings.floor_u_c)
    return Reference(temp_c, u_c, reference.power_w if estimate.power_w is None else estimate.power_w)


def _settled(readings: Sequence[Reading]) -> Reference | None:
    if not readings:
        return None
    since_ns = readings[-1].t_mono_ns - SETTLED_OVER_S * NS_PER_S
    recent = [r for r in readings if r.t_mono_ns >= since_ns and r.temp_c is not None]
    if not recent or recent[-1].t_mono_ns - recent[0].t_mono_ns < 0.95 * SETTLED_OVER_S * NS_PER_S:
        return None
    temps = [r.temp_c for r in recent if r.temp_c is not None]
    slope = fit_slope([r.t_mono_ns / NS_PER_S for r in recent], temps)
    mean_c = mean_temp_c(recent, SETTLED_OVER_S)
    if slope is None or mean_c is None or abs(slope) > SETTLED_C_PER_S:
        return None
    # Whole degrees: half a step may be hidden however long the line is flat.
    return Reference(mean_c, 0.3)
