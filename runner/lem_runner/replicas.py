"""Data-parallel replicas: whole runners below this one, each with an engine, GPUs and records of its own.

Nothing passes between them while they work, so they need no process group: each is a session in a folder of this one's,
spoken to by the same contract, and this runner only begins and ends them together. A replica sees the end of its stdin
when this process dies, and this one's lease.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lem_runner.failures import BadRequestError, Failure, ToldError
from lem_runner.peers import Loss, OnLoss
from lem_runner.progress import Moment
from lem_runner.protocol import (
    ALIVE_PERIOD_S,
    EVENTS_FILE,
    LEASE_FILE,
    STDERR_FILE,
    STDOUT_FILE,
    Command,
    ContractError,
    Event,
    EventType,
    Replica,
    RunSpec,
    Verb,
)
from lem_runner.watch import FileAge, stamp, start_thread, tell_alive

#: The engine parameter that asks for them.
PARAMETER = "data_parallel"
#: Between two looks at the replicas' files, in seconds.
POLL_S = 0.05
#: As a runner is given by its controller.
CANCEL_S = 30.0
#: Between two looks at whether each still gives signs of life, in seconds.
WATCH_S = 1.0


def count(spec: RunSpec) -> int:
    """How many whole engines this work is for."""
    asked = spec.engine.get(PARAMETER, 1)
    if type(asked) is not int or asked < 1:
        raise BadRequestError(f"engine parameter {PARAMETER!r} is {asked!r}, at least 1 is needed")
    return asked


def visible_devices(variable: str | None, index: int, of: int, each: int) -> str:
    """`CUDA_VISIBLE_DEVICES` of one replica: its even share of ours; with none named, `each` by their numbers.

    `BadRequestError` where they cannot be shared evenly.
    """
    if variable is None:
        return ",".join(str(index * each + place) for place in range(each))
    devices = [name for name in variable.split(",") if name]
    if len(devices) % of:
        raise BadRequestError(f"engine parameter {PARAMETER!r}: {len(devices)} GPUs cannot be shared evenly by {of}")
    share = len(devices) // of
    return ",".join(devices[index * share : (index + 1) * share])


@dataclass
class _Running:
    name: str
    folder: Path
    process: subprocess.Popen[bytes]
    age: FileAge
    read_b: int = 0
    alive: Event | None = None

    def silent_s(self) -> float:
        """How long it has told nothing."""
        return self.age.observe(stamp(self.folder / EVENTS_FILE), time.monotonic())

    def sign(self, attempt: str) -> dict[str, Any]:
        """What it last told of its work on this attempt, and how long it, or a rank of it, has told nothing."""
        alive = self.alive
        told = alive.data if alive is not None and alive.attempt == attempt else Moment().to_json()
        ranks = [] if alive is None else alive.data.get("ranks", [])
        silent_s = max([self.silent_s(), *(rank["silent_s"] for rank in ranks)])
        return {**{name: told[name] for name in Moment().to_json()}, "silent_s": round(silent_s, 3)}

    def events(self) -> Iterator[Event]:
        """Whole lines that came since the last look."""
        path = self.folder / EVENTS_FILE
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self.read_b)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.read_b += len(whole)
        yield from map(Event.decode, whole.splitlines())


class Replicas:
    """All of them. What one tells is raised or told for all: they are one engine."""

    def __init__(self, folder: Path, of: int, tell: Callable[[], None]) -> None:
        """`folder` is this session's own; `tell` gives its sign of life, which holds `signs`."""
        self._folder = folder
        self._of = of
        self._tell = tell
        self._signs_lock = threading.Lock()
        self._running: list[_Running] = []
        self._on_loss: OnLoss | None = None
        self._loaded: list[dict[str, Any]] = []
        self._seen: dict[tuple[str, EventType], dict[int, Event]] = {}

    def report_losses_to(self, on_loss: OnLoss) -> None:
        """Whom to tell when a replica is lost."""
        self._on_loss = on_loss

    def load(self, spec: RunSpec) -> None:
        """Start the processes; each loads with its first attempt."""
        each = int(spec.engine.get("tensor_parallel", 1)) * int(spec.engine.get("pipeline_parallel", 1))
        for index in range(self._of):
            visible = visible_devices(os.environ.get("CUDA_VISIBLE_DEVICES"), index, self._of, each)
            self._running.append(self._start(index, visible))
        start_thread("replicas", lambda: tell_alive(self._tell_of_silence, WATCH_S))
        self.gather("", "hello")

    def run(self, attempt: str, spec: RunSpec) -> None:
        """Hand an attempt to all, each its share; return when all could begin. Raises what one of them told."""
        if spec.workload.mode != "offline" or spec.workload.batching == "continuous":
            raise BadRequestError(f"engine parameter {PARAMETER!r}: replicas serve offline batches, static or dynamic")
        batches = -(-spec.workload.prompts // spec.workload.batch_size)
        if batches < self._of:
            raise BadRequestError(
                f"engine parameter {PARAMETER!r}: {spec.workload.prompts} prompts are {batches} batches, "
                f"fewer than {self._of} replicas"
            )
        self._seen.clear()
        engine = {name: value for name, value in spec.engine.items() if name != PARAMETER}
        for index in range(self._of):
            share = replace(spec, engine=engine, replica=Replica(index, self._of))
            self._send(index, Command("run", attempt, share))
        self._loaded = [event.data for event in self.gather(attempt, "loaded")]

    def send(self, verb: Verb, attempt: str) -> None:
        """One command to all."""
        for index in range(self._of):
            self._send(index, Command(verb, attempt))

    def signs(self, attempt: str) -> list[dict[str, Any]]:
        """What each gives as a sign of life, in their order; from any thread."""
        with self._signs_lock:
            return [one.sign(attempt) for one in self._running]

    def folders(self) -> list[Path]:
        """Their session folders, in their order."""
        return [one.folder for one in self._running]

    def gather(
        self, attempt: str, kind: EventType, on_look: Callable[[list[tuple[int, Event]]], None] | None = None
    ) -> list[Event]:
        """One event of this kind from each, in their order; one that came before is found too.

        `on_look` gets what came since, and may raise to end it.
        """
        while True:
            came = self._look()
            for index, event in came:
                if event.type == "error" and event.attempt in (attempt, ""):
                    told = Failure(**event.data)
                    text = f"{self._running[index].name}: {told.message}"
                    # The others still wait for this one, or work: nothing more can be asked of them.
                    raise ToldError(replace(told, message=text, fatal=True))
            if on_look is not None:
                on_look(came)
            found = self._seen.get((attempt, kind), {})
            if len(found) == self._of:
                return [found[index] for index in range(self._of)]
            time.sleep(POLL_S)

    def cancel(self, attempt: str) -> None:
        """Ask all to drop an attempt; return when they have, or had ended it already."""
        self.send("cancel", attempt)
        until_s = time.monotonic() + CANCEL_S
        left = set(range(self._of))
        while True:
            confirmed = {i for i, event in self._look() if event.attempt == attempt and event.data.get("cancelled")}
            ended = {*self._seen.get((attempt, "result"), ()), *self._seen.get((attempt, "error"), ())}
            left -= confirmed | ended
            if not left:
                return
            if time.monotonic() > until_s:
                names = ", ".join(self._running[index].name for index in sorted(left))
                raise ToldError(Failure("engine_error", f"{names}: a cancel was not answered", "", fatal=True))
            time.sleep(POLL_S)

    def sync(self) -> None:
        """Each has waited for its own device."""

    def effective(self) -> dict[str, Any]:
        """What the first one runs with, how many there are, the devices of all, and where one differs."""
        told = [loaded.get("effective", {}) for loaded in self._loaded]
        if not told:
            return {}
        first = told[0]
        differing = sorted(name for name in first if any(one.get(name) != first[name] for one in told))
        devices = [one.get("devices") for one in told]
        return {**first, "replicas": self._of, "replica_devices": devices, "replicas_differ_in": differing}

    def memory(self) -> dict[str, Any]:
        """Sums over all, as told when the attempt was loaded; a figure that one lacks is None."""
        return total_memory([loaded["memory"] for loaded in self._loaded])

    def close(self) -> None:
        """Ask all to leave; the end of stdin does the rest."""
        for index, one in enumerate(self._running):
            self._send(index, Command("quit"))
            with suppress(OSError):
                assert one.process.stdin is not None
                one.process.stdin.close()
        for one in self._running:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(5.0)

    def _start(self, index: int, visible: str) -> _Running:
        folder = self._folder / f"replica-{index}"
        folder.mkdir()
        # The controller's own sign of life: one that is gone ends the replicas too, whatever has become of us.
        (folder / LEASE_FILE).symlink_to(Path("..") / LEASE_FILE)
        threads = max(1, len(os.sched_getaffinity(0)) // self._of)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "CUDA_VISIBLE_DEVICES": visible}
        with (folder / STDOUT_FILE).open("wb") as out, (folder / STDERR_FILE).open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "lem_runner", str(folder)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                env=environment,
            )
        return _Running(f"replica {index} of {self._of}", folder, process, FileAge(time.monotonic()))

    def _tell_of_silence(self) -> None:
        """More often than usual while one is late with its sign: whose limit it is shall know in time."""
        with self._signs_lock:
            is_late = any(one.silent_s() > ALIVE_PERIOD_S + WATCH_S for one in self._running)
        if is_late:
            self._tell()

    def _send(self, index: int, command: Command) -> None:
        stdin = self._running[index].process.stdin
        assert stdin is not None
        with suppress(OSError, ValueError):  # gone: the next look tells
            stdin.write(command.encode())
            stdin.flush()

    def _look(self) -> list[tuple[int, Event]]:
        came: list[tuple[int, Event]] = []
        for index, one in enumerate(self._running):
            returncode = one.process.poll()  # before reading: what it wrote in its life is then in the file
            try:
                events = list(one.events())
            except ContractError as error:
                raise torn(one.name, error) from error
            came += [(index, event) for event in events]
            for event in events:
                if event.type == "alive":
                    one.alive = event
                else:
                    self._seen.setdefault((event.attempt, event.type), {})[index] = event
            if returncode is not None and not any(event.type == "error" for event in events) and self._on_loss:
                self._on_loss(Loss(one.name, returncode=returncode))
        return came


def torn(name: str, error: Exception) -> ToldError:
    """What a replica wrote is not sound: it cannot be worked with any more."""
    return ToldError(Failure("engine_error", f"{name}: {error}", "", fatal=True))


def total_memory(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums by name; None where one part has none."""
    names = parts[0] if parts else {}
    return {name: None if any(p.get(name) is None for p in parts) else sum(p[name] for p in parts) for name in names}
