"""Is the GPU warm enough to measure? The end of the warm-up, as a pure decision.

A 60 s window that begins 35 C below the steady state averages 2 to 18 C too low, and power follows temperature: so
latencies, temperature and clocks must all have stopped moving.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lemctl.measure.readings import NS_PER_S, Reading
from lemctl.thermal.curve import fit_slope


@dataclass(frozen=True, slots=True)
class WarmupSettings:
    """When a warm-up is over. All are defaults of ours."""

    min_s: float = 0.0
    max_s: float = 180.0
    batches: int = 5
    latency_cv: float = 0.05
    slope_over_s: float = 30.0
    slope_limit_c_per_s: float = 0.05
    clock_over_s: float = 10.0
    clock_cv: float = 0.02


@dataclass(frozen=True, slots=True)
class Steady:
    """Measure now."""

    reason: str


@dataclass(frozen=True, slots=True)
class KeepWarming:
    """Not yet; `reason` says what still moves."""

    reason: str


@dataclass(frozen=True, slots=True)
class Capped:
    """The limit was reached: measure all the same, marked."""

    reason: str


def decide_warmup(
    batch_latencies_s: Sequence[float],
    gpus: Mapping[str, Sequence[Reading]],
    elapsed_s: float,
    settings: WarmupSettings,
) -> Steady | KeepWarming | Capped:
    """Whether the warm-up is over, from the latencies of its batches and each GPU's readings since it began.

    A sensor that is missing is not waited for.
    """
    latency = _latency_moves(batch_latencies_s, settings)
    reasons = [*([latency] if latency else ()), *device_moves(gpus, elapsed_s, settings)]
    if elapsed_s < settings.min_s:
        reasons.append(f"{elapsed_s:.0f} s of at least {settings.min_s:.0f} s")
    if not reasons:
        return Steady(f"steady after {elapsed_s:.0f} s and {len(batch_latencies_s)} batches")
    if elapsed_s >= settings.max_s:
        return Capped(f"not steady after {settings.max_s:.0f} s: {'; '.join(reasons)}")
    return KeepWarming("; ".join(reasons))


def device_moves(gpus: Mapping[str, Sequence[Reading]], elapsed_s: float, settings: WarmupSettings) -> list[str]:
    """What temperature and clocks say against ending the warm-up now. A sensor that is missing says nothing."""
    moving: list[str | None] = []
    for gpu, readings in gpus.items():
        moving += [_temperature_moves(gpu, readings, elapsed_s, settings), _clock_moves(gpu, readings, settings)]
    return [reason for reason in moving if reason is not None]


def find_unsteady(
    gpus: Mapping[str, Sequence[Reading]], window_begin_ns: int, window_end_ns: int, settings: WarmupSettings
) -> tuple[str, ...]:
    """What still moved when a window began: the same limits, judged afterwards on readings from around its begin.

    A runner without sensors ends its warm-up by its latencies alone. Temperature is judged over `slope_over_s` around
    the begin, no further into the window than it has to be; clocks over the window's first `clock_over_s`. What was
    not watched for so long is not judged.
    """
    found = []
    for gpu, readings in gpus.items():
        inside = [reading for reading in readings if reading.t_mono_ns <= window_end_ns]
        around = _over(inside, window_begin_ns - settings.slope_over_s * 2 / 3 * NS_PER_S, settings.slope_over_s)
        moves = _temperature_moves(gpu, around, settings.slope_over_s, settings)
        if moves is not None and _span_s(around) >= 0.9 * settings.slope_over_s:
            found.append(moves)
        first = _over([r for r in inside if r.t_mono_ns >= window_begin_ns], window_begin_ns, settings.clock_over_s)
        if _span_s(first) >= 0.9 * settings.clock_over_s and (moves := _clock_moves(gpu, first, settings)) is not None:
            found.append(moves)
    return tuple(found)


def _over(readings: Sequence[Reading], from_ns: float, seconds: float) -> list[Reading]:
    """So many seconds of readings from a time, or from the first one after it."""
    begin_ns = max(from_ns, readings[0].t_mono_ns) if readings else from_ns
    return [reading for reading in readings if begin_ns <= reading.t_mono_ns <= begin_ns + seconds * NS_PER_S]


def _span_s(readings: Sequence[Reading]) -> float:
    return (readings[-1].t_mono_ns - readings[0].t_mono_ns) / NS_PER_S if readings else 0.0


def _latency_moves(batch_latencies_s: Sequence[float], settings: WarmupSettings) -> str | None:
    last = batch_latencies_s[-settings.batches :]
    if len(last) < settings.batches:
        return f"{len(last)} of {settings.batches} batches"
    cv = statistics.stdev(last) / statistics.fmean(last)
    return f"batch latency varies by {cv:.1%}" if cv >= settings.latency_cv else None


def _temperature_moves(gpu: str, readings: Sequence[Reading], elapsed_s: float, settings: WarmupSettings) -> str | None:
    known = [
        (r.t_mono_ns / NS_PER_S, r.temp_c) for r in _since(readings, settings.slope_over_s) if r.temp_c is not None
    ]
    if not known:
        return None
    if elapsed_s < settings.slope_over_s or known[-1][0] - known[0][0] < 0.9 * settings.slope_over_s:
        return f"GPU {gpu}: temperature watched for less than {settings.slope_over_s:.0f} s"
    slope = fit_slope([t for t, _ in known], [c for _, c in known])
    if slope is None or abs(slope) < settings.slope_limit_c_per_s:
        return None
    return f"GPU {gpu}: temperature moves by {slope * 60:+.1f} C/min"


def _clock_moves(gpu: str, readings: Sequence[Reading], settings: WarmupSettings) -> str | None:
    clocks = [r.sm_clock_mhz for r in _since(readings, settings.clock_over_s) if r.sm_clock_mhz is not None]
    if len(clocks) < 3:
        return None
    mean = math.fsum(clocks) / len(clocks)
    cv = statistics.pstdev(clocks) / mean if mean else 0.0
    return f"GPU {gpu}: SM clock varies by {cv:.1%}" if cv > settings.clock_cv else None


def _since(readings: Sequence[Reading], over_s: float) -> list[Reading]:
    if not readings:
        return []
    since_ns = readings[-1].t_mono_ns - over_s * NS_PER_S
    return [reading for reading in readings if reading.t_mono_ns >= since_ns]
