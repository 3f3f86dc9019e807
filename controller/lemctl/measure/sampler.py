"""The child process that reads the GPUs: `python -m lemctl.measure.sampler SETTINGS_JSON`.

A process of its own, because a call into the driver can hang for good and only a process can be killed. It works to
absolute monotonic deadlines, so that a late poll does not shift the next, and writes JSON lines in batches to stdout:

    ["hello", {"gpus": {uuid: facts}}]           once, or ["unavailable", reason] and exit 4
    ["c", gpu, t_ns, t_before_ns, mj, polls]     the energy counter changed (or a second passed without a change)
    ["p", gpu, t_ns, {...}]                      one row of the power series (`GpuSample.to_json`)
    ["s", gpu, t_ns, [[pid, kind, bytes], ...]]  processes on the GPU (null: cannot be listed)
    ["missing", gpu, {quantity: reason}]         what this GPU turned out not to give
    ["hole", from_ns, to_ns]                     the process was kept from its deadlines
    ["gone", gpu, reason]                        a GPU that is only watched was lost: the others go on
    ["lost", reason]                             one of the run's was, and exit 3

Down, one line each: `fast` (counter about every 20 ms, power every 100 ms), `idle` (both once a second), `quit`.
stdin at its end means that the controller is gone. The parent's side is `watch`.
Imports stay light: this process shares the machine with what it measures.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from lemctl.measure.forecast import TickForecast
from lemctl.measure.gpu import GpuProbe, NvmlProbe
from lemctl.measure.readings import NS_PER_S, CounterTick, GpuFacts, GpuLostError, GpuSample, NvmlUnavailableError

EXIT_LOST = 3
EXIT_UNAVAILABLE = 4
FLUSH_EVERY_NS = round(0.5 * NS_PER_S)
SIGN_OF_LIFE_NS = round(1.0 * NS_PER_S)
HOLE_PERIODS = 3
_COMMANDS = frozenset({b"fast", b"idle", b"quit"})


_encode = json.JSONEncoder(separators=(",", ":"), default=GpuSample.to_json).encode


class Deadline:
    """An absolute deadline that recurs. Missed ones are skipped, never made up for."""

    def __init__(self, period_ns: int, first_ns: int):
        self.period_ns, self.next_ns = period_ns, first_ns

    def is_due(self, now_ns: int) -> bool:
        """Whether it has come; if so the next is set, on the same grid. The caller does the work once."""
        if now_ns < self.next_ns:
            return False
        self.next_ns += ((now_ns - self.next_ns) // self.period_ns + 1) * self.period_ns
        return True


class CounterWatch:
    """One GPU's energy counter: finds its changes, and knows when to look next at the full rate (`next_ns`)."""

    def __init__(self, gpu: str, poll_ns: int, first_ns: int):
        self.gpu, self.next_ns = gpu, first_ns
        self._forecast = TickForecast(poll_ns, first_ns)
        self._shown_mj: int | None = None
        self._last_poll_ns = self._told_ns = self._polls = 0

    def look(self, probe: GpuProbe, now_ns: int) -> CounterTick | None:
        """A poll at the full rate, which the forecast learns from."""
        shown_mj = self._shown_mj
        tick = self.poll(probe)
        if tick is not None and shown_mj is not None and tick.energy_mj != shown_mj:
            self._forecast.note_tick(tick.t_before_ns, tick.t_mono_ns)
        self.next_ns = self._forecast.next_look_ns(now_ns)
        return tick

    def begin(self, now_ns: int) -> None:
        """The full rate begins; what was learnt before is old."""
        self._forecast.forget()
        self.next_ns = self._forecast.next_look_ns(now_ns)

    def poll(self, probe: GpuProbe) -> CounterTick | None:
        """Read it once: the change if there was one, also the first value and a sign of life after a second."""
        began_ns = time.monotonic_ns()
        energy_mj = probe.energy_mj(self.gpu)
        if energy_mj is None:
            return None
        t_ns = (began_ns + time.monotonic_ns()) // 2
        before_ns = t_ns if self._shown_mj is None else self._last_poll_ns
        self._last_poll_ns, self._polls = t_ns, self._polls + 1
        if energy_mj == self._shown_mj and t_ns - self._told_ns < SIGN_OF_LIFE_NS:
            return None
        tick = CounterTick(t_ns, before_ns, energy_mj, self._polls)
        self._shown_mj, self._told_ns, self._polls = energy_mj, t_ns, 0
        return tick


