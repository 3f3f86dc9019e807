"""What watches a run from outside: the gate before it, the baselines around it, the meters through it.

`NoSensors` is what a host without GPU sensors has: a fixed gap, and baselines that are None with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lem_runner.results import WindowRecord
from lemctl.cancel import Cancel
from lemctl.errors import FaultKind, RunFailed
from lemctl.judge.measured import Absent, BaselineName, Energy, Quantity, Scope
from lemctl.measure.baseline import Baseline, combine_baselines
from lemctl.measure.energy import NoEnergy
from lemctl.measure.host import HostEnergy, HostMeters
from lemctl.thermal.gate import StartState

BaselineKind = Literal["B0", "B1", "B2_before", "B2_after"]
#: Waits with the engine loaded, the session's watchdogs on.
Idle = Callable[[float], None]


class Tell(Protocol):
    """Who passes on to `status` what is waited for."""

    def __call__(self, text: str, cooling_to_c: Mapping[str, float] | None = None, /) -> None:
        """In words; of GPUs that cool, by UUID, down to which temperature where that is known."""
        ...


@dataclass(frozen=True)
class GateSpec:
    """The campaign's gate: `cool` (needs sensors), `steady` or `fixed`; `gap_s` where there are none."""

    kind: Literal["cool", "steady", "fixed"]
    max_s: float
    gap_s: float
    #: Names what the GPU holds while it waits: `unloaded`, or the session whose model is loaded.
    state: str = "unloaded"


@dataclass(frozen=True)
class GateRecord:
    """How the gate opened: stored with the attempt as a covariate."""

    kind: str
    waited_s: float
    start_state: StartState
    note: str = ""
    temps_c: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class BaselineRecord:
    """Idle power in W with its standard uncertainty, or None with the reason."""

    kind: BaselineKind
    power_w: float | None
    uncertainty_w: float | None
    reason: str | None
    #: Of B0: relative change since the campaign's first one, where this is another.
    shift: float | None = None


@dataclass(frozen=True)
class Watched:
    """What the meters saw in the windows of one attempt; `evidence` are fields of `judge.verdict.Evidence`."""

    energy: Mapping[Scope, Energy | Absent] = field(default_factory=dict)
    quantities: Mapping[str, float | Absent] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)


class MetersFailed(RunFailed):
    """The meters of a lane are gone; it needs new ones before its next run. `gpus` are UUIDs of those they read."""

    def __init__(self, kind: FaultKind, message: str, gpus: tuple[str, ...]):
        super().__init__(kind, message)
        self.gpus = gpus


class Instruments(Protocol):
    """The meters of one lane."""

    @property
    def has_sensors(self) -> bool:
        """Whether the device's power can be read."""
        ...

    @property
    def watches_warmup(self) -> bool:
        """Whether sensors tell when the device has stopped warming up."""
        ...

    def watch_warmup(self, release: Callable[[], None], max_s: float) -> None:
        """Call `release` once, from any thread, when temperature and clocks stand still; not after `max_s`."""
        ...

    def gate(self, spec: GateSpec, idle: Idle, cancel: Cancel, tell: Tell) -> GateRecord:
        """Wait until the run may start."""
        ...

    def baseline(self, kind: BaselineKind, seconds: float, idle: Idle, tell: Tell) -> BaselineRecord:
        """Measure idle power for so long."""
        ...

    def begin_attempt(self, attempt_id: int) -> None:
        """Sample at full rate from now on."""
        ...

    def end_attempt(self, windows: list[WindowRecord]) -> Watched:
        """The tail is sampled, the rate falls back; what the windows held."""
        ...

    def rest(self) -> None:
        """Nothing is measured for a while."""
        ...

    def obstacle(self) -> str | None:
        """Who else uses the device, so that no run should begin; None when nobody does. Never waits."""
        ...

    def memory_obstacle(self, wait: Callable[[float], None], patience_s: float) -> str | None:
        """After an engine's end: why the device is not free again after so long, None as soon as it is."""
        ...

    def explained(self, fault: RunFailed, since_mono_ns: int) -> RunFailed:
        """The fault of an attempt that began then, with what the driver said of the device meanwhile."""
        ...

    def peaks(self, precision: str) -> Mapping[str, float | Absent]:
        """`peak_flops_per_s` and `peak_bytes_per_s` of the device in this precision."""
        ...

    def close(self) -> None:
        """Stop the meters."""
        ...


