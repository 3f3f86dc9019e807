"""Energy of CPU and memory beside a run: RAPL where it can be read, else codecarbon's estimate, each said to be which.

`HostMeters` reads RAPL once a second on a thread of its own (a few small files) and codecarbon from its child process.
Both are cumulative, so a window's energy is interpolated at its edges exactly as with the GPU's counter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lemctl.measure.cpu import RaplScope, RaplUnavailableError, RaplZone, energy_between_j, find_zones, read_zones
from lemctl.measure.energy import NoEnergy, energy_from_counter
from lemctl.measure.readings import CounterTick

PERIOD_S = 1.0
#: Readings kept: two hours, more than any run's limit.
KEPT = 7200
_SCOPES: tuple[RaplScope, ...] = ("cpu", "ram")
_PASSED_ENVIRONMENT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "HOME", "LANG", "LC_ALL", "TZ")
_STOP_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class HostEnergy:
    """Energy of one scope in J with its standard uncertainty; `basis` says whether the meter measures."""

    energy_j: float
    u_j: float
    meter: Literal["rapl", "codecarbon"]
    basis: Literal["measured", "estimated"]


class HostMeters:
    """The meters of CPU and memory, a context manager.

    `country_iso_code` (three letters, with a `region` of it if wanted) turns codecarbon on; it is asked
    for nothing but energy here, but does not start without one. `zones` are RAPL's, None to look for them.
    """

    def __init__(
        self,
        country_iso_code: str | None = None,
        *,
        region: str | None = None,
        zones: list[RaplZone] | None = None,
        carbon_command: list[str] | None = None,
    ):
        self._country, self._region = country_iso_code, region
        self._command = carbon_command or [sys.executable, "-m", "lemctl.measure.carbon"]
        self._reasons: dict[str, str] = {}
        try:
            self._zones = find_zones() if zones is None else zones
        except RaplUnavailableError as error:
            self._zones, self._reasons["rapl"] = [], str(error)
        self._ticks: dict[tuple[str, RaplScope], deque[CounterTick]] = {}
        self._is_cpu_counted = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._carbon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> HostMeters:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to read; a meter that cannot start is absent with its reason."""
        if self._zones:
            self._spawn(self._read_rapl)
        if self._country is None:
            self._reasons["codecarbon"] = "no country is configured"
            return
        settings = json.dumps({"country_iso_code": self._country, "region": self._region, "period_s": PERIOD_S})
        self._carbon = subprocess.Popen(
            [*self._command, settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ},
        )
        self._spawn(self._read_carbon)

    def stop(self) -> None:
        """End the child and the threads."""
        self._stopped.set()
        if self._carbon is not None:
            if self._carbon.stdin is not None:
                self._carbon.stdin.close()
            try:
                self._carbon.wait(_STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._carbon.kill()
                self._carbon.wait(_STOP_PATIENCE_S)
        for thread in self._threads:
            thread.join(_STOP_PATIENCE_S)
        if self._carbon is not None and self._carbon.stdout is not None:
            self._carbon.stdout.close()
        self._carbon = None

    @property
    def has_meter(self) -> bool:
        """Whether any meter was started; without one there is nothing to wait for."""
        return bool(self._zones) or self._country is not None

    def energy_between(self, t_begin_ns: int, t_end_ns: int) -> dict[RaplScope, HostEnergy | NoEnergy]:
        """Energy of each scope between two monotonic times: measured where it can be, else estimated, else why not."""
        return {scope: self._energy_of(scope, t_begin_ns, t_end_ns) for scope in _SCOPES}

    def _energy_of(self, scope: RaplScope, t_begin_ns: int, t_end_ns: int) -> HostEnergy | NoEnergy:
        reasons = []
        for meter in ("rapl", "codecarbon"):
            with self._lock:
                ticks = list(self._ticks.get((meter, scope), ()))
                reason = self._reasons.get(meter)
            found = energy_from_counter(ticks, t_begin_ns, t_end_ns) if ticks else NoEnergy(reason or "no reading")
            if isinstance(found, NoEnergy):
                reasons.append(f"{meter}: {found.reason}")
            elif meter == "rapl":
                return HostEnergy(found.energy_j, found.u_j, "rapl", "measured")
            else:
                is_measured = scope == "cpu" and self._is_cpu_counted
                basis: Literal["measured", "estimated"] = "measured" if is_measured else "estimated"
                return HostEnergy(found.energy_j, found.u_j, "codecarbon", basis)
        return NoEnergy("; ".join(reasons))

    def _spawn(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"host-meter-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read_rapl(self) -> None:
        total_j = dict.fromkeys(_SCOPES, 0.0)
        try:
            last = read_zones(self._zones)
            while True:
                self._keep("rapl", {zone.scope: total_j[zone.scope] for zone in self._zones}, time.monotonic_ns())
                if self._stopped.wait(PERIOD_S):
                    return
                now = read_zones(self._zones)
                for scope, gained_j in energy_between_j(self._zones, last, now).items():
                    total_j[scope] += gained_j
                last = now
        except RaplUnavailableError as error:
            with self._lock:
                self._reasons["rapl"] = str(error)

    def _read_carbon(self) -> None:
        carbon = self._carbon
        if carbon is None or carbon.stdout is None:
            return
        for line in carbon.stdout:
            told = json.loads(line)
            if "unavailable" in told:
                with self._lock:
                    self._reasons["codecarbon"] = told["unavailable"]
                return
            self._is_cpu_counted = told["cpu_basis"] == "measured"
            self._keep("codecarbon", {"cpu": told["cpu_j"], "ram": told["ram_j"]}, told["t_mono_ns"])
        with self._lock:
            self._reasons.setdefault("codecarbon", "codecarbon's process ended")

    def _keep(self, meter: str, total_j: Mapping[RaplScope, float], t_ns: int) -> None:
        with self._lock:
            for scope, energy_j in total_j.items():
                ticks = self._ticks.setdefault((meter, scope), deque(maxlen=KEPT))
                # Read at this moment, not found between two polls: the value belongs to the time itself.
                ticks.append(CounterTick(t_ns, t_ns, round(energy_j * 1e3)))
