"""Time as an argument: one true clock, and one that a simulation or a test moves.

Durations are monotonic nanoseconds, timestamps are UTC. Nothing else in lemctl reads a clock.
"""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What lemctl asks of time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on an axis that never steps; the same axis in every process and container of this boot."""
        ...

    def boottime_ns(self) -> int:
        """As `monotonic_ns`, but running on while the host is suspended."""
        ...

    def boot(self) -> str:
        """Id of this boot, on which both axes count."""
        ...

    def utc(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until `event` is set, at most `timeout_s`; True when it is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic_ns(self) -> int:
        """`time.monotonic_ns()`."""
        return time.monotonic_ns()

    def boottime_ns(self) -> int:
        """`CLOCK_BOOTTIME`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        """As the kernel names it."""
        return boot_id()

    def utc(self) -> datetime:
        """Now, aware, UTC."""
        return datetime.now(UTC)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait in real time."""
        return event.wait(max(0.0, timeout_s))


class SimulatedClock:
    """A clock that moves only when somebody waits: a week passes in as long as its decisions take."""

    def __init__(self, start_utc: datetime, start_mono_ns: int = 0, boot: str = "simulated"):
        self._utc0 = start_utc
        self._mono0_ns = start_mono_ns
        self._elapsed_ns = 0
        self._slept_ns = 0
        self._boot = boot
        self._lock = threading.Lock()

    def monotonic_ns(self) -> int:
        """Simulated monotonic time."""
        with self._lock:
            return self._mono0_ns + self._elapsed_ns

    def boottime_ns(self) -> int:
        """Simulated monotonic time with what the host slept."""
        with self._lock:
            return self._mono0_ns + self._elapsed_ns + self._slept_ns

    def boot(self) -> str:
        """The boot that it was made for, or rebooted into."""
        return self._boot

    def utc(self) -> datetime:
        """Simulated wall time."""
        with self._lock:
            return self._utc0 + timedelta(microseconds=(self._elapsed_ns + self._slept_ns) // 1000)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Move on by the timeout at once, unless the event is set already."""
        if event.is_set():
            return True
        self.advance(timeout_s)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Move time on."""
        with self._lock:
            self._elapsed_ns += max(0, round(seconds * 1e9))

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock forward (or back, below 0); nothing else notices."""
        with self._lock:
            self._utc0 += timedelta(seconds=seconds)

    def suspend(self, seconds: float) -> None:
        """The host sleeps: the wall clock goes on, monotonic time does not."""
        with self._lock:
            self._slept_ns += round(seconds * 1e9)

    def reboot(self, boot: str, seconds: float) -> None:
        """The host is off for a while; monotonic time begins anew."""
        with self._lock:
            self._utc0 += timedelta(microseconds=(self._elapsed_ns + self._slept_ns) // 1000, seconds=seconds)
            self._mono0_ns = self._elapsed_ns = self._slept_ns = 0
            self._boot = boot


@dataclass(frozen=True)
class ClockMark:
    """All three clocks at one moment: what between two marks differs was a step or a suspend."""

    mono_ns: int
    boot_ns: int
    utc: datetime

    @classmethod
    def now(cls, clock: Clock) -> ClockMark:
        """This moment."""
        return cls(clock.monotonic_ns(), clock.boottime_ns(), clock.utc())

    def suspended_s(self, later: ClockMark) -> float:
        """Seconds that the host slept between the marks."""
        return ((later.boot_ns - self.boot_ns) - (later.mono_ns - self.mono_ns)) / 1e9

    def step_s(self, later: ClockMark) -> float:
        """Seconds by which the wall clock was set between the marks, sleep not counted."""
        return (later.utc - self.utc).total_seconds() - (later.boot_ns - self.boot_ns) / 1e9


@dataclass(frozen=True)
class Deadline:
    """A moment some seconds away. In the boot in which it was set it is kept on the axis that no hand moves; after a
    reboot the wall clock is all there is. Without an axis it is an hour that a person named."""

    at_utc: str
    boottime_ns: int | None = None
    boot: str | None = None

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Deadline:
        """So many seconds from now."""
        at_utc = utc_text(clock.utc() + timedelta(seconds=seconds))
        return cls(at_utc, clock.boottime_ns() + round(seconds * 1e9), clock.boot())

    def left_s(self, clock: Clock) -> float:
        """Seconds that are left, below 0 once it has passed."""
        if self.boottime_ns is not None and self.boot == clock.boot():
            return (self.boottime_ns - clock.boottime_ns()) / 1e9
        return (datetime.fromisoformat(self.at_utc) - clock.utc()).total_seconds()


@functools.cache
def boot_id() -> str:
    """The kernel's id of this boot; monotonic times of different boots do not compare."""
    try:
        return BOOT_ID_FILE.read_text().strip()
    except OSError:
        return "unknown"


def utc_text(moment: datetime) -> str:
    """ISO 8601 with microseconds and Z: sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
