"""The process of a prefetch: its steps as they come, its complaints, and its end, whatever it takes.

It talks to a hub, so it may stall for ever: it ends in time, or is ended, with what it started and with its container.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from lemctl.errors import LemctlError, PreflightRefused
from lemctl.steps import BYTES, Step, Tell

#: A job that was asked to end gets so long.
TERMINATE_S = 10.0
#: What a job printed is read at most so long after its end: something that it started may hold its pipes.
TAIL_S = 2.0
_POLL_S = 0.5
#: What the runner counts, where its message ends in it.
_UNITS = (BYTES, "prompts")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Of one job, in seconds: the whole of it, and without a step that tells of anything new."""

    total_s: float
    silence_s: float


class Late(Exception):
    """A limit has passed; says which."""


def run_job(
    command: Sequence[str],
    environment: Mapping[str, str],
    tell: Tell,
    limits: FetchLimits,
    remove: Callable[[], object] = lambda: None,
) -> list[str]:
    """Run it; returns the lines of its complaints. One that is late or left by an exception (Ctrl-C) is ended, and
    `remove` takes away what outlives it. Raises `PreflightRefused` where it cannot be started, `LemctlError` where it
    fails without a word."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=dict(environment),
        )
    except OSError as error:
        raise PreflightRefused(f"{command[0]} cannot be started: {error.strerror}") from error
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    readers = [_reader(process.stdout, lines.put), _reader(process.stderr, said.append)]
    try:
        for step in _steps(process, lines, readers[0], limits):
            tell(step)
        readers[1].join(TAIL_S)
    except Late as late:
        _end(process)
        remove()
        return [str(late)]
    except BaseException:
        _end(process)
        remove()
        raise
    return _complaints(process.returncode, list(said))


def _steps(
    process: subprocess.Popen[str], lines: queue.SimpleQueue[str], reader: threading.Thread, limits: FetchLimits
) -> Iterator[Step]:
    """Until its end. Raises `Late`."""
    began = moved = time.monotonic()
    last: Step | None = None
    while process.poll() is None:
        now = time.monotonic()
        at = f" ({last})" if last else ""
        if now - moved > limits.silence_s:
            raise Late(
                f"no progress for {limits.silence_s:g} s{at}; what was fetched is kept: try again, or raise"
                " LEM_PREFETCH_SILENCE_S"
            )
        if now - began > limits.total_s:
            raise Late(
                f"not done within {limits.total_s:g} s{at}; what was fetched is kept: try again, or raise"
                " LEM_PREFETCH_TOTAL_S"
            )
        try:
            step = _step(lines.get(timeout=_POLL_S))
        except queue.Empty:
            continue
        if step is not None:
            moved, last = (moved, last) if step == last else (time.monotonic(), step)
            yield step
    reader.join(TAIL_S)
    while not lines.empty():
        if (step := _step(lines.get())) is not None:
            yield step


def _reader(pipe: IO[str], keep: Callable[[str], object]) -> threading.Thread:
    def read(lines: Iterable[str]) -> None:
        for line in lines:
            keep(line)

    thread = threading.Thread(target=read, args=(pipe,), daemon=True)
    thread.start()
    return thread


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(TERMINATE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _complaints(code: int, said: Sequence[str]) -> list[str]:
    complaints = [line.strip().removeprefix("prefetch: ") for line in said if line.startswith("prefetch: ")]
    if code and not complaints:
        last = next((line.strip() for line in reversed(said) if line.strip()), f"exit code {code}")
        raise LemctlError(f"prefetch failed: {last}")
    return complaints if code else []


def _step(line: str) -> Step | None:
    try:
        body = json.loads(line)
        message, _, unit = body["message"].rpartition(", ")
        if unit not in _UNITS:
            message, unit = body["message"], ""
        what = f"{body['step']}: {message}"
        return Step(what) if body["total"] == 1 else Step(what, body["done"], body["total"], unit)
    except (ValueError, KeyError, TypeError):
        return None