class NoSensors:
    """A lane whose device has no meter."""

    has_sensors = False
    watches_warmup = False

    def __init__(self, reason: str, monotonic_ns: Callable[[], int]):
        self.reason = reason
        self._monotonic_ns = monotonic_ns

    def gate(self, spec: GateSpec, idle: Idle, cancel: Cancel, tell: Tell) -> GateRecord:
        """The fixed gap, recorded as such; nothing to wait for in `steady`."""
        if spec.kind == "steady" or spec.gap_s == 0:
            return GateRecord(spec.kind, 0.0, "ungated" if spec.kind == "steady" else "fixed", self.reason)
        tell(f"fixed gap of {spec.gap_s:g} s")
        began_ns = self._monotonic_ns()
        idle(spec.gap_s)
        cancel.raise_if_set()
        return GateRecord(spec.kind, (self._monotonic_ns() - began_ns) / 1e9, "fixed", self.reason)

    def baseline(self, kind: BaselineKind, seconds: float, idle: Idle, tell: Tell) -> BaselineRecord:  # noqa: ARG002 - the Protocol
        """Never waited for."""
        return BaselineRecord(kind, None, None, self.reason)

    def begin_attempt(self, attempt_id: int) -> None:
        """Nothing to start."""

    def watch_warmup(self, release: Callable[[], None], max_s: float) -> None:
        """Nothing sees it."""

    def end_attempt(self, windows: list[WindowRecord]) -> Watched:  # noqa: ARG002 - the Protocol
        """Nothing was seen, and why."""
        absent = Absent(self.reason)
        return Watched({"gpu": absent, "gpu_series": absent, "gpu_not_allotted": absent})

    def rest(self) -> None:
        """Nothing to slow down."""

    def obstacle(self) -> str | None:
        """Nobody sees who does."""
        return None

    def memory_obstacle(self, wait: Callable[[float], None], patience_s: float) -> str | None:  # noqa: ARG002 - the Protocol
        """A process that has ended has freed its memory."""
        return None

    def explained(self, fault: RunFailed, since_mono_ns: int) -> RunFailed:  # noqa: ARG002 - the Protocol's signature
        """Nobody said anything."""
        return fault

    def peaks(self, precision: str) -> Mapping[str, float | Absent]:  # noqa: ARG002 - the Protocol
        """None is known."""
        absent = Absent(self.reason)
        return {"peak_flops_per_s": absent, "peak_bytes_per_s": absent}

    def close(self) -> None:
        """Nothing to stop."""


#: Host meters are read once a second: the reading after the window's end is waited for.
HOST_TAIL_S = 1.5


def host_energies(meters: HostMeters, windows: list[WindowRecord]) -> dict[Scope, Energy | Absent]:
    """Energy of CPU and memory over all windows, measured or estimated, or why there is none."""
    energies: dict[Scope, Energy | Absent] = {}
    parts = [meters.energy_between(w.t_begin_ns, w.t_end_ns) for w in windows]
    for scope in ("cpu", "ram"):
        found = [part[scope] for part in parts]
        known = [energy for energy in found if isinstance(energy, HostEnergy)]
        if len(known) == len(found) and known:
            total_j, u_j = sum(e.energy_j for e in known), sum(e.u_j**2 for e in known) ** 0.5
            energies[scope] = Energy(total_j, u_j, known[0].meter, known[0].basis)
        else:
            energies[scope] = Absent(next(e.reason for e in found if isinstance(e, NoEnergy)))
    return energies


def baseline_quantity(records: list[BaselineRecord], name: BaselineName) -> Quantity | Absent:
    """One baseline for the metrics. B2 combines before and after; their difference enters its uncertainty."""
    found = [r for r in records if r.kind.lower().startswith(name)]
    known = [Baseline(r.power_w, 0.0, r.uncertainty_w or 0.0, 0, 0.0) for r in found if r.power_w is not None]
    if not known:
        return Absent(found[0].reason or "not taken") if found else Absent(f"baseline {name.upper()} was not taken")
    if len(known) == 1:
        return Quantity(known[0].power_w, known[0].u_w)
    return Quantity(*combine_baselines(known[0], known[-1]))
