"""Processes that make the same calls as this one at the same time: the other ranks of an engine on several GPUs.

Calls go down a pipe, answers and signs of life come up another. An idle peer waits on its pipe, not in a collective:
that would spin, and heat the device whose idle power is being measured. A peer that is lost ends this process from the
thread that notices, for the main one may be in native code that waits for that peer; one that hangs is known by its
silence.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from lem_runner.failures import EngineLostError, Failure, failure_of, one_line
from lem_runner.protocol import ALIVE_PERIOD_S, EXIT_ORPHANED
from lem_runner.watch import end_now

#: How long an error of our own waits for the loss that may have caused it, in seconds.
SETTLE_S = 5.0


@dataclass(frozen=True)
class Loss:
    """A process that did part of the work is gone: why, as far as it could say, else how it ended."""

    name: str
    failure: Failure | None = None
    returncode: int | None = None


OnLoss = Callable[[Loss], NoReturn]


class Peers:
    """Started together, called together. `on_loss` is called from the thread that noticed, and does not return."""

    def __init__(self, commands: Mapping[str, Sequence[str]], on_loss: OnLoss) -> None:
        """`commands` by the name that a loss is told under."""
        self._on_loss = on_loss
        self._is_closing = False
        self._processes = {name: _started(command) for name, command in commands.items()}
        self._heard_s = dict.fromkeys(commands, time.monotonic())
        self._answers: dict[str, queue.SimpleQueue[Any]] = {name: queue.SimpleQueue() for name in commands}
        for name, process in self._processes.items():
            threading.Thread(target=self._listen, args=(name, process), name=name, daemon=True).start()

    @contextmanager
    def together(self, call: str, *arguments: Any) -> Iterator[list[Any]]:
        """Every peer makes this call while the body runs; the list is filled with their answers at its end."""
        line = json.dumps([call, *arguments]).encode() + b"\n"
        for process in self._processes.values():
            _send(process, line)
        answers: list[Any] = []
        try:
            yield answers
        except Exception as error:
            # A collective that broke because a peer is lost: then that is what ends us, with its own kind.
            time.sleep(SETTLE_S)
            raise EngineLostError(f"the ranks are no longer in step: {one_line(error)}") from error
        answers.extend(found.get() for found in self._answers.values())

    def silent_s(self) -> list[float]:
        """Seconds since each told anything, in their order; from any thread."""
        now_s = time.monotonic()
        return [now_s - heard_s for heard_s in self._heard_s.values()]

    def close(self) -> None:
        """The end of their stdin ends them."""
        self._is_closing = True
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            self._heard_s[name] = time.monotonic()
            if "alive" in answer:
                continue
            if "failure" in answer and not self._is_closing:
                self._on_loss(Loss(name, Failure(**answer["failure"])))
            self._answers[name].put(answer.get("value"))
        returncode = process.wait()
        if not self._is_closing:
            self._on_loss(Loss(name, returncode=returncode))


def _started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    # stderr is ours: one log for the whole engine.
    return subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # its thread tells


def follow(obey: Callable[[str, list[Any]], Any], alive_period_s: float = ALIVE_PERIOD_S) -> NoReturn:
    """The life of a peer: obey one call after another, answer each; end with stdin, whatever is under way."""
    answers = _Answers()
    os.dup2(2, 1)  # an engine that prints must not answer
    calls: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, calls), name="calls", daemon=True).start()
    threading.Thread(target=answers.tell_alive, args=(alive_period_s,), name="alive", daemon=True).start()
    while True:
        call, *arguments = calls.get()
        try:
            answer = {"value": obey(call, arguments)}
        except BaseException as error:  # noqa: BLE001 - engines raise anything; told, with its kind
            answer = {"failure": failure_of(error, is_loading=True).to_json()}
        # After a failure it stays until stdin ends: were it gone, the others would break before it has been heard.
        answers.tell(answer)


class _Answers:
    """What goes up, a line at a time, from any thread."""

    def __init__(self) -> None:
        self._pipe = os.fdopen(os.dup(1), "wb")
        self._lock = threading.Lock()

    def tell(self, answer: Mapping[str, Any]) -> None:
        with self._lock:
            self._pipe.write(json.dumps(answer).encode() + b"\n")
            self._pipe.flush()

    def tell_alive(self, period_s: float) -> None:
        """Until nobody reads: then stdin ends, too."""
        with suppress(BrokenPipeError):
            while True:
                time.sleep(period_s)
                self.tell({"alive": True})


def _receive(stream: BinaryIO, calls: queue.SimpleQueue[list[Any]]) -> NoReturn:
    for line in stream:
        calls.put(json.loads(line))
    end_now(EXIT_ORPHANED, "stdin has ended: the first rank is gone")
