"""The meters of the computed GPU: the real gate over its whole-degree sensor, energy from its own integral."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lem_runner.results import WindowRecord
from lemctl.cancel import Cancel
from lemctl.clock import SimulatedClock
from lemctl.daemon.gating import wait_at_gate
from lemctl.daemon.instruments import BaselineKind, BaselineRecord, GateRecord, GateSpec, Idle, Tell, Watched
from lemctl.errors import RunFailed
from lemctl.judge.measured import Absent, Energy
from lemctl.measure.readings import Reading
from lemctl.simulate.device import SimulatedGpu
from lemctl.simulate.sampler import GPU, SimulatedSampler
from lemctl.thermal.gate import Reference

COUNTER_TICK_S = 0.1


class SimulatedInstruments:
    """An `Instruments` over a `SimulatedGpu`."""

    has_sensors = True
    watches_warmup = False

    def __init__(self, gpu: SimulatedGpu, clock: SimulatedClock, sampler: SimulatedSampler):
        self._gpu = gpu
        self._clock = clock
        self._sampler = sampler
        self._references: dict[str, Mapping[str, Reference]] = {}
        self._began: tuple[float, int] = (0.0, 0)

    def gate(self, spec: GateSpec, idle: Idle, cancel: Cancel, tell: Tell) -> GateRecord:
        """The real loop; its waits are the session's."""
        known = self._references.get(spec.state, {})
        record, self._references[spec.state] = wait_at_gate(spec, self, self._clock, idle, cancel, known, tell)
        return record

    def latest(self) -> Mapping[str, Reading]:
        """One look at the sensor."""
        now_ns = self._clock.monotonic_ns()
        self._gpu.advance(now_ns / 1e9)
        busy = 1.0 if self._gpu.load == "work" else 0.0
        return {GPU: Reading(now_ns, self._gpu.sensor_c(), self._gpu.power_w(), busy, None)}

    def baseline(self, kind: BaselineKind, seconds: float, idle: Idle, tell: Tell) -> BaselineRecord:
        """Mean power over the interval; the sensor's noise is its uncertainty."""
        tell(f"{kind}: idle power over {seconds:g} s")
        self._sampler.set_rate("fast")
        before_j, before_ns = self._energy_j(), self._clock.monotonic_ns()
        idle(seconds)
        elapsed_s = (self._clock.monotonic_ns() - before_ns) / 1e9
        if elapsed_s <= 0:
            return BaselineRecord(kind, None, None, "the wait was cut short")
        return BaselineRecord(kind, (self._energy_j() - before_j) / elapsed_s, 0.3, None)

    def _energy_j(self) -> float:
        self._gpu.advance(self._clock.monotonic_ns() / 1e9)
        return self._gpu.energy_j

    def watch_warmup(self, release: Callable[[], None], max_s: float) -> None:
        """A computed warm-up has its length."""

    def begin_attempt(self, attempt_id: int) -> None:  # noqa: ARG002 - the Protocol
        """The integral from here on is the attempt's."""
        self._sampler.set_rate("fast")
        self._began = (self._gpu.energy_j, self._clock.monotonic_ns())

    def end_attempt(self, windows: list[WindowRecord]) -> Watched:
        """Energy of the windows: the computed GPU draws one power through warm-up and window but for its leakage."""
        began_j, began_ns = self._began
        total_s = (self._clock.monotonic_ns() - began_ns) / 1e9
        window_s = sum(w.t_end_ns - w.t_begin_ns for w in windows) / 1e9
        power_w = (self._gpu.energy_j - began_j) / total_s
        energy_j = power_w * window_s
        u_j = power_w * COUNTER_TICK_S / 12**0.5
        return Watched({"gpu": Energy(energy_j, u_j, "simulated counter")}, {"temperature_c": self._gpu.sensor_c()})

    def rest(self) -> None:
        """Nothing is measured for a while: one look a second."""
        self._sampler.set_rate("idle")

    def obstacle(self) -> str | None:
        """A computed device is ours alone."""
        return None

    def memory_obstacle(self, wait: Callable[[float], None], patience_s: float) -> str | None:  # noqa: ARG002 - the Protocol
        """Computed engines hold no memory."""
        return None

    def explained(self, fault: RunFailed, since_mono_ns: int) -> RunFailed:  # noqa: ARG002 - the Protocol
        """A computed device has no driver that could say anything."""
        return fault

    def peaks(self, precision: str) -> Mapping[str, float | Absent]:  # noqa: ARG002 - the Protocol
        """A computed GPU has no data sheet."""
        absent = Absent("a simulated GPU has no published peak")
        return {"peak_flops_per_s": absent, "peak_bytes_per_s": absent}

    def close(self) -> None:
        """Write what is held."""
        self._sampler.flush()
