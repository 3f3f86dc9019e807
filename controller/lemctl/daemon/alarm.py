"""The alarm clock: rings once at a moment of the wall clock. Nothing is decided here, and nothing is kept: what is due
is in the database, and is looked at whenever it rings.

An alarm oversleeps where the clock is set forward or the host is suspended; the daemon looks now and then without it.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any, Protocol

from lemctl.clock import Clock


class Alarm(Protocol):
    """What the daemon asks of it."""

    def set(self, at: datetime | None) -> None:
        """Ring then, instead of when it was set before; None: not at all."""
        ...

    def has_rung(self) -> bool:
        """Whether it has, since it was asked last."""
        ...

    def close(self) -> None:
        """Never ring again."""
        ...


class SchedulerAlarm:
    """APScheduler with a memory job store: what it misses it makes up for, once. It is made when first set."""

    def __init__(self, wake: threading.Event):
        self._wake = wake
        self._rung = threading.Event()
        self._at: datetime | None = None
        self._scheduler: Any = None

    def set(self, at: datetime | None) -> None:
        """A job of one date."""
        if at == self._at:
            return
        self._at = at
        if self._scheduler is None:
            if at is None:
                return
            self._scheduler = _started_scheduler()
        if at is None:
            self._scheduler.remove_all_jobs()
        else:
            self._scheduler.add_job(self._ring, "date", run_date=at, id="look", replace_existing=True)

    def has_rung(self) -> bool:
        """Whether the job has run."""
        if not self._rung.is_set():
            return False
        self._rung.clear()
        self._at = None
        return True

    def close(self) -> None:
        """End its thread."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)

    def _ring(self) -> None:
        self._rung.set()
        self._wake.set()


def _started_scheduler() -> Any:
    from apscheduler.executors.debug import DebugExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    # A job only sets a flag: it runs in the scheduler's own thread.
    scheduler = BackgroundScheduler(
        executors={"default": DebugExecutor()},
        job_defaults={"misfire_grace_time": None, "coalesce": True},
        timezone="UTC",
        daemon=True,
    )
    scheduler.start()
    return scheduler


class ClockAlarm:
    """One that looks at a clock: for time that is moved by hand."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self.at: datetime | None = None

    def set(self, at: datetime | None) -> None:
        """Remember it."""
        self.at = at

    def has_rung(self) -> bool:
        """Whether the moment has come."""
        if self.at is None or self._clock.utc() < self.at:
            return False
        self.at = None
        return True

    def close(self) -> None:
        """There is nothing to end."""
