"""What the live screen shows, read from the database little by little. No widget in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lemctl.cli.logs import parts_of
from lemctl.cli.status_view import read_status
from lemctl.cli.watch.runs_left import RunsLeft
from lemctl.clock import Clock
from lemctl.errors import NotFound
from lemctl.paths import Home
from lemctl.report.status import Status
from lemctl.store.database import Store
from lemctl.store.read_results import log_places
from lemctl.store.read_traces import Device, devices, power_since

NS_PER_S = 1_000_000_000
#: Seconds of history that a line of blocks shows, a value a second.
HISTORY_S = 120
LOG_LINES = 200
#: name -> (key of the stored reading, factor to the unit, unit).
TRACES: Mapping[str, tuple[str, float, str]] = {
    "power": ("power_mw", 1e-3, "W"),
    "temperature": ("temp_c", 1.0, "C"),
    "utilisation": ("gpu_utilisation_pct", 1.0, "%"),
    "SM clock": ("sm_clock_mhz", 1.0, "MHz"),
}


@dataclass
class History:
    """One GPU's last two minutes: per trace the mean of each second, None where the sensor told nothing."""

    device: Device
    seen_ns: int = 0
    seconds: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY_S))
    values: dict[str, deque[float | None]] = field(
        default_factory=lambda: {name: deque(maxlen=HISTORY_S) for name in TRACES}
    )

    def take(self, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Add rows in order of time. A second that has begun is shown with its first values and not changed after."""
        by_second: dict[int, list[Mapping[str, Any]]] = {}
        for t_mono_ns, reading in rows:
            self.seen_ns = max(self.seen_ns, t_mono_ns)
            by_second.setdefault(t_mono_ns // NS_PER_S, []).append(reading)
        for second, readings in by_second.items():
            if self.seconds and second <= self.seconds[-1]:
                continue
            self.seconds.append(second)
            for name, (key, factor, _) in TRACES.items():
                told = [reading[key] * factor for reading in readings if reading.get(key) is not None]
                self.values[name].append(sum(told) / len(told) if told else None)

    def forget(self, before_ns: int) -> None:
        """Drop the seconds that ended before a time."""
        while self.seconds and (self.seconds[0] + 1) * NS_PER_S <= before_ns:
            self.seconds.popleft()
            for values in self.values.values():
                values.popleft()

    def now(self, trace: str) -> float | None:
        """The newest value."""
        return self.values[trace][-1] if self.values[trace] else None


@dataclass
class Picture:
    """One look, at the monotonic time `at_ns`. `has_moved`: the queue may be another than at the look before."""

    status: Status
    at_ns: int
    histories: Sequence[History]
    has_moved: bool
    log: str


class Reader:
    """Reads what is new. Owned by one thread."""

    def __init__(self, home: Home, clock: Clock):
        self._home = home
        self._clock = clock
        self._store = Store.open(home, "read")
        self._histories: dict[int, History] = {}
        self.runs = RunsLeft(self._store)

    def look(self) -> Picture:
        """The state now. Raises what the store raises."""
        status = read_status(self._store, self._home)
        now_ns = self._clock.monotonic_ns()
        has_moved = self.runs.look(None if status.first is None else status.first.id)
        return Picture(status, now_ns, self._look_at_devices(now_ns), has_moved, self._log(status))

    def close(self) -> None:
        """Give the database back."""
        self._store.close()

    def _look_at_devices(self, now_ns: int) -> list[History]:
        connection, boot_id = self._store.connection, self._clock.boot()
        since_ns = now_ns - HISTORY_S * NS_PER_S
        for device in devices(connection):
            history = self._histories.setdefault(device.row, History(device))
            history.take(power_since(connection, device.row, boot_id, max(since_ns, history.seen_ns)))
            history.forget(since_ns)
        return list(self._histories.values())

    def _log(self, status: Status) -> str:
        run = next((lane.document["run"] for lane in status.lanes), None)
        if run is None:
            return "nothing runs"
        try:
            place = log_places(self._store.connection, int(run), None)
        except NotFound:
            return "the attempt has not begun"
        parts = parts_of(place, self._home)
        texts = [part.read().decode(errors="replace") for part in parts.values()]
        lines = [line for text in texts for line in text.splitlines()]
        return "\n".join(lines[-LOG_LINES:]) or "the engine has said nothing yet"
