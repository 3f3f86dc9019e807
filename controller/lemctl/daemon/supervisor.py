"""What a service manager is told: ready, alive, leaving. The protocol of sd_notify(3): a datagram to a socket that the
environment names; without one nobody is told anything."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from lemctl.clock import Clock

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Supervisor:
    """A chore of the daemon: as long as it ticks, the manager hears so. One that hangs is ended and started anew."""

    def __init__(self, clock: Clock, environment: MutableMapping[str, str] | None = None):
        """Takes its variables out of the environment: no child of ours speaks in our name."""
        known = os.environ if environment is None else environment
        address, period_us, pid = (known.pop(name, "") for name in _VARIABLES)
        self._clock = clock
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        is_watched = period_us.isdigit() and pid in ("", str(os.getpid()))
        #: A third of the limit, so that one late tick is no hang.
        self.period_s = int(period_us) / 3e6 if is_watched and self._address else None
        self._told_ns: int | None = None

    def ready(self) -> None:
        """The daemon has recovered what was left, and ticks."""
        self._tell("READY=1")

    def tick(self) -> None:
        """Once in a third of the manager's patience."""
        now_ns = self._clock.monotonic_ns()
        due = self._told_ns is None or (self.period_s is not None and now_ns - self._told_ns >= self.period_s * 1e9)
        if self.period_s is not None and due:
            self._told_ns = now_ns
            self._tell("WATCHDOG=1")

    def close(self) -> None:
        """The daemon leaves: what it still ends may take a while."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talk:
                talk.settimeout(1.0)
                talk.sendto(state.encode(), self._address)
        except OSError:
            return  # a manager that is gone hears nothing; the daemon goes on
