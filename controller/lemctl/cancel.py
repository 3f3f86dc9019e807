"""How a run under way is told to end, and by whom: the first reason stands."""

from __future__ import annotations

import threading
from typing import Literal

from lemctl.errors import CancelledByPerson, Interrupted

Reason = Literal["interrupted", "cancelled"]


class Cancel:
    """Set once, from any thread; waits end when it is set."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason: Reason | None = None
        self.text = ""
        self._lock = threading.Lock()

    def set(self, reason: Reason, text: str) -> None:
        """Ask for the end; a second ask changes nothing."""
        with self._lock:
            if self.reason is None:
                self.reason, self.text = reason, text
        self.event.set()

    def raise_if_set(self) -> None:
        """Raise `Interrupted` or `CancelledByPerson` when the end was asked for."""
        if self.event.is_set():
            raise CancelledByPerson(self.text) if self.reason == "cancelled" else Interrupted(self.text)
