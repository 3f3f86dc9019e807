"""The meters of the computed GPU: the real gate over its whole-degree sensor, energy from its own integral."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping

from lem_runner.protocol import WindowRecord
from lemctl.cancel import Cancel
from lemctl.clock import SimulatedClock
from lemctl.daemon.instruments import BaselineKind, BaselineRecord, GateRecord, GateSpec, Idle, Tell, Watched
from lemctl.judge.measured import Energy
from lemctl.simulate.device import SimulatedGpu
from lemctl.measure.readings import Reading
from lemctl.thermal.gate import GateSettings, Reference, Wait
from lemctl.thermal.loop import pass_gate

_UUID = "GPU-simulated"
COUNTER_TICK_S = 0.1


class SimulatedInstruments:
    """An `Instruments` over a `SimulatedGpu`."""

    def __init__(self, gpu: SimulatedGpu, clock: SimulatedClock, rng: random.Random):
        self._gpu = gpu
        self._clock = clock
        self._rng = rng
        self._references: Mapping[str, Reference] = {}
        self._began: tuple[float, int] = (0.0, 0)

    def gate(self, spec: GateSpec, idle: Idle, cancel: Cancel, tell: Tell) -> GateRecord:
        """The real loop; its waits are the session's."""
        idling = _Idling(self._clock, idle)
        settings = GateSettings(kind=spec.kind, max_s=spec.max_s, gap_s=spec.gap_s)

        def on_wait(wait: Wait, waited_s: float) -> None:
            if waited_s % 30 < 1:
                tell(wait.reason)

        outcome = pass_gate(settings, self, idling, cancel.event, self._references, on_wait)
        self._references = outcome.references
        state = {"cool": "cool", "warm": "warm", "fixed": "gap", "ungated": "steady"}[outcome.start_state]
        return GateRecord(spec.kind, outcome.waited_s, state, outcome.reason, outcome.temps_c.get(_UUID))  # type: ignore[arg-type]

    def latest(self) -> Mapping[str, Reading]:
        """One look at the sensor."""
        now_ns = self._clock.monotonic_ns()
        self._gpu.advance(now_ns / 1e9)
        busy = 1.0 if self._gpu.load == "work" else 0.0
        return {_UUID: Reading(now_ns, self._gpu.sensor_c(), self._gpu.power_w(), busy, None)}

    def baseline(self, kind: BaselineKind, seconds: float, idle: Idle, tell: Tell) -> BaselineRecord:
        """Mean power over the interval; the sensor's noise is its uncertainty."""
        tell(f"{kind}: idle power over {seconds:g} s")
        before_j, before_ns = self._gpu.energy_j, self._clock.monotonic_ns()
        idle(seconds)
        elapsed_s = (self._clock.monotonic_ns() - before_ns) / 1e9
        if elapsed_s <= 0:
            return BaselineRecord(kind, None, None, "the wait was cut short")
        return BaselineRecord(kind, (self._gpu.energy_j - before_j) / elapsed_s, 0.3, None)

    def begin_attempt(self, attempt_id: int) -> None:  # noqa: ARG002
        """The integral from here on is the attempt's."""
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

    def close(self) -> None:
        """Nothing to stop."""


class _Idling:
    """A clock whose waits are the session's, so that its watchdogs stay on."""

    def __init__(self, clock: SimulatedClock, idle: Idle):
        self.monotonic_ns = clock.monotonic_ns
        self._idle = idle

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Idle for so long, then look."""
        self._idle(timeout_s)
        return event.is_set()
