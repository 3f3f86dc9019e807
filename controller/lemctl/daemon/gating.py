"""The gate as the daemon waits at it: the thermal loop, with waits that keep the session's watchdogs on."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from lemctl.cancel import Cancel
from lemctl.clock import Clock
from lemctl.daemon.instruments import GateRecord, GateSpec, Idle, Tell
from lemctl.thermal.gate import GateSettings, Reference, Wait
from lemctl.thermal.loop import GateCancelled, ReadingSource, pass_gate

#: How often `status` is told what the gate waits for.
TELL_EVERY_S = 5.0


class IdleClock:
    """A clock whose waits are spent idling."""

    def __init__(self, clock: Clock, idle: Idle):
        self.monotonic_ns = clock.monotonic_ns
        self._idle = idle

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Idle for so long, then look."""
        self._idle(timeout_s)
        return event.is_set()


def wait_at_gate(
    spec: GateSpec,
    source: ReadingSource,
    clock: Clock,
    idle: Idle,
    cancel: Cancel,
    references: Mapping[str, Reference],
    tell: Tell,
) -> tuple[GateRecord, Mapping[str, Reference]]:
    """Wait; how it opened, and the references of this state as refined. Raises what the cancel asks for."""
    told_s = -TELL_EVERY_S

    def on_wait(wait: Wait, waited_s: float) -> None:
        nonlocal told_s
        if waited_s - told_s >= TELL_EVERY_S:
            told_s = waited_s
            left = "" if wait.remaining_s is None else f", about {wait.remaining_s:.0f} s more"
            tell(f"{wait.reason} ({waited_s:.0f} s so far{left})", wait.targets_c)

    settings = GateSettings(kind=spec.kind, max_s=spec.max_s, gap_s=spec.gap_s)
    try:
        outcome = pass_gate(settings, source, IdleClock(clock, idle), cancel.event, references, on_wait)
    except GateCancelled:
        cancel.raise_if_set()
        raise
    return (
        GateRecord(spec.kind, outcome.waited_s, outcome.start_state, outcome.reason, dict(outcome.temps_c)),
        outcome.references,
    )
