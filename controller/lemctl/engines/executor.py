"""How a runner is brought up: the Protocol that the daemon uses, and the local executor behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lem_runner.protocol import RunSpec, canonical_json
from lemctl.cancel import Cancel
from lemctl.engines.backends import Backend
from lemctl.engines.events import Finished
from lemctl.engines.local import LocalRunner
from lemctl.engines.processes import end_leftover_runners
from lemctl.engines.runner_copy import RunnerCopy
from lemctl.engines.session import OnEvent, Session
from lemctl.engines.watchdogs import Ladder, Limits
from lemctl.errors import RunFailed
from lemctl.paths import Home


class EngineSession(Protocol):
    """One live runner, as the daemon drives it; `session.Session` is the true one."""

    def greet(self, cancel: Cancel) -> dict[str, Any]:
        """Wait for `hello`; its data."""
        ...

    def hold_context(self, attempt: str, cancel: Cancel) -> str | None:
        """Hold a device context until `load`; why there is none."""
        ...

    def load(self, attempt: str, spec: RunSpec, cancel: Cancel, on_event: OnEvent) -> dict[str, Any]:
        """Load, or find it loaded; the data of `loaded`."""
        ...

    def idle(self, cancel: Cancel, seconds: float) -> None:
        """Wait with the engine loaded."""
        ...

    def go(self, attempt: str, cancel: Cancel, on_event: OnEvent) -> Finished:
        """Warm-up and windows; the checked result."""
        ...

    def is_alive(self) -> bool:
        """Whether it can take another attempt."""
        ...

    def end(self, reason: str) -> str:
        """End it, whatever it takes; never raises."""
        ...

    @property
    def ladder(self) -> Ladder:
        """What was done to end it."""
        ...

    def log_offsets(self) -> dict[str, int]:
        """Bytes so far of stdout and stderr."""
        ...


@dataclass(frozen=True)
class Opened:
    """A session that has not been greeted yet, and the container it lives in, if any."""

    session: EngineSession
    container_id: str | None


@dataclass(frozen=True)
class Place:
    """Where a session is to live: backend, folder and lane, the UUIDs of its GPUs; `fresh` wants a new container."""

    backend: Backend
    folder: Path
    lane: str
    gpus: tuple[str, ...]
    fresh: bool


class Executor(Protocol):
    """What the daemon asks of the place where engines run. Every call raises `RunFailed(infra)` at worst."""

    name: str

    def identity(self, backend: Backend) -> dict[str, Any]:
        """What the engine key takes of this place: image digest and container options, or the interpreter."""
        ...

    def obstacle(self) -> str | None:
        """Why nothing can be started at present, in words; None when it can. Asked before every run."""
        ...

    def disks(self) -> Sequence[Path]:
        """Folders beside the state folder whose disks must have room for a run."""
        ...

    def path_of(self, host_path: Path) -> str:
        """A file of the state folder or the model folder, as the runner sees it."""
        ...

    def open(self, place: Place, limits: Limits) -> Opened:
        """Start a runner there."""
        ...

    def release(self, lane: str) -> None:
        """Take down what the lane holds warm."""
        ...

    def sweep(self) -> int:
        """End what a dead daemon of this state folder left behind; how many there were."""
        ...


def engine_key(parts: dict[str, Any]) -> str:
    """Names an engine: equal keys may share a session."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]


class LocalExecutor:
    """Runners as child processes of the daemon."""

    name = "local"

    def __init__(self, home: Home, runner: RunnerCopy):
        self._home = home
        self._runner = runner

    def identity(self, backend: Backend) -> dict[str, Any]:
        """The interpreter; the versions of its packages come with the session's hello."""
        interpreter = Path(backend.local_interpreter)
        if not interpreter.exists():
            raise RunFailed(
                "infra",
                f"{interpreter} does not exist: set LEM_PYTHON_{backend.name.upper()} to a Python with the engine",
            )
        return {"executor": self.name, "interpreter": str(interpreter)}

    def obstacle(self) -> str | None:
        """There is always a process to be had."""
        return None

    def disks(self) -> Sequence[Path]:
        """None: what a child process writes is in the state folder."""
        return ()

    def path_of(self, host_path: Path) -> str:
        """The same path."""
        return str(host_path)

    def open(self, place: Place, limits: Limits) -> Opened:
        """A new process; it is always fresh, and the lane's locks are all that keeps others off its GPUs."""
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)}
        process = LocalRunner(place.backend.local_interpreter, self._runner.root, place.folder, environment)
        return Opened(Session(process, place.folder, limits), None)

    def release(self, lane: str) -> None:
        """Nothing is held warm."""

    def sweep(self) -> int:
        """Kill runners of this state folder that outlived their daemon."""
        return end_leftover_runners(self._home.sessions)
