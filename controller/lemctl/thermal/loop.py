"""The loop around the gate's decision: read, decide, tell, wait. Its clock, its readings and its cancelling are given.

Cooling is no scheduled job but a state with a monotonic deadline: a restart or a cancel loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lemctl.measure.readings import NS_PER_S, Reading
from lemctl.thermal.gate import Cool, GateSettings, GiveUp, GpuHistory, Reference, StartState, Wait, decide
from lemctl.thermal.reference import LearningSettings, estimate_reference, learn

LOOK_EVERY_S = 1.0


class GateClock(Protocol):
    """What the loop asks of time; `lemctl.clock.Clock` has it."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never step."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until the event is set, at most `timeout_s`; True when it is set."""
        ...


class ReadingSource(Protocol):
    """The latest readings of the allotted GPUs; the sampler's parent side and its replays have it."""

    def latest(self) -> Mapping[str, Reading]:
        """The newest reading by GPU UUID, empty without sensors. Raises what the meter raises for a lost GPU."""
        ...


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """How the wait ended: covariates to store with the attempt, and the references as refined by it."""

    start_state: StartState
    reason: str
    waited_s: float
    temps_c: Mapping[str, float | None]
    references: Mapping[str, Reference]
    readings: Mapping[str, Sequence[Reading]]


class GateCancelled(Exception):
    """The wait was cancelled."""


def pass_gate(
    settings: GateSettings,
    source: ReadingSource,
    clock: GateClock,
    cancelled: threading.Event,
    references: Mapping[str, Reference],
    on_wait: Callable[[Wait, float], None] = lambda _wait, _waited_s: None,
    learning: LearningSettings | None = None,
) -> GateOutcome:
    """Wait until the gate opens or gives up; raises GateCancelled when `cancelled` is set meanwhile.

    `references` are those of the present state by GPU UUID (an empty mapping where none is known yet).
    `on_wait` is told each wait and the seconds waited so far, for `status`. Whatever the source raises passes through.
    """
    opened_ns = clock.monotonic_ns()
    histories: dict[str, list[Reading]] = {}
    while True:
        _take_in(histories, source.latest(), opened_ns)
        waited_s = (clock.monotonic_ns() - opened_ns) / NS_PER_S
        gpus = {gpu: GpuHistory(readings, references.get(gpu)) for gpu, readings in histories.items()}
        decision = decide(gpus, waited_s, settings)
        if isinstance(decision, Cool | GiveUp):
            learnt = _learn_all(histories, references, learning or LearningSettings(), isinstance(decision, Cool))
            return GateOutcome(decision.start_state, decision.reason, waited_s, decision.temps_c, learnt, histories)
        on_wait(decision, waited_s)
        if clock.wait(cancelled, LOOK_EVERY_S):
            raise GateCancelled(f"cancelled while waiting: {decision.reason}")


def _take_in(histories: dict[str, list[Reading]], latest: Mapping[str, Reading], opened_ns: int) -> None:
    for gpu, reading in latest.items():
        history = histories.setdefault(gpu, [])
        is_new = not history or reading.t_mono_ns > history[-1].t_mono_ns
        # A reading from before the gate closed belongs to the run before.
        if is_new and reading.t_mono_ns >= opened_ns - LOOK_EVERY_S * NS_PER_S:
            history.append(reading)


def _learn_all(
    histories: Mapping[str, Sequence[Reading]],
    references: Mapping[str, Reference],
    settings: LearningSettings,
    is_idle: bool,
) -> dict[str, Reference]:
    learnt = dict(references)
    for gpu, readings in histories.items():
        reference = learn(references.get(gpu), estimate_reference(readings, is_idle=is_idle), settings)
        if reference is not None:
            learnt[gpu] = reference
    return learnt
