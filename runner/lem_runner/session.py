"""One runner process: one engine, attempts one after another, commands from stdin, events to the session folder.

The main thread does the work and nothing interrupts it but a batch boundary; `watch.py` has the threads beside it.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from lem_runner import backends, processes, records, replicas, watch
from lem_runner.admission import check_measure, check_workload, read_prompts, read_trace
from lem_runner.attempt import Attempt, Stopped
from lem_runner.backends import Engine
from lem_runner.context import HeldContext
from lem_runner.events import EventLog
from lem_runner.failures import BadRequestError, Failure, SessionFolderError, failure_of, one_line
from lem_runner.identity import hello
from lem_runner.peers import Loss
from lem_runner.progress import Progress
from lem_runner.prompts import Prompt
from lem_runner.protocol import ALIVE_PERIOD_S, EXIT_IO, EXIT_OK, LEASE_FILE, LEASE_LIMIT_S, PID_FILE, Command, RunSpec
from lem_runner.replicas import Replicas
from lem_runner.replicated import ReplicatedAttempt
from lem_runner.results import result_file
from lem_runner.watch import Unreadable

#: A fatal `error` has been told, then `bye`.
EXIT_FATAL = 1
EXIT_USAGE = 2


@dataclass(frozen=True)
class Terminate:
    """SIGTERM or SIGINT arrived."""


class FatalError(Exception):
    """The engine is unusable and the controller has been told: the session ends."""


Inbox = queue.SimpleQueue["Command | Unreadable | Terminate"]


class Session:
    """The state between commands: the loaded engine, and the attempt that waits for its `go`."""

    def __init__(self, folder: Path, log: EventLog, progress: Progress) -> None:
        self._folder = folder
        self._log = log
        self._progress = progress
        self._inbox: Inbox = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._finished: set[str] = set()
        self._is_terminating = False
        self._engine: Engine | Replicas | None = None
        self._engine_key = ""
        self._is_loaded = False
        self._waiting: Attempt | ReplicatedAttempt | None = None
        self._context: HeldContext | None = None

    def deliver(self, item: Command | Unreadable) -> None:
        """Take what came in on stdin. Called from the listening thread; a `cancel` is seen at the next boundary."""
        if isinstance(item, Command) and item.verb == "cancel":
            self._cancelled.add(item.attempt)
        self._inbox.put(item)

    def terminate(self, *_: Any) -> None:
        """End at the next boundary. A signal handler: SimpleQueue.put is reentrant, which a Queue is not."""
        self._is_terminating = True
        self._inbox.put(Terminate())

    def is_stopped(self, attempt: str) -> bool:
        """True when this attempt should not begin another batch."""
        return self._is_terminating or attempt in self._cancelled

    def tell_alive(self) -> None:
        """What is being done; from any thread. `SessionFolderError` if it cannot be told."""
        now = self._progress.now
        self._log.emit("alive", {**now.to_json(), **self._signs(now.attempt)}, now.attempt)

    def _signs(self, attempt: str) -> dict[str, Any]:
        """What the processes tell that share the work, or the model."""
        engine = self._engine
        if isinstance(engine, Replicas):
            return {"replicas": engine.signs(attempt)}
        silent_s = [] if engine is None else engine.ranks_silent_s()
        return {"ranks": [{"silent_s": round(one_s, 3)} for one_s in silent_s]} if silent_s else {}

    def lose(self, loss: Loss) -> NoReturn:
        """A process that the engine needs is gone: the session ends, with the kind that was told or in the same way.

        Called from any thread; the main one may wait for that process for ever.
        """
        if loss.failure is None:
            watch.end_like(loss.returncode or 0, f"{loss.name} ended ({loss.returncode})")
        with suppress(SessionFolderError):
            failure = replace(loss.failure, message=f"{loss.name}: {loss.failure.message}", fatal=True)
            self._log.emit("error", failure.to_json(), self._progress.now.attempt)
            self._log.emit("bye", {"reason": "fatal error"})
        watch.end_now(EXIT_FATAL, f"{loss.name}: {loss.failure.message}")

    def serve(self) -> int:
        """Answer commands until told to leave; returns the exit status."""
        self._log.emit("hello", hello())
        try:
            reason = self._serve_commands()
            code = EXIT_OK
        except FatalError:
            reason, code = "fatal error", EXIT_FATAL
        self._close_engine()
        self._log.emit("bye", {"reason": reason})
        return code

    def _serve_commands(self) -> str:
        while True:
            item = self._inbox.get()
            if self._is_terminating or isinstance(item, Terminate):
                return "terminated"
            if isinstance(item, Unreadable):
                self._refuse("", item.message)
            elif item.verb == "quit":
                return "quit"
            else:
                self._obey(item)

    def _obey(self, command: Command) -> None:
        waiting = self._waiting
        if command.verb == "run" and command.spec is not None:
            self._run(command.attempt, command.spec)
        elif command.verb == "context" and self._engine is None:
            self._hold_context(command.attempt)
        elif command.verb == "go" and waiting is not None and waiting.name == command.attempt:
            self._go(waiting)
        elif command.verb == "cancel" and waiting is not None and waiting.name == command.attempt:
            waiting.drop()
            self._confirm_cancel(waiting)
        elif command.attempt not in self._finished:
            self._refuse(command.attempt, f"{command.verb}: attempt {command.attempt!r} is not waiting here")

    def _hold_context(self, name: str) -> None:
        """Hold a device context, so that its power can be measured before there is an engine."""
        self._release_context()
        self._progress.begin(name)
        self._progress.enter("waiting")
        self._context = HeldContext()
        obstacle = self._context.obstacle
        self._log.emit("context", {"held": obstacle is None, "reason": obstacle}, name)

    def _release_context(self) -> None:
        held, self._context = self._context, None
        if held is not None:
            held.release()

    def _run(self, name: str, spec: RunSpec) -> None:
        """Prepare an attempt: prompts, engine, the engine's own check of the work. Then it waits for `go`."""
        if self._waiting is not None:
            self._refuse(name, f"run: attempt {self._waiting.name!r} is still waiting for go or cancel")
            return
        self._release_context()
        self._progress.begin(name)
        try:
            self._check_run(name, spec)
            self._waiting, loaded = self._prepare(name, spec)
        except SessionFolderError:
            raise
        except BaseException as error:  # noqa: BLE001 - engines raise anything, SystemExit too: told, with its kind
            is_loading = self._engine is not None and not self._is_loaded
            self._fail(name, failure_of(error, is_loading=is_loading))
            return
        self._progress.enter("waiting")
        self._log.emit("loaded", loaded, name)

    def _check_run(self, name: str, spec: RunSpec) -> None:
        if name in self._finished or (self._folder / result_file(name)).exists():
            raise BadRequestError(f"run: attempt {name!r} was already made in this session")
        check_workload(spec.workload)
        check_measure(spec.measure)
        backends.load(spec.backend)
        if self._engine is not None and spec.engine_key != self._engine_key:
            raise BadRequestError(
                f"run: this session holds the engine {self._engine_key!r}, asked for was {spec.engine_key!r}"
            )

    def _prepare(self, name: str, spec: RunSpec) -> tuple[Attempt | ReplicatedAttempt, dict[str, Any]]:
        """The attempt that can go, and the data of its `loaded` event."""
        prompts, trace_s = read_prompts(spec.workload), read_trace(spec.workload)
        self._progress.enter("loading")
        begin_s = time.monotonic()
        is_reused = self._is_loaded
        engine = self._engine_for(name, spec)
        attempt = self._attempt(name, spec, engine, prompts, trace_s)
        if not processes.reset_peak_rss():
            attempt.notes.append("the host's memory peak is since the start of the session")
        attempt.admit()
        load_s = 0.0 if is_reused else time.monotonic() - begin_s
        loaded = {
            "engine_key": spec.engine_key,
            "reused": is_reused,
            "load_s": load_s,
            "effective": records.plain(engine.effective()),
            "memory": records.plain(engine.memory()),
        }
        return attempt, loaded

    def _attempt(
        self, name: str, spec: RunSpec, engine: Engine | Replicas, prompts: list[Prompt], trace_s: list[float]
    ) -> Attempt | ReplicatedAttempt:
        def is_stopped() -> bool:
            return self.is_stopped(name)

        if isinstance(engine, Replicas):
            return ReplicatedAttempt(name, spec, engine, self._log, self._progress, is_stopped)
        return Attempt(name, spec, prompts, engine, self._log, self._progress, is_stopped, trace_s=trace_s)

    def _engine_for(self, name: str, spec: RunSpec) -> Engine | Replicas:
        """The loaded engine, or a new one."""
        if self._engine is None:
            self._log.emit("loading", {"backend": spec.backend, "engine_key": spec.engine_key}, name)
            backend, of = backends.load(spec.backend), replicas.count(spec)
            self._engine = Replicas(self._folder, of, self.tell_alive) if of > 1 else backend.open()
            backends.check_device_is_untouched(backend)
            self._engine.report_losses_to(self.lose)
            self._engine_key = spec.engine_key
            self._engine.load(spec)
            self._engine.sync()
            self._is_loaded = True
        return self._engine

    def _go(self, attempt: Attempt | ReplicatedAttempt) -> None:
        self._waiting = None
        try:
            attempt.run(self._folder)
        except Stopped:
            if not self._is_terminating:
                self._confirm_cancel(attempt)
        except SessionFolderError:
            raise
        except BaseException as error:  # noqa: BLE001 - engines raise anything, SystemExit too: told, with its kind
            self._fail(attempt.name, failure_of(error, is_loading=False))
        self._finish(attempt.name)

    def _confirm_cancel(self, attempt: Attempt | ReplicatedAttempt) -> None:
        """A cancel is answered by an idle `alive` that says so; the engine stays loaded."""
        data = {**self._progress.now.to_json(), "phase": "idle", "cancelled": True}
        self._waiting = None
        self._finish(attempt.name)
        self._log.emit("alive", data, attempt.name)

    def _finish(self, name: str) -> None:
        self._finished.add(name)
        self._progress.end()

    def _fail(self, name: str, failure: Failure) -> None:
        self._finish(name)
        self._log.emit("error", failure.to_json(), name)
        if failure.fatal:
            raise FatalError

    def _refuse(self, name: str, message: str) -> None:
        self._log.emit("error", Failure("bad_request", message, "", fatal=False).to_json(), name)

    def _close_engine(self) -> None:
        """Give back what the engine holds. A fault in that is only logged: the process ends anyway."""
        self._release_context()
        if self._engine is not None:
            try:
                self._engine.close()
            except Exception as error:  # noqa: BLE001
                print(f"lem_runner: closing the engine: {one_line(error)}", file=sys.stderr)
        processes.kill_descendants()


