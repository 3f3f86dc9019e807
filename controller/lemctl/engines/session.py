"""One runner process, talked to: commands down its stdin, events up its files, and a limit on every wait.

It knows nothing of Docker or of the store; a `RunnerProcess` holds the process, the caller decides what to run.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from lem_runner.protocol import (
    CONTRACT_VERSION,
    EVENTS_FILE,
    LEASE_FILE,
    LEASE_PERIOD_S,
    Command,
    Event,
    RunnerFaultKind,
    RunSpec,
)
from lemctl.cancel import Cancel
from lemctl.engines.entrusted import touch_entrusted
from lemctl.engines.events import EventTail, Finished, read_finished
from lemctl.engines.watchdogs import Ladder, Limits, Phases, Progress, signs
from lemctl.errors import CancelledByPerson, FaultKind, Interrupted, RunFailed

#: Waits between looks at the event file: short at first, for engines that answer at once.
POLL_MIN_S, POLL_MAX_S = 0.002, 0.05
#: How long each rung of the ladder may take before the next.
CANCEL_S, QUIT_S, CLOSE_S, KILL_S = 10.0, 10.0, 10.0, 5.0
#: Longer than the runner itself waits for its driver.
CONTEXT_S = 45.0
#: Longest message and traceback that are kept of what a runner says, in characters.
MESSAGE_LIMIT, DETAIL_LIMIT = 1_000, 20_000


@dataclass(frozen=True)
class Death:
    """Why a runner process is gone, as far as its holder can tell."""

    kind: FaultKind
    message: str


class RunnerProcess(Protocol):
    """What the session asks of whoever started the runner."""

    def write(self, line: bytes) -> None:
        """Send to stdin; a broken pipe is not an error: `poll` tells of the death."""
        ...

    def poll(self) -> Death | None:
        """None while the process lives."""
        ...

    def close_stdin(self) -> None:
        """The runner ends itself at EOF."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """True when the process is gone."""
        ...

    def kill(self) -> None:
        """End the runner and its children by force."""
        ...

    def destroy(self) -> None:
        """The last rung: also ends whatever the kill left (the container is restarted)."""
        ...

    def log_offsets(self) -> dict[str, int]:
        """Bytes so far of stdout and stderr."""
        ...

    def last_words(self) -> str:
        """The end of stderr."""
        ...


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """For callers that need no events."""


class Session:
    """One runner, from hello to its end. Not thread-safe: a lane's worker owns it."""

    def __init__(self, process: RunnerProcess, folder: Path, limits: Limits):
        self.process = process
        self.folder = folder
        self.limits = limits
        self.hello: dict[str, Any] = {}
        self.ladder = Ladder()
        self._rung: str | None = None
        self._began_at: float | None = None
        self._events = EventTail(folder / EVENTS_FILE)
        self._heard_at = time.monotonic()
        self._signs: dict[str, dict[str, Any]] = {}
        self._lease_at = 0.0

    def greet(self, cancel: Cancel) -> dict[str, Any]:
        """Wait for `hello` and check the contract's version. Raises `RunFailed`.

        A runner that dies before it has said a word is trouble of the place, not of the experiment.
        """
        try:
            return self._await_hello(cancel)
        except RunnerDied as death:
            raise RunFailed("infra", f"no hello: {death.message}", death.detail) from death

    def _await_hello(self, cancel: Cancel) -> dict[str, Any]:
        for event in self._listen("", self.limits.hello_s, "infra", "the runner did not say hello", cancel):
            if event.type == "hello":
                theirs = event.data.get("contract")
                if theirs != CONTRACT_VERSION:
                    raise RunFailed(
                        "infra",
                        f"the runner speaks contract {theirs!r}, this controller {CONTRACT_VERSION}: they must match",
                    )
                self.hello = event.data
                return event.data
        raise AssertionError("unreachable: listening ends by an event or an error")

    def hold_context(self, attempt: str, cancel: Cancel) -> str | None:
        """Let the runner hold a device context until `load`; why there is none, else None. Raises as `load` does."""
        self._send(Command("context", attempt))
        message = f"no answer about a device context within {CONTEXT_S:.0f} s"
        for event in self._listen(attempt, CONTEXT_S, "infra", message, cancel):
            if event.type == "context":
                return None if event.data.get("held") is True else _plain(event.data.get("reason"), MESSAGE_LIMIT)
        raise AssertionError("unreachable")

    def load(self, attempt: str, spec: RunSpec, cancel: Cancel, on_event: OnEvent = ignore) -> dict[str, Any]:
        """Send `run`, wait for `loaded`; its data. Raises `RunFailed`, `Interrupted`, `CancelledByPerson`."""
        self._began_at = time.monotonic()
        self._send(Command("run", attempt, spec))
        limit_s = self.limits.start_s
        message = f"not loaded within {limit_s:.0f} s"
        for event in self._listen(attempt, limit_s, "timed_out", message, cancel):
            on_event(event)
            if event.type == "loaded":
                return event.data
        raise AssertionError("unreachable")

    def go(self, attempt: str, cancel: Cancel, on_event: OnEvent = ignore) -> Finished:
        """Send `go`, wait for the checked result. Raises `RunFailed`, `Interrupted`, `CancelledByPerson`.

        A complete result on disk beats a cancel and a death: it was whole before its rename.
        """
        self._send(Command("go", attempt))
        try:
            announced = self._await_result(attempt, cancel, on_event)
        except (Interrupted, CancelledByPerson, RunnerDied):
            finished = read_finished(self.folder, attempt, None)
            if finished is None:
                raise
            return finished
        finished = read_finished(self.folder, attempt, announced)
        if finished is None:
            raise RunFailed("bad_result", "a result was announced, but its file is not there")
        return finished

    def idle(self, cancel: Cancel, seconds: float) -> None:
        """Keep the session alive while something else is waited for (the gate, a baseline); ends early on `cancel`.

        Raises `RunFailed` when the runner dies or falls silent meanwhile.
        """
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0 and not cancel.event.is_set():
            death = self.process.poll()
            for event in self._hear():
                _raise_error(event)
            if death is not None:
                raise RunnerDied(death.kind, death.message, self.last_words())
            self._refuse_silence()
            cancel.event.wait(min(left_s, 4 * POLL_MAX_S))

    def end(self, reason: str) -> str:
        """Ask, close, kill, destroy: each with its limit; returns the rung that ended it. Never raises.

        Only a runner in good order (`reason` "ok") is asked. One that says `bye` has ended its process tree, even if
        its client lingers; any other end also destroys what may be left.
        """
        if self._rung is None:
            self._rung = self._climb_down(reason)
            self._events.close()
        return self._rung

    def is_alive(self) -> bool:
        """Whether the runner can take another attempt."""
        return self._rung is None and self.process.poll() is None

    def _climb_down(self, reason: str) -> str:
        if reason == "ok" and self.ladder.climb("asked to quit", QUIT_S, self._quits):
            self.process.kill()  # a client that lingers
            if self.process.wait(KILL_S):
                return "quit"
        used = "stdin closed" if self.ladder.climb("stdin closed", CLOSE_S, self._ends_at_eof) else "killed"
        if not self.ladder.climb("killed", KILL_S, self._is_killed):
            used = "destroyed"
        self.ladder.climb("container restarted, or its processes ended", None, self._is_destroyed)
        return used

    def _quits(self) -> bool:
        self.process.write(Command("quit").encode())
        return self._said_bye(QUIT_S)

    def _ends_at_eof(self) -> bool:
        self.process.close_stdin()
        return self.process.wait(CLOSE_S)

    def _is_killed(self) -> bool:
        self.process.kill()
        return self.process.wait(KILL_S)

    def _is_destroyed(self) -> bool:
        self.process.destroy()
        return self.process.wait(0.0)

    def _said_bye(self, limit_s: float) -> bool:
        until = time.monotonic() + limit_s
        try:
            while time.monotonic() < until:
                gone = self.process.wait(POLL_MIN_S)
                if any(event.type == "bye" for event in self._events.read()):
                    return True
                if gone:
                    return False
        except RunFailed:  # a last event that is not sound: the session is over all the same
            pass
        return False

    def last_words(self) -> str:
        """The end of the runner's stderr."""
        return self.process.last_words()

    def log_offsets(self) -> dict[str, int]:
        """Bytes so far of stdout and stderr."""
        return self.process.log_offsets()

    def _send(self, command: Command) -> None:
        self._heard_at = time.monotonic()
        self._signs = {}
        self.process.write(command.encode())

    def _await_result(self, attempt: str, cancel: Cancel, on_event: OnEvent) -> dict[str, Any]:
        watch, phases = Progress(self.limits.progress_s), Phases(self.limits)
        limit_s = self.limits.run_s
        message = f"no result within {limit_s:.0f} s"
        for event in self._listen(attempt, limit_s, "timed_out", message, cancel, phases):
            on_event(event)
            watch.see(event)
            if event.type == "result":
                return event.data
        raise AssertionError("unreachable")

    def _listen(
        self,
        attempt: str,
        limit_s: float,
        kind: FaultKind,
        message: str,
        cancel: Cancel,
        phases: Phases | None = None,
    ) -> Iterator[Event]:
        """Events of one wait, until the caller has what it waited for; every limit is kept here.

        A runner answers `cancel` at a batch boundary; where there are none (no `phases`) it is not asked.
        """
        has_batches = phases is not None
        cancel_s = CANCEL_S if has_batches else 0.0
        began_at = time.monotonic()
        cancelled_at: float | None = None
        poll_s = POLL_MIN_S
        while True:
            death = self.process.poll()  # before reading: whatever it wrote in its life is then in the file
            heard = False
            for event in self._hear():
                heard = True
                if event.attempt not in (attempt, ""):
                    continue
                if event.data.get("cancelled"):
                    cancel.raise_if_set()
                _raise_error(event)
                if phases is not None:
                    phases.see(event)
                yield event
            now = time.monotonic()
            if death is not None:
                cancel.raise_if_set()
                raise RunnerDied(death.kind, death.message, self.last_words())
            if cancel.event.is_set() and cancelled_at is None:
                cancelled_at = now
                if has_batches:
                    self._send(Command("cancel", attempt))
            if cancelled_at is not None and now - cancelled_at >= cancel_s:
                self.end("cancel was not answered")
                cancel.raise_if_set()
            self._refuse_silence()
            late = message if now - began_at > limit_s else phases.lateness(now) if phases is not None else None
            if late is not None:
                raise RunFailed(kind, late, self.last_words())
            poll_s = POLL_MIN_S if heard else min(poll_s * 1.3, POLL_MAX_S)
            time.sleep(poll_s)

    def _hear(self) -> Iterator[Event]:
        self._touch_lease()
        for event in self._events.read():
            self._heard_at = time.monotonic()
            if event.type == "alive":
                self._signs = signs(event)
            yield event

    def _refuse_silence(self) -> None:
        now = time.monotonic()
        if self._began_at is not None and now - self._began_at > self.limits.total_s:
            raise RunFailed("timed_out", f"no end within {self.limits.total_s:.0f} s of its start", self.last_words())
        silent_s = now - self._heard_at
        if silent_s > self.limits.silence_s:
            raise RunFailed("silent", f"no sign of life for {silent_s:.0f} s", self.last_words())
        for name, sign in self._signs.items():
            if sign["silent_s"] > self.limits.silence_s:
                raise RunFailed("silent", f"{name}: no sign of life for {sign['silent_s']:.0f} s", self.last_words())

    def _touch_lease(self) -> None:
        now = time.monotonic()
        if now - self._lease_at >= LEASE_PERIOD_S:
            try:
                touch_entrusted(self.folder / LEASE_FILE)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise RunFailed("bad_result", f"the lease in the session folder cannot be kept: {error}") from error
            self._lease_at = now


class RunnerDied(RunFailed):
    """The process is gone."""


def _raise_error(event: Event) -> None:
    if event.type != "error":
        return
    told = event.data.get("kind")
    kind: FaultKind = next((known for known in get_args(RunnerFaultKind) if known == told), "engine_error")
    message = _plain(event.data.get("message", "no message"), MESSAGE_LIMIT)
    raise RunFailed(kind, message, _plain(event.data.get("traceback", ""), DETAIL_LIMIT))


def _plain(told: object, limit: int) -> str:
    """What a runner said, as text that any database and terminal takes: no lone surrogates, NULs or escapes."""
    text = str(told)[:limit].encode(errors="replace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
