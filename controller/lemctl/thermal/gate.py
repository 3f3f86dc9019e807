"""May the run start? The gate in front of every run, as a pure decision over the readings since it closed.

`cool` waits until each GPU is back near the temperature of its present state (unloaded, or idle with a model loaded:
that is warmer), has stopped cooling, draws idle power and does nothing. `steady` waits for nothing, because its
warm-up carries to a thermal steady state. `fixed` waits a set time. `none` starts at once.
Without a temperature sensor `cool` becomes the fixed gap, and the decision says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lemctl.measure.readings import NS_PER_S, Reading
from lemctl.thermal.curve import Asymptote, fit_asymptote, fit_slope

GateKind = Literal["cool", "steady", "fixed", "none"]
#: How a run started: `fixed` also where sensors were missing, `warm` where cooling was given up.
StartState = Literal["cool", "warm", "fixed", "ungated"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a GPU settles in one state (unloaded, or one session's model loaded), `u_c` its standard uncertainty."""

    temp_c: float
    u_c: float
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class GateSettings:
    """When a GPU counts as cool. All are defaults of ours, to be set in the campaign file or the settings."""

    kind: GateKind = "cool"
    max_s: float = 300.0
    gap_s: float = 60.0
    above_reference_c: float = 2.0
    mean_over_s: float = 10.0
    slope_over_s: float = 30.0
    cooling_limit_c_per_s: float = 0.05
    power_share: float = 0.03
    power_floor_w: float = 3.0
    asymptote_u_c: float = 0.5
    """Without a reference, how well the fitted cooling curve must tell where the GPU will settle."""


@dataclass(frozen=True, slots=True)
class Cool:
    """Go. `temps_c` are the mean temperatures at the end of the wait, by GPU, None without a sensor."""

    reason: str
    start_state: StartState
    temps_c: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: `reason` is what `status` shows, `remaining_s` an estimate, None where nothing tells. `targets_c` holds
    the temperatures down to which GPUs cool, of those for which that is known."""

    reason: str
    remaining_s: float | None
    targets_c: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The cap was reached: run all the same, marked `warm`."""

    reason: str
    temps_c: Mapping[str, float | None]
    start_state: StartState = "warm"


@dataclass(frozen=True, slots=True)
class GpuHistory:
    """One GPU's readings since the gate closed, oldest first, and the reference of its state if one is known."""

    readings: Sequence[Reading]
    reference: Reference | None = None


def decide(gpus: Mapping[str, GpuHistory], waited_s: float, settings: GateSettings) -> Cool | Wait | GiveUp:
    """Whether the run may start, all its GPUs considered. `waited_s` counts from the gate's closing."""
    if settings.kind in ("none", "steady"):
        reason = "no gate" if settings.kind == "none" else "no cooling: the warm-up carries to a steady state"
        return Cool(reason, "ungated", _last_means(gpus, settings))
    blind = [gpu for gpu, history in gpus.items() if all(r.temp_c is None for r in history.readings)]
    if settings.kind == "fixed" or not gpus or (blind and _has_had_time(gpus, waited_s)):
        return _decide_fixed(gpus, blind, waited_s, settings)
    obstacles = {gpu: _obstacle(history, settings) for gpu, history in gpus.items()}
    held = {gpu: obstacle for gpu, obstacle in obstacles.items() if obstacle is not None}
    if not held:
        return Cool(f"cool after {waited_s:.0f} s", "cool", _last_means(gpus, settings))
    reason = "; ".join(
        f"GPU {gpu}: {obstacle.text}" if len(gpus) > 1 else obstacle.text for gpu, obstacle in held.items()
    )
    if waited_s >= settings.max_s:
        return GiveUp(f"not cool after {settings.max_s:.0f} s: {reason}", _last_means(gpus, settings))
    remaining_s = _longest((obstacle.remaining_s for obstacle in held.values()), settings.max_s - waited_s)
    known = {gpu: _reference_of(gpus[gpu], settings) for gpu in held}
    targets_c = {gpu: one.temp_c + settings.above_reference_c for gpu, one in known.items() if one is not None}
    return Wait(reason, remaining_s, targets_c)


@dataclass(frozen=True, slots=True)
class _Obstacle:
    text: str
    remaining_s: float | None


def _has_had_time(gpus: Mapping[str, GpuHistory], waited_s: float) -> bool:
    """A sensor counts as missing only once it has been read without an answer (or nothing came for 5 s)."""
    return any(history.readings for history in gpus.values()) or waited_s >= 5.0


def _decide_fixed(
    gpus: Mapping[str, GpuHistory], blind: Sequence[str], waited_s: float, settings: GateSettings
) -> Cool | Wait:
    why = "fixed gap"
    if settings.kind == "cool":
        why = f"fixed gap (no temperature sensor on GPU {', '.join(blind)})" if blind else "fixed gap (no GPU)"
    if waited_s >= settings.gap_s:
        return Cool(f"{why} of {settings.gap_s:.0f} s is over", "fixed", _last_means(gpus, settings))
    return Wait(f"{why} of {settings.gap_s:.0f} s", settings.gap_s - waited_s)