class Sampling:
    """What is read when. Full rate for the GPUs of the run, once a second for those that are only watched."""

    def __init__(
        self,
        probe: GpuProbe,
        gpus: Sequence[str],
        watched: Sequence[str],
        periods_s: dict[str, float],
        emit: Callable[[list[Any]], None],
        now_ns: int,
    ):
        self.probe, self.gpus, self.watched, self.emit = probe, list(gpus), list(watched), emit
        self.is_fast = False
        counter_ns, power_ns = (round(periods_s[name] * NS_PER_S) for name in ("counter", "power"))
        # A random phase, so that the series does not beat with the sensor's own refresh. Both share it: what is due
        # together costs one waking of this process instead of two.
        first_ns = now_ns + round(random.random() * power_ns)  # noqa: S311
        self.power = Deadline(power_ns, first_ns)
        self.slow = Deadline(round(periods_s["slow"] * NS_PER_S), now_ns)
        self._counters = {gpu: CounterWatch(gpu, counter_ns, first_ns) for gpu in (*self.gpus, *self.watched)}
        self._fast_counters = [self._counters[gpu] for gpu in self.gpus]
        self._told_missing: dict[str, int] = {}
        self._last_power_ns = now_ns

    @property
    def next_ns(self) -> int:
        """When the next deadline comes."""
        if not self.is_fast:
            return self.slow.next_ns
        # What is slow goes along with the next sample: it is not worth a waking of its own.
        return min(self.power.next_ns, *[counter.next_ns for counter in self._fast_counters])

    def set_fast(self, is_fast: bool, now_ns: int) -> None:
        """Change the rate; a rate that begins does not call its pause a hole."""
        self.is_fast = is_fast
        self.power.is_due(now_ns)
        for counter in self._fast_counters:
            counter.begin(now_ns)
        self._last_power_ns = now_ns

    def work(self, now_ns: int) -> None:
        """Everything that is due now."""
        is_slow_due = self.slow.is_due(now_ns)
        if self.is_fast:
            is_power_due = self.power.is_due(now_ns)
            for counter in self._fast_counters:
                if is_power_due or now_ns >= counter.next_ns:
                    self._emit_tick(counter.gpu, counter.look(self.probe, now_ns))
            if is_power_due:
                self._note_hole(now_ns)
                for gpu in self.gpus:
                    self._read_sample(gpu)
        if is_slow_due:
            for gpu in () if self.is_fast else self.gpus:
                self._look(gpu)
            for gpu in tuple(self.watched):
                self._look_aside(gpu)
            for gpu in self.gpus:
                self._list_processes(gpu)
            for gpu in (*self.gpus, *self.watched):
                self._tell_missing(gpu)

    def _look(self, gpu: str) -> None:
        self._emit_tick(gpu, self._counters[gpu].poll(self.probe))
        self._read_sample(gpu)

    def _look_aside(self, gpu: str) -> None:
        try:
            self._look(gpu)
        except GpuLostError as error:
            self.watched.remove(gpu)
            self.emit(["gone", gpu, str(error)])

    def _note_hole(self, now_ns: int) -> None:
        if now_ns - self._last_power_ns > HOLE_PERIODS * self.power.period_ns:
            self.emit(["hole", self._last_power_ns, now_ns])
        self._last_power_ns = now_ns

    def _emit_tick(self, gpu: str, tick: CounterTick | None) -> None:
        if tick is not None:
            self.emit(["c", gpu, tick.t_mono_ns, tick.t_before_ns, tick.energy_mj, tick.polls])

    def _read_sample(self, gpu: str) -> None:
        began_ns = time.monotonic_ns()
        sample = self.probe.sample(gpu)
        self.emit(["p", gpu, (began_ns + time.monotonic_ns()) // 2, sample])

    def _tell_missing(self, gpu: str) -> None:
        missing = self.probe.missing(gpu)
        if len(missing) != self._told_missing.get(gpu, 0):
            self._told_missing[gpu] = len(missing)
            self.emit(["missing", gpu, dict(missing)])

    def _list_processes(self, gpu: str) -> None:
        t_ns = time.monotonic_ns()
        found = self.probe.processes(gpu)
        self.emit(["s", gpu, t_ns, None if found is None else [[p.pid, p.kind, p.used_b] for p in found]])


class Lines:
    """Batched JSON lines to a file descriptor, and command lines from another."""

    def __init__(self, out_fd: int, in_fd: int):
        self._out_fd, self._in_fd = out_fd, in_fd
        self._batch: list[list[Any]] = []
        self._flushed_ns = 0
        self._partial = b""

    def emit(self, message: list[Any]) -> None:
        """Keep one line for the next batch. Encoding waits for it too: many at once are cheaper than one by one."""
        self._batch.append(message)

    def flush(self, now_ns: int | None = None) -> None:
        """Write the batch; with `now_ns` only where the last one is half a second old. Raises BrokenPipeError."""
        if not self._batch or (now_ns is not None and now_ns - self._flushed_ns < FLUSH_EVERY_NS):
            return
        data = memoryview("".join(f"{_encode(message)}\n" for message in self._batch).encode())
        while data:
            data = data[os.write(self._out_fd, data) :]
        self._batch.clear()
        self._flushed_ns = now_ns or time.monotonic_ns()

    def wait_for_commands(self, timeout_s: float) -> list[bytes]:
        """Sleep until a command comes or the time is over. The end of the input is a `quit`."""
        readable, _, _ = select.select([self._in_fd], [], [], max(0.0, timeout_s))
        if not readable:
            return []
        data = os.read(self._in_fd, 4096)
        if not data:
            return [b"quit"]
        *whole, self._partial = (self._partial + data).split(b"\n")
        return [line for line in whole if line in _COMMANDS]


def sample_until_told(sampling: Sampling, lines: Lines) -> Literal["quit"]:
    """The loop: wait for the next deadline or a command, work, write now and then."""
    while True:
        for command in lines.wait_for_commands((sampling.next_ns - time.monotonic_ns()) / NS_PER_S):
            if command == b"quit":
                lines.flush()
                return "quit"
            sampling.set_fast(command == b"fast", time.monotonic_ns())
        now_ns = time.monotonic_ns()
        sampling.work(now_ns)
        lines.flush(now_ns)


def _be_punctual() -> None:
    """Go before others when due: real time where allowed, else a better nice value, else as everybody (holes tell)."""
    # Nothing here makes reference cycles, and a collection is a pause.
    gc.disable()
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        return
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


def _greet(probe: GpuProbe, gpus: Sequence[str], watched: Sequence[str], lines: Lines) -> list[str]:
    """Say hello; the GPUs that can be watched. Raises GpuLostError for one of the run's."""
    aside = {gpu: _facts_aside(probe, gpu) for gpu in watched}
    seen = {gpu: found for gpu, found in aside.items() if isinstance(found, GpuFacts)}
    facts = {gpu: found.to_json() for gpu, found in ({gpu: probe.facts(gpu) for gpu in gpus} | seen).items()}
    lines.emit(["hello", {"pid": os.getpid(), "gpus": facts}])
    for gpu in aside.keys() - seen.keys():
        lines.emit(["gone", gpu, str(aside[gpu])])
    lines.flush()
    return list(seen)


def _facts_aside(probe: GpuProbe, gpu: str) -> GpuFacts | GpuLostError:
    try:
        return probe.facts(gpu)
    except GpuLostError as error:
        return error


def main(arguments: Sequence[str]) -> int:
    """Read the settings, open NVML, greet, sample. Exit codes are in the module's docstring."""
    settings = json.loads(arguments[0])
    lines = Lines(sys.stdout.fileno(), sys.stdin.fileno())
    _be_punctual()
    try:
        probe = NvmlProbe()
    except NvmlUnavailableError as error:
        lines.emit(["unavailable", str(error)])
        lines.flush()
        return EXIT_UNAVAILABLE
    try:
        watched = _greet(probe, settings["gpus"], settings["watched"], lines)
        sampling = Sampling(probe, settings["gpus"], watched, settings["periods_s"], lines.emit, time.monotonic_ns())
        sample_until_told(sampling, lines)
    except GpuLostError as error:
        lines.emit(["lost", str(error)])
        lines.flush()
        return EXIT_LOST
    except BrokenPipeError:
        return 0
    finally:
        probe.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