def run_session(folder: Path, alive_period_s: float = ALIVE_PERIOD_S, lease_limit_s: float = LEASE_LIMIT_S) -> int:
    """Serve one session in `folder` until told to leave; returns the exit status."""
    processes.own_group()
    commands_fd = _take_stdin()
    try:
        log = EventLog(folder)
        (folder / PID_FILE).write_text(f"{os.getpid()}\n")
    except OSError as error:
        print(f"lem_runner: session folder {folder}: {error.strerror}; give it a new, writable one", file=sys.stderr)
        return EXIT_USAGE
    progress = Progress()
    session = Session(folder, log, progress)
    signal.signal(signal.SIGTERM, session.terminate)
    signal.signal(signal.SIGINT, session.terminate)
    watch.start_thread("commands", lambda: watch.listen(commands_fd, session.deliver))
    watch.start_thread("lease", lambda: watch.watch_lease(folder / LEASE_FILE, lease_limit_s))
    watch.start_thread("alive", lambda: watch.tell_alive(session.tell_alive, alive_period_s))
    try:
        return session.serve()
    except SessionFolderError as error:
        watch.end_now(EXIT_IO, str(error))


def _take_stdin() -> int:
    """Keep the pipe of commands for ourselves: an engine or its children that read stdin must not eat them."""
    commands_fd = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return commands_fd