def _obstacle(history: GpuHistory, settings: GateSettings) -> _Obstacle | None:
    """What keeps this GPU from starting, None when nothing does."""
    recent = _last(history.readings, settings.slope_over_s)
    temps = [(r.t_mono_ns / NS_PER_S, r.temp_c) for r in recent if r.temp_c is not None]
    covered_s = temps[-1][0] - temps[0][0] if temps else 0.0
    if covered_s < 0.95 * settings.slope_over_s:
        text = f"watching the temperature for {settings.slope_over_s:.0f} s"
        return _Obstacle(text, settings.slope_over_s - covered_s)
    busy = _busy(history, settings)
    if busy is not None:
        return busy
    slope = fit_slope([t for t, _ in temps], [c for _, c in temps])
    now_c = mean_temp_c(history.readings, settings.mean_over_s)
    if slope is None or now_c is None:
        return _Obstacle("no temperature to judge by", None)
    return _temperature_obstacle(history, now_c, slope, settings)


def _temperature_obstacle(history: GpuHistory, now_c: float, slope: float, settings: GateSettings) -> _Obstacle | None:
    curve = asymptote_of(history.readings)
    reference = _reference_of(history, settings)
    if reference is not None and now_c > reference.temp_c + settings.above_reference_c:
        target_c = reference.temp_c + settings.above_reference_c
        heading = replace(curve, temp_c=reference.temp_c) if curve else None
        remaining_s = heading.seconds_until(target_c, now_c) if heading else None
        return _Obstacle(f"{now_c:.1f} C, waiting for {target_c:.1f} C", remaining_s)
    if slope < -settings.cooling_limit_c_per_s:
        limit = settings.cooling_limit_c_per_s * 60
        text = f"{now_c:.1f} C, cooling at {-slope * 60:.1f} C/min (limit {limit:.1f} C/min)"
        return _Obstacle(text, _until_flat(curve, now_c, settings))
    # A flat line has no curve to fit: it has settled already.
    if reference is None and abs(slope) > settings.cooling_limit_c_per_s / 5:
        return _Obstacle(f"{now_c:.1f} C, not yet known where it settles", None)
    return None


def _reference_of(history: GpuHistory, settings: GateSettings) -> Reference | None:
    """Where this GPU settles: as known, else as its cooling curve tells well enough."""
    if history.reference is not None:
        return history.reference
    curve = asymptote_of(history.readings)
    return None if curve is None or curve.u_c > settings.asymptote_u_c else Reference(curve.temp_c, curve.u_c)


def _busy(history: GpuHistory, settings: GateSettings) -> _Obstacle | None:
    last = history.readings[-1]
    if last.gpu_utilisation is not None and last.gpu_utilisation > 0:
        return _Obstacle(f"the GPU is busy ({last.gpu_utilisation:.0%})", None)
    idle_w = history.reference.power_w if history.reference else None
    if idle_w is None or last.power_w is None:
        return None
    limit_w = idle_w + max(settings.power_share * idle_w, settings.power_floor_w)
    power_w = mean_power_w(history.readings, settings.mean_over_s)
    if power_w is not None and power_w > limit_w:
        return _Obstacle(f"{power_w:.0f} W, idle is {idle_w:.0f} W", None)
    return None


def asymptote_of(readings: Sequence[Reading]) -> Asymptote | None:
    """Where the readings say that the GPU will settle, None while they do not."""
    known = [(r.t_mono_ns / NS_PER_S, r.temp_c) for r in readings if r.temp_c is not None]
    return fit_asymptote([t for t, _ in known], [c for _, c in known])


def mean_temp_c(readings: Sequence[Reading], over_s: float) -> float | None:
    """Mean temperature of the last `over_s` seconds in C, None without a reading."""
    temps = [r.temp_c for r in _last(readings, over_s) if r.temp_c is not None]
    return math.fsum(temps) / len(temps) if temps else None


def mean_power_w(readings: Sequence[Reading], over_s: float) -> float | None:
    """Mean power of the last `over_s` seconds in W, None without a reading."""
    powers = [r.power_w for r in _last(readings, over_s) if r.power_w is not None]
    return math.fsum(powers) / len(powers) if powers else None


def _last(readings: Sequence[Reading], over_s: float) -> Sequence[Reading]:
    if not readings:
        return readings
    since_ns = readings[-1].t_mono_ns - over_s * NS_PER_S
    first = len(readings)
    while first > 0 and readings[first - 1].t_mono_ns >= since_ns:
        first -= 1
    return readings[first:]


def _last_means(gpus: Mapping[str, GpuHistory], settings: GateSettings) -> dict[str, float | None]:
    return {gpu: mean_temp_c(history.readings, settings.mean_over_s) for gpu, history in gpus.items()}


def _until_flat(curve: Asymptote | None, now_c: float, settings: GateSettings) -> float | None:
    """Seconds until cooling is slower than the limit; the slope lags behind by half of what it looks back over."""
    if curve is None:
        return None
    flat_at_c = curve.temp_c + settings.cooling_limit_c_per_s * curve.tau_s
    until_s = curve.seconds_until(flat_at_c, now_c)
    return None if until_s is None else until_s + settings.slope_over_s / 2


def _longest(guesses_s: Iterable[float | None], cap_s: float) -> float | None:
    """The slowest GPU decides; one that cannot be guessed leaves the whole unknown."""
    longest_s = 0.0
    for guess_s in guesses_s:
        if guess_s is None:
            return None
        longest_s = max(longest_s, guess_s)
    return min(longest_s, cap_s)
