"""A real runner process, driven as the controller drives it: commands down its stdin, events up from a file."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from lem_runner.prompts import Prompt, ids_sha256
from lem_runner.protocol import (
    EVENTS_FILE,
    LEASE_FILE,
    Command,
    Event,
    EventType,
    MeasureSpec,
    ModelRef,
    RunSpec,
    Verb,
    Warmup,
    WorkloadSpec,
)
from lem_runner.results import AttemptResult, RequestRecord, requests_file, result_file

RUNNER_ROOT = Path(__file__).parents[3] / "runner"
CEILING_S = 20.0


def wait_until(is_true: Callable[[], Any], what: str, ceiling_s: float = CEILING_S) -> Any:
    """The first true value of `is_true`; fails after the ceiling."""
    deadline_s = time.monotonic() + ceiling_s
    while not (value := is_true()):
        assert time.monotonic() < deadline_s, f"waited {ceiling_s:g} s for {what}"
        time.sleep(0.005)
    return value


def is_alive(pid: int) -> bool:
    """False for a zombie too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class RunnerProcess:
    """One session. Ended by the fixture that made it, whatever the test does."""

    def __init__(
        self,
        folder: Path,
        *,
        interpreter: str = sys.executable,
        package_root: Path = RUNNER_ROOT,
        alive_period_s: float | None = None,
        lease_limit_s: float | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        options = {"alive_period_s": alive_period_s, "lease_limit_s": lease_limit_s}
        given = {name: value for name, value in options.items() if value is not None}
        start = ["-m", "lem_runner"]
        if given:
            start = [
                "-c",
                f"import os, pathlib, sys; from lem_runner.session import run_session; "
                f"os._exit(run_session(pathlib.Path(sys.argv[-1]), **{given!r}))",
            ]
        with (folder / "stdout.log").open("wb") as out, (folder / "stderr.log").open("wb") as err:
            self.process = subprocess.Popen(
                [interpreter, *start, str(folder)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONPATH": str(package_root)},
                start_new_session=True,
            )

    def send(self, verb: Verb, attempt: str = "", spec: RunSpec | None = None) -> None:
        self.send_raw(Command(verb, attempt, spec).encode())

    def send_raw(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def run(self, attempt: str, spec: RunSpec, ceiling_s: float = CEILING_S) -> Event:
        """`run`, then `go`, then what ended the attempt: its result or its error.

        The lease is kept, as the controller keeps it: a session that many tests share outlives its limit.
        """
        (self.folder / LEASE_FILE).touch()
        self.send("run", attempt, spec)
        event = self.wait_for(("loaded", "error"), attempt, ceiling_s)
        if event.type == "error":
            return event
        self.send("go", attempt)
        return self.wait_for(("result", "error"), attempt, ceiling_s)

    def lines(self) -> list[bytes]:
        """Whole lines of the event file."""
        path = self.folder / EVENTS_FILE
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def events(self) -> list[Event]:
        return [Event.decode(line) for line in self.lines()]

    def types(self, *, without_alive: bool = True) -> list[str]:
        return [event.type for event in self.events() if not (without_alive and event.type == "alive")]

    def wait_for(self, kinds: EventType | Iterable[EventType], attempt: str, ceiling_s: float = CEILING_S) -> Event:
        """The first event of these types of this attempt."""
        wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)

        def found() -> Event | None:
            has_ended = self.process.poll() is not None
            matches = (event for event in self.events() if event.type in wanted and event.attempt == attempt)
            event = next(matches, None)
            assert event is not None or not has_ended, (
                f"the runner ended ({self.process.returncode}) without {wanted}: {self.stderr()}"
            )
            return event

        event: Event = wait_until(found, f"{wanted} of {attempt!r}", ceiling_s)
        return event

    def wait_cancelled(self, attempt: str) -> Event:
        def found() -> Event | None:
            events = (event for event in self.events() if event.type == "alive" and event.attempt == attempt)
            return next((event for event in events if event.data.get("cancelled")), None)

        event: Event = wait_until(found, f"the cancel of {attempt!r}")
        return event

    def result(self, attempt: str) -> AttemptResult:
        return AttemptResult.from_json(json.loads((self.folder / result_file(attempt)).read_bytes()))

    def requests(self, attempt: str) -> list[RequestRecord]:
        content = (self.folder / requests_file(attempt)).read_bytes()
        return [RequestRecord.decode(line) for line in content.splitlines()]

    def has_result(self, attempt: str) -> bool:
        return (self.folder / result_file(attempt)).exists()

    def stderr(self) -> str:
        return (self.folder / "stderr.log").read_text(errors="replace")

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, timeout_s: float = CEILING_S) -> int:
        return self.process.wait(timeout_s)

    def quit(self) -> int:
        self.send("quit")
        return self.wait()

    def end(self) -> None:
        """For the fixture: nothing of this session is left behind."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdin is not None and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass


def write_prompts(path: Path, lengths: Iterable[int]) -> str:
    """A prompt file with prompts of these lengths; returns its sha256."""
    lines = []
    for index, length in enumerate(lengths):
        ids = [3 + (index * 31 + place * 7) % 200 for place in range(length)]
        lines.append(Prompt(index, None, ids, ids_sha256(ids)).encode())
    path.write_bytes(b"".join(lines))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_spec(folder: Path, **changes: Any) -> RunSpec:
    """A run on the replay backend: 10 prompts of 3 tokens, batches of 4, 8 new tokens. `changes` go where they fit."""
    lengths = changes.pop("lengths", [3] * 10)
    path = folder / f"prompts-{len(lengths)}-{sum(lengths)}.jsonl"
    sha256 = write_prompts(path, lengths)
    work = {
        "prompts_path": str(path),
        "prompts_sha256": sha256,
        "prompts": len(lengths),
        "max_new_tokens": 8,
        "output": "fixed",
        "mode": "offline",
        "batch_size": 4,
        "batching": "static",
    }
    known = {field.name for field in fields(WorkloadSpec)}
    work.update({name: changes.pop(name) for name in list(changes) if name in known})
    measure = MeasureSpec(
        window_s=changes.pop("window_s", None), warmup=changes.pop("warmup", Warmup(kind="one_batch"))
    )
    whole: dict[str, Any] = {
        "backend": "replay",
        "engine_key": "key-1",
        "model": ModelRef("random", "none", config={}),
        "engine": {},
        "sampling": {},
        "seed": 0,
    }
    whole.update(changes)
    return RunSpec(workload=WorkloadSpec(**work), measure=measure, **whole)


class StartRunner(Protocol):
    """The fixture `start_runner`."""

    def __call__(self, name: str = "session", **options: Any) -> RunnerProcess: ...
