"""What the meters saw in the windows of one attempt: from raw series to what metrics and verdict start from.

Pure. Energies of several GPUs and windows add up; of shares the worst GPU counts, of levels the mean or the highest.
Where one GPU of the run has no figure, the run has none: a sum over some of them would be a wrong figure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lemctl.measure.energy import (
    CounterEnergy,
    NoEnergy,
    SeriesEnergy,
    energy_from_counter,
    energy_from_series,
    find_tick_period_s,
)
from lemctl.measure.readings import GpuSample, GpuSeries
from lemctl.measure.throttling import find_throttling

Edges = tuple[int, int]


@dataclass(frozen=True, slots=True)
class MeterEnergy:
    """Energy in J with its standard uncertainty, and the meter's name in the registry."""

    energy_j: float
    u_j: float
    meter: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Figures of all windows together. None where no sensor gave them; energies say why."""

    counter: MeterEnergy | NoEnergy
    series: MeterEnergy | NoEnergy
    not_allotted: MeterEnergy | NoEnergy
    counter_ticks: int | None
    tick_period_s: float | None
    counter_reset: bool
    counter_series_difference: float | None
    longest_hole_s: float | None
    sample_period_s: float | None
    thermal_throttle_share: float | None
    power_brake_share: float | None
    power_cap_share: float | None
    throttle_reasons: tuple[str, ...]
    foreign_processes: tuple[str, ...]
    temperature_c: float | None
    temperature_begin_c: float | None
    temperature_end_c: float | None
    sm_clock_mhz: float | None
    gpu_utilisation: float | None
    memory_utilisation: float | None
    peak_memory_bytes: float | None

    @property
    def headline(self) -> MeterEnergy | NoEnergy:
        """E_total: the counter; the integrated power only where a GPU has no counter at all."""
        if isinstance(self.counter, MeterEnergy) or self.counter.fault or isinstance(self.series, NoEnergy):
            return self.counter
        return self.series


def observe(
    gpus: Mapping[str, GpuSeries],
    windows: Sequence[Edges],
    *,
    watched: Mapping[str, GpuSeries] | None = None,
    own_pids: Collection[int] = (),
    process_names: Mapping[int, str] | None = None,
    missing: Mapping[str, Mapping[str, str]] | None = None,
) -> Observation:
    """Everything the sampler's series say about the windows ((begin, end) in monotonic ns) of one attempt.

    `gpus` are those of the run, `watched` the others of the host. Processes whose pid is not in `own_pids` are foreign.
    `missing` (by GPU, then quantity) supplies the reason where a GPU has no counter or no power.
    """
    reasons = missing or {}
    counters = [_counter(gpu, series, edges, reasons) for gpu, series in gpus.items() for edges in windows]
    integrals = [_integral(gpu, series, edges, reasons) for gpu, series in gpus.items() for edges in windows]
    inside = {gpu: _inside(series, windows) for gpu, series in gpus.items()}
    throttlings = [find_throttling(*_window(series, edges)) for series in gpus.values() for edges in windows]
    samples = [sample for found in inside.values() for sample in found]
    seen = [integral for integral in integrals if isinstance(integral, SeriesEnergy)]
    counter, series_energy = _sum(counters, "nvml-counter"), _sum(integrals, "nvml-series")
    ticks = [found.ticks for found in counters if isinstance(found, CounterEnergy)]
    return Observation(
        counter=counter,
        series=series_energy,
        not_allotted=_not_allotted(watched or {}, windows, reasons),
        counter_ticks=min(ticks) * len(windows) if ticks and len(ticks) == len(counters) else None,
        tick_period_s=_worst(find_tick_period_s(series.ticks) for series in gpus.values()),
        counter_reset=any(isinstance(found, NoEnergy) and found.fault == "reset" for found in counters),
        counter_series_difference=_difference(counter, series_energy),
        longest_hole_s=_worst(found.longest_hole_s for found in seen),
        sample_period_s=_worst(found.period_s for found in seen),
        thermal_throttle_share=_worst(found.thermal_share for found in throttlings),
        power_brake_share=_worst(found.power_brake_share for found in throttlings),
        power_cap_share=_worst(found.power_cap_share for found in throttlings),
        throttle_reasons=tuple(dict.fromkeys(reason for found in throttlings for reason in found.reasons)),
        foreign_processes=_foreign(gpus, windows, own_pids, process_names or {}),
        temperature_c=_mean([sample.temp_c for sample in samples]),
        temperature_begin_c=_mean([found[0].temp_c for found in inside.values() if found]),
        temperature_end_c=_mean([found[-1].temp_c for found in inside.values() if found]),
        sm_clock_mhz=_mean([sample.sm_clock_mhz for sample in samples]),
        gpu_utilisation=_share(_mean([sample.gpu_utilisation_pct for sample in samples])),
        memory_utilisation=_share(_mean([sample.memory_utilisation_pct for sample in samples])),
        peak_memory_bytes=_peak_memory(inside),
    )


def _counter(
    gpu: str, series: GpuSeries, edges: Edges, reasons: Mapping[str, Mapping[str, str]]
) -> CounterEnergy | NoEnergy:
    reason = reasons.get(gpu, {}).get("energy")
    return NoEnergy(reason) if reason is not None else energy_from_counter(series.ticks, *edges)


def _integral(
    gpu: str, series: GpuSeries, edges: Edges, reasons: Mapping[str, Mapping[str, str]]
) -> SeriesEnergy | NoEnergy:
    reason = reasons.get(gpu, {}).get("power")
    if reason is not None:
        return NoEnergy(reason)
    return energy_from_series(series.times_ns, [sample.power_mw for sample in series.samples], *edges)


def _sum(parts: Sequence[CounterEnergy | SeriesEnergy | NoEnergy], meter: str) -> MeterEnergy | NoEnergy:
    if not parts:
        return NoEnergy("no GPU was watched in a window")
    for part in parts:
        if isinstance(part, NoEnergy):
            return part
    known = [part for part in parts if not isinstance(part, NoEnergy)]
    return MeterEnergy(math.fsum(part.energy_j for part in known), math.hypot(*(part.u_j for part in known)), meter)


def _not_allotted(
    watched: Mapping[str, GpuSeries], windows: Sequence[Edges], reasons: Mapping[str, Mapping[str, str]]
) -> MeterEnergy | NoEnergy:
    if not watched:
        return NoEnergy("the run had all GPUs of the host")
    return _sum(
        [_counter(gpu, series, edges, reasons) for gpu, series in watched.items() for edges in windows], "nvml-counter"
    )


def _difference(counter: MeterEnergy | NoEnergy, series: MeterEnergy | NoEnergy) -> float | None:
    """(counter - integral) / counter. A counter that stands still while power flows differs by all of it."""
    if isinstance(series, NoEnergy):
        return None
    if isinstance(counter, NoEnergy):
        return -1.0 if counter.fault == "stopped" else None
    return (counter.energy_j - series.energy_j) / counter.energy_j if counter.energy_j > 0 else -1.0


def _window(series: GpuSeries, edges: Edges) -> tuple[list[int], list[GpuSample]]:
    pairs = [(t, s) for t, s in zip(series.times_ns, series.samples, strict=True) if edges[0] <= t <= edges[1]]
    return [t for t, _ in pairs], [s for _, s in pairs]


def _inside(series: GpuSeries, windows: Sequence[Edges]) -> list[GpuSample]:
    return [sample for edges in windows for sample in _window(series, edges)[1]]


def _foreign(
    gpus: Mapping[str, GpuSeries], windows: Sequence[Edges], own_pids: Collection[int], names: Mapping[int, str]
) -> tuple[str, ...]:
    """Others seen in a window, or in the last look before it: who was there at its edge was there inside."""
    found: dict[int, None] = {}
    for series in gpus.values():
        for begin_ns, end_ns in windows:
            before = [entry for entry in series.processes if entry[0] < begin_ns][-1:]
            inside = [entry for entry in series.processes if begin_ns <= entry[0] <= end_ns]
            for _, processes in (*before, *inside):
                found |= {process.pid: None for process in processes or () if process.pid not in own_pids}
    return tuple(f"{pid} ({names.get(pid, 'unknown')})" for pid in found)


def _peak_memory(inside: Mapping[str, Sequence[GpuSample]]) -> float | None:
    peaks = [
        max((sample.memory_used_b for sample in samples if sample.memory_used_b is not None), default=None)
        for samples in inside.values()
    ]
    known = [peak for peak in peaks if peak is not None]
    return float(sum(known)) if known and len(known) == len(peaks) else None


def _worst(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
