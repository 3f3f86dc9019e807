"""The parent's side of the sampler: starts the child, reads its pipe, knows the latest reading, kills it when it hangs.

One `SamplerProcess` watches all GPUs of a lane. A GPU that is lost or a call that never returns surfaces as
`GpuLostError` from `latest`, `check` and `wait_until`; a child that dies otherwise as `SamplerFailedError`.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lemctl.measure.readings import (
    CounterTick,
    GpuFacts,
    GpuLostError,
    GpuProcess,
    GpuSample,
    GpuSeries,
    NvmlUnavailableError,
    Reading,
    Sample,
)

#: What the child may see of our environment: enough to find Python and NVML, nothing secret.
PASSED_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ")
_STOP_PATIENCE_S = 2.0

_log = logging.getLogger(__name__)


class SamplerFailedError(Exception):
    """The sampler's process ended by itself; the message holds the end of its stderr."""


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """Rates and patience of the sampler, in s."""

    counter_s: float = 0.02
    power_s: float = 0.1
    slow_s: float = 1.0
    silent_s: float = 5.0
    """No line for so long means that a call into the driver hangs."""
    start_s: float = 30.0


class SamplerProcess:
    """A running sampler, a context manager.

    `gpus` are the UUIDs of the run, `watched` other GPUs of the host (read once a second, a line of their own; one that
    is lost is no longer watched, and `missing` says why).
    `sink` is called from the reading thread with batches of rows for the store; what it raises ends the sampling.
    `owns` tells whether a process is of the run; it is asked when one is seen, because later it may have gone.
    """

    def __init__(
        self,
        gpus: Sequence[str],
        *,
        watched: Sequence[str] = (),
        settings: SamplerSettings | None = None,
        sink: Callable[[list[Sample]], None] | None = None,
        owns: Callable[[int], bool] = lambda _pid: False,
        environment: Mapping[str, str] | None = None,
    ):
        self.settings = settings or SamplerSettings()
        self.holes: list[tuple[int, int]] = []
        self.missing: dict[str, dict[str, str]] = {}
        """Quantities that a GPU does not give, with the reasons, by GPU; grows as they are met."""
        self.process_names: dict[int, str] = {}
        """Names of the processes seen on the GPUs, taken while they lived."""
        self.own_pids: set[int] = set()
        """Those of the processes seen since `begin_record` that are of the run."""
        self._owns = owns
        self._gpus, self._watched, self._sink = list(gpus), list(watched), sink
        self._environment = {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ}
        self._environment |= dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        self._news = threading.Condition()
        self._facts: dict[str, GpuFacts] | None = None
        self._trouble: Exception | None = None
        self._stopping = False
        self._reached_ns: dict[str, int] = {}
        self._latest: dict[str, Reading] = {}
        self._users: dict[str, list[GpuProcess]] = {}
        self._series: dict[str, GpuSeries] = {}

    def __enter__(self) -> SamplerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Mapping[str, GpuFacts]:
        """Start the child and wait for its greeting: the facts by GPU.

        Raises NvmlUnavailableError without a driver, GpuLostError where a GPU is not there or a call hangs,
        SamplerFailedError where the child cannot be started or ends at once.
        """
        told = {
            "gpus": self._gpus,
            "watched": self._watched,
            "periods_s": {
                "counter": self.settings.counter_s,
                "power": self.settings.power_s,
                "slow": self.settings.slow_s,
            },
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lemctl.measure.sampler", json.dumps(told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=self._environment,
            )
        except OSError as error:
            raise SamplerFailedError(str(error)) from error
        self._thread = threading.Thread(target=self._read, name="sampler", daemon=True)
        self._thread.start()
        with self._news:
            self._news.wait_for(lambda: self._facts is not None or self._trouble is not None, self.settings.start_s)
            if self._facts is None and self._trouble is None:
                self._trouble = GpuLostError(f"the sampler did not start within {self.settings.start_s:g} s")
        if self._trouble is not None:
            self.stop()
            raise self._trouble
        return self._facts or {}

    @property
    def pid(self) -> int | None:
        """The child's process id, None where it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def facts(self) -> Mapping[str, GpuFacts]:
        """What the child told of its GPUs when it greeted."""
        return self._facts or {}

    def set_rate(self, rate: Literal["fast", "idle"]) -> None:
        """Full rate from baseline to tail, once a second between. Raises what `check` raises."""
        self.check()
        self._tell(rate)

    def latest(self) -> dict[str, Reading]:
        """The newest reading of each GPU of the run; empty until the first. Raises what `check` raises."""
        self.check()
        with self._news:
            return {gpu: reading for gpu, reading in self._latest.items() if gpu in self._gpus}

    def strangers(self) -> list[str] | None:
        """Processes on the GPUs of the run that are not of it and live, as last seen; None before the first look.

        Raises what `check` raises.
        """
        self.check()
        with self._news:
            if any(gpu not in self._users for gpu in self._gpus):
                return None
            seen = [(gpu, process.pid) for gpu in self._gpus for process in self._users[gpu]]
        return [
            f"{pid} ({self.process_names.get(pid, 'unknown')}) on {gpu}"
            for gpu, pid in seen
            if Path(f"/proc/{pid}").exists() and not self._owns(pid)
        ]

    def check(self) -> None:
        """Raises GpuLostError or SamplerFailedError where the sampling has ended; else does nothing."""
        if self._trouble is not None:
            raise self._trouble

    def begin_record(self) -> None:
        """Keep what is read in memory from now on, all GPUs, and forget what was kept before."""
        with self._news:
            self._series = {gpu: GpuSeries() for gpu in (*self._gpus, *self._watched)}
            self.holes = []
            self.own_pids = set()

    def end_record(self) -> None:
        """Keep nothing in memory any more: an idle day must not fill it. The sink goes on."""
        with self._news:
            self._series = {}

    def series(self, gpu: str) -> GpuSeries:
        """What was read of one GPU since `begin_record`."""
        with self._news:
            return self._series.get(gpu, GpuSeries()).copy()

    def wait_until(self, t_mono_ns: int, timeout_s: float, *, watched: bool = False) -> bool:
        """Wait until every GPU of the run has been read after a time; False where the timeout came first.

        `watched`: those that are only watched, instead. Raises what `check` raises.
        """

        gpus = self._watched if watched else self._gpus

        def is_reached() -> bool:
            return all(self._reached_ns.get(gpu, 0) > t_mono_ns for gpu in gpus)

        with self._news:
            self._news.wait_for(lambda: self._trouble is not None or is_reached(), timeout_s)
            reached = is_reached()
        if not reached:
            self.check()
        return reached

    def stop(self) -> None:
        """End the child: ask, terminate, kill. A child that hangs in the driver cannot even be killed; it is left."""
        self._stopping = True
        process = self._process
        if process is None:
            return
        self._tell("quit")
        for step in (None, process.terminate, process.kill):
            if step is not None:
                step()
            try:
                process.wait(_STOP_PATIENCE_S)
                break
            except subprocess.TimeoutExpired:
                continue
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2.0)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
        self._stderr.close()
        self._process = None

    def _tell(self, command: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(command.encode() + b"\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # The child is gone; the reading thread says why.
            return

    def _read(self) -> None:
        """The reading thread: lines as they come, until the pipe ends or stays silent."""
        process = self._process
        if process is None or process.stdout is None:
            return
        descriptor, partial = process.stdout.fileno(), b""
        heard = time.monotonic()
        try:
            while True:
                patience_s = self.settings.silent_s if self._facts is not None else self.settings.start_s
                readable, _, _ = select.select([descriptor], [], [], max(0.0, heard + patience_s - time.monotonic()))
                if not readable:
                    process.kill()
                    self._end(GpuLostError(f"a call into the GPU driver has not returned for {patience_s:g} s"))
                    return
                data = os.read(descriptor, 1 << 16)
                if not data:
                    self._end(self._why_ended(process))
                    return
                heard = time.monotonic()
                *whole, partial = (partial + data).split(b"\n")
                self._take([json.loads(line) for line in whole])
        except Exception as error:  # noqa: BLE001 - a thread's failure must reach the run that relies on it
            process.kill()
            self._end(SamplerFailedError(f"reading the sampler failed: {type(error).__name__}: {error}"))

    def _why_ended(self, process: subprocess.Popen[bytes]) -> Exception:
        try:
            code: int | None = process.wait(2.0)
        except subprocess.TimeoutExpired:
            code = None
        tail = ""
        if not self._stderr.closed:
            self._stderr.seek(0)
            tail = self._stderr.read()[-2000:].decode(errors="replace").strip()
        return SamplerFailedError(f"the sampler ended with code {code}: {tail or 'no message'}")

    def _end(self, trouble: Exception) -> None:
        with self._news:
            if self._trouble is None and not self._stopping:
                self._trouble = trouble
            self._news.notify_all()

    def _take(self, messages: Sequence[list[Any]]) -> None:
        rows: list[Sample] = []
        with self._news:
            for kind, *rest in messages:
                row = _TAKERS[kind](self, *rest)
                if row is not None:
                    rows.append(row)
            self._news.notify_all()
        if rows and self._sink is not None:
            self._sink(rows)

    def _take_hello(self, told: Mapping[str, Any]) -> None:
        self._facts = {gpu: GpuFacts(**facts) for gpu, facts in told["gpus"].items()}

    def _take_missing(self, gpu: str, reasons: Mapping[str, str]) -> None:
        self.missing[gpu] = dict(reasons)

    def _take_unavailable(self, reason: str) -> None:
        self._trouble = self._trouble or NvmlUnavailableError(reason)

    def _take_lost(self, reason: str) -> None:
        self._trouble = self._trouble or GpuLostError(reason)

    def _take_gone(self, gpu: str, reason: str) -> None:
        _log.warning("a GPU that is only watched is lost: %s", reason)
        self.missing[gpu] = {"energy": reason, "power": reason}
        self._watched.remove(gpu)

    def _take_hole(self, from_ns: int, to_ns: int) -> None:
        self.holes.append((from_ns, to_ns))

    def _take_counter(self, gpu: str, t_ns: int, t_before_ns: int, energy_mj: int, polls: int) -> Sample:
        tick = CounterTick(t_ns, t_before_ns, energy_mj, polls)
        if gpu in self._series:
            self._series[gpu].ticks.append(tick)
        return Sample(gpu, "counter", t_ns, {"energy_mj": energy_mj, "t_before_ns": t_before_ns, "polls": polls})

    def _take_power(self, gpu: str, t_ns: int, told: Mapping[str, Any]) -> Sample:
        sample = GpuSample.from_json(told)
        if gpu in self._series:
            self._series[gpu].times_ns.append(t_ns)
            self._series[gpu].samples.append(sample)
        self._reached_ns[gpu] = t_ns
        self._latest[gpu] = sample.reading(t_ns)
        return Sample(gpu, "power", t_ns, told)

    def _take_processes(self, gpu: str, t_ns: int, told: Sequence[Sequence[Any]] | None) -> Sample:
        found = None if told is None else [GpuProcess(pid, kind, used) for pid, kind, used in told]
        for process in found or ():
            if process.pid not in self.process_names:
                self.process_names[process.pid] = _name_of(process.pid)
            if process.pid not in self.own_pids and self._owns(process.pid):
                self.own_pids.add(process.pid)
        self._users[gpu] = found or []
        if gpu in self._series:
            self._series[gpu].processes.append((t_ns, found))
        return Sample(gpu, "slow", t_ns, {"processes": told})


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "unknown"


_TAKERS: Mapping[str, Callable[..., Sample | None]] = {
    "hello": SamplerProcess._take_hello,
    "unavailable": SamplerProcess._take_unavailable,
    "missing": SamplerProcess._take_missing,
    "gone": SamplerProcess._take_gone,
    "lost": SamplerProcess._take_lost,
    "hole": SamplerProcess._take_hole,
    "c": SamplerProcess._take_counter,
    "p": SamplerProcess._take_power,
    "s": SamplerProcess._take_processes,
}
