"""What meters read, as values: units in the names, None where a sensor does not answer. No I/O, light imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

NS_PER_S = 1e9
MJ_PER_J = 1e3

#: Who the power of a GPU covers: on boards like GH200 only the module (CPU and GPU together) can be read.
PowerScope = Literal["gpu", "module"]
#: `instant` and `average` are NVML's field values; `usage` is nvmlDeviceGetPowerUsage, a 1 s mean on recent GPUs.
PowerSource = Literal["instant", "average", "usage"]


class GpuLostError(Exception):
    """A GPU fell off the bus, needs a reset, or a call to it never came back. The attempt is over."""


class NvmlUnavailableError(Exception):
    """There is no NVIDIA driver or library on this host; the message says which."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at one GPU, as the gate and `status` use it. What its sensors do not give is None."""

    t_mono_ns: int
    temp_c: float | None
    power_w: float | None = None
    gpu_utilisation: float | None = None
    """Share of time with a kernel running, 0 to 1."""
    sm_clock_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One row of the power series of one GPU, raw: as read, zeros included."""

    power_mw: int | None = None
    power_source: PowerSource | None = None
    power_scope: PowerScope | None = None
    power_average_mw: int | None = None
    temp_c: int | None = None
    memory_temp_c: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    gpu_utilisation_pct: int | None = None
    memory_utilisation_pct: int | None = None
    memory_used_b: int | None = None
    event_reasons: int | None = None
    """Bits of nvmlClocksEventReasons: see `throttling`."""
    policy_power_ns: int | None = None
    policy_thermal_ns: int | None = None
    """Cumulative time under the power cap and under a thermal slowdown."""

    def reading(self, t_mono_ns: int) -> Reading:
        """As the gate and `status` use it."""
        return Reading(
            t_mono_ns,
            self.temp_c,
            None if self.power_mw is None else self.power_mw / 1e3,
            None if self.gpu_utilisation_pct is None else self.gpu_utilisation_pct / 100,
            self.sm_clock_mhz,
        )

    def to_json(self) -> dict[str, Any]:
        """Only what was read, as plain JSON types."""
        # Not asdict: it copies deeply, and this runs ten times a second beside what is measured.
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GpuSample:
        """What `to_json` made. Raises TypeError for a key that is no reading."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds a context on a GPU."""

    pid: int
    kind: Literal["compute", "graphics"]
    used_b: int | None


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What does not change while a GPU is up. None where the driver does not tell; `missing` says why."""

    uuid: str
    index: int
    name: str
    vbios: str | None = None
    driver: str | None = None
    cuda_driver: str | None = None
    memory_total_b: int | None = None
    power_limit_mw: int | None = None
    power_limit_default_mw: int | None = None
    power_limit_min_mw: int | None = None
    power_limit_max_mw: int | None = None
    max_sm_clock_mhz: int | None = None
    slowdown_temp_c: int | None = None
    shutdown_temp_c: int | None = None
    ecc: bool | None = None
    persistence: bool | None = None
    mig: bool | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "missing": dict(self.missing)}


@dataclass(frozen=True, slots=True)
class CounterTick:
    """The energy counter showed `energy_mj` at `t_mono_ns` for the first time; at `t_before_ns` it still showed less.

    `polls` reads happened since the tick before. A tick whose energy equals its predecessor's is a sign of life of a
    counter that does not move.
    """

    t_mono_ns: int
    t_before_ns: int
    energy_mj: int
    polls: int = 1


@dataclass
class GpuSeries:
    """What was read of one GPU since `begin_record`, in order of time."""

    ticks: list[CounterTick] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    samples: list[GpuSample] = field(default_factory=list)
    processes: list[tuple[int, list[GpuProcess] | None]] = field(default_factory=list)

    def copy(self) -> GpuSeries:
        """A snapshot that no longer grows."""
        return GpuSeries(list(self.ticks), list(self.times_ns), list(self.samples), list(self.processes))

    def readings(self) -> list[Reading]:
        """The samples as the thermal decisions take them."""
        return [sample.reading(t_ns) for t_ns, sample in zip(self.times_ns, self.samples, strict=True)]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row for the store: a series of a GPU at a time, the reading as JSON types."""

    gpu: str
    series: Literal["counter", "power", "slow"]
    t_mono_ns: int
    reading: Mapping[str, Any]
