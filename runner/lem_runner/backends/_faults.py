"""What can go wrong with an engine, on demand: the `fault` parameters of the replay backend.

Most faults are the real thing (a signal, an exit, memory, a call that never lets go of the interpreter). The few that
need a broken runner (`garbage`, `gap`, `truncated_result`, `ignore_cancel`) replace one function of it, here and
nowhere else, so that the runner itself has no code for being broken.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter

Stage = Literal["load", "warmup", "window", "result"]

_FOREVER_S = 1_000_000
_MIB = 1 << 20


class OutOfMemoryError(RuntimeError):
    """Named and worded as torch's."""


class Faults:
    """Fires the fault once per attempt where the parameters say. Follows the attempt by the calls an engine gets."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._set = parameters
        self._stage: Stage = "load"
        self._attempt = 1
        self._batch = 0
        self._is_batch_open = False
        self._has_admitted = False
        if parameters.get("fault") == "ignore_cancel":
            _ignore_cancel()

    def begin_attempt(self) -> None:
        """An attempt has been admitted: its warm-up comes next."""
        self._attempt += self._has_admitted
        self._has_admitted = True
        self._stage, self._batch, self._is_batch_open = "warmup", 0, False

    def sync(self) -> None:
        """Each batch of the warm-up is followed by one; one with no batch before it opens the window."""
        if self._stage == "warmup" and not self._is_batch_open:
            self._stage, self._batch = "window", 0
        elif self._stage == "window":
            self._stage = "result"
        self._is_batch_open = False

    def reach_batch(self) -> None:
        """A batch begins."""
        number, self._batch = self._batch, self._batch + 1
        self._is_batch_open = True
        if self._stage in ("warmup", "window") and number == self._set["fault_batch"]:
            self.reach(self._stage)

    def reach_result(self) -> None:
        """The window is over, nothing is written yet."""
        if self._stage == "result":
            self.reach("result")

    def reach(self, stage: Stage) -> None:
        """Fire if it is this stage of this attempt that should fail."""
        fault = self._set["fault"]
        if fault in ("none", "ignore_cancel") or stage != self._set["fault_at"]:
            return
        if self._set["fault_on"] not in (0, self._attempt) or not self._is_first():
            return
        _FAULTS[fault](self._set)

    def _is_first(self) -> bool:
        """With a marker file, true for the first fault alone, whichever process comes to it."""
        if self._set["fault_marker"] is None:
            return True
        # A relative name lies beside the session folders, where the next session finds it too.
        marker = Path(sys.argv[-1]).resolve().parent / self._set["fault_marker"]
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _error(_: Mapping[str, Any]) -> None:
    raise RuntimeError("injected engine error")


def _oom_gpu(_: Mapping[str, Any]) -> None:
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB (injected)")


def _oom_host(_: Mapping[str, Any]) -> None:
    raise MemoryError("injected")


def _bad_request(_: Mapping[str, Any]) -> None:
    raise BadRequestError("injected bad request")


def _hang(_: Mapping[str, Any]) -> None:
    """In native code that lets other threads run: `alive` goes on, the counters do not."""
    time.sleep(_FOREVER_S)


def _silent(_: Mapping[str, Any]) -> None:
    """In native code that keeps the interpreter's lock: no thread gets anywhere, stdin's end is not seen."""
    while True:
        ctypes.PyDLL(None).sleep(_FOREVER_S)


def _exit(_: Mapping[str, Any]) -> None:
    os._exit(0)


def _kill(_: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(_FOREVER_S)


def _no_result(_: Mapping[str, Any]) -> None:
    """A session that ends politely, with `bye` and status 0, but without the result."""
    os.kill(os.getpid(), signal.SIGTERM)


def _huge_output(parameters: Mapping[str, Any]) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(parameters["fault_mb"]):
        block = line * 1024
        while block:
            block = block[os.write(1, block) :]


def _alloc(parameters: Mapping[str, Any]) -> None:
    """Take memory for real, until the kernel or `fault_mb` says stop."""
    held = [bytearray(b"\x01") * _MIB for _ in range(parameters["fault_mb"])]
    raise MemoryError(f"{len(held)} MiB taken (injected)")


def _child_holds_stdout(parameters: Mapping[str, Any]) -> None:
    """Exit and leave a child that keeps stdout open."""
    subprocess.Popen(["sleep", str(parameters["fault_child_s"])], start_new_session=True)
    os._exit(1)


def _garbage(_: Mapping[str, Any]) -> None:
    from lem_runner.events import EventLog

    _before_next_emit(lambda log: os.write(log._fd, b"\x00\xff not an event {{{\n"), EventLog)


def _gap(_: Mapping[str, Any]) -> None:
    from lem_runner.events import EventLog

    def skip(log: EventLog) -> None:
        log._seq += 1

    _before_next_emit(skip, EventLog)


def _before_next_emit(act: Callable[[Any], object], event_log: Any) -> None:
    whole = event_log.emit

    def broken(log: Any, *arguments: Any) -> None:
        event_log.emit = whole
        act(log)
        whole(log, *arguments)

    event_log.emit = broken


def _truncated_result(_: Mapping[str, Any]) -> None:
    from lem_runner import records

    whole = records.publish

    def broken(path: Path, content: bytes) -> str:
        sha256 = whole(path, content)
        if path.name.endswith(".result.json"):
            records.publish = whole
            os.truncate(path, len(content) // 2)
        return sha256

    records.publish = broken


def _ignore_cancel() -> None:
    from lem_runner.session import Session

    Session.is_stopped = lambda *_: False  # type: ignore[method-assign]


_FAULTS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "error": _error,
    "oom_gpu": _oom_gpu,
    "oom_host": _oom_host,
    "bad_request": _bad_request,
    "hang": _hang,
    "silent": _silent,
    "exit": _exit,
    "kill": _kill,
    "garbage": _garbage,
    "gap": _gap,
    "no_result": _no_result,
    "truncated_result": _truncated_result,
    "huge_output": _huge_output,
    "child_holds_stdout": _child_holds_stdout,
    "alloc": _alloc,
}

FAULT_PARAMETERS = [
    Parameter("fault", "str", "none", "engine", "what goes wrong", choices=("none", "ignore_cancel", *_FAULTS)),
    Parameter("fault_at", "str", "window", "engine", "when", choices=("load", "warmup", "window", "result")),
    Parameter("fault_on", "int", 0, "engine", "which attempt of a session, from 1; 0: every one", minimum=0),
    Parameter("fault_batch", "int", 0, "engine", "before which batch of the warm-up or window, from 0", minimum=0),
    Parameter("fault_marker", "str", None, "engine", "a file beside the session folders: once, until it is removed"),
    Parameter("fault_child_s", "float", 60.0, "engine", "how long child_holds_stdout lasts", minimum=0),
    Parameter("fault_mb", "int", 300, "engine", "MiB for huge_output and alloc", minimum=1),
]
