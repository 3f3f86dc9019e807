"""`events.jsonl`: what the runner tells the controller, in order, one whole line at a time."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from lem_runner.failures import SessionFolderError
from lem_runner.protocol import EVENTS_FILE, Event, EventType


class EventLog:
    """The only writer of the event file of one session. Safe from any thread."""

    def __init__(self, folder: Path) -> None:
        """Create the file; `FileExistsError` if the folder has served a session before."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(folder / EVENTS_FILE, flags, 0o644)
        self._lock = threading.Lock()
        self._seq = 0

    def emit(self, kind: EventType, data: dict[str, Any], attempt: str = "") -> None:
        """Append one event. `SessionFolderError` if it cannot be written whole: the stream is torn then."""
        with self._lock:
            line = Event(self._seq, time.monotonic_ns(), attempt, kind, data).encode()
            self._seq += 1
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except OSError as error:
                raise SessionFolderError(f"{EVENTS_FILE} cannot be written: {error.strerror}") from error
