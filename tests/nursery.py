"""Daemons for tests, forked from one process that has everything imported: each is a real process on a state folder of
its own, and costs what it does instead of what Python's start costs.

Run as a script it is that process: one order a line on its input, one answer a line on its output.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


class Forked:
    """A daemon; its methods are those of `subprocess.Popen`."""

    def __init__(self, variables: Mapping[str, str], log: Path, constants: Mapping[str, float] | None = None):
        """`constants` are set in its modules before it begins, each by its full name."""
        order = {"variables": {**os.environ, **variables}, "log": str(log), "constants": dict(constants or {})}
        self.pid: int = _ask(order)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code once it has ended, negative for a signal."""
        if self.returncode is None:
            self.returncode = _ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Until it has ended."""
        until = time.monotonic() + (timeout_s or 60)
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"daemon {self.pid} has not ended")
            time.sleep(0.005)
        return code

    def terminate(self) -> None:
        """SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


@cache
def _nursery() -> subprocess.Popen[str]:
    """One for all tests of this process."""
    started = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(lambda: started.communicate(timeout=10))
    return started


def _ask(order: object) -> Any:
    nursery = _nursery()
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    print(json.dumps(order), file=nursery.stdin, flush=True)
    return json.loads(nursery.stdout.readline())


def _be_a_daemon(variables: Mapping[str, str], log: str, constants: Mapping[str, float]) -> None:
    from lemctl.daemon.process import main

    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        assert hasattr(sys.modules[module], constant), f"there is no {name}"
        setattr(sys.modules[module], constant, value)
    os.environ.clear()
    os.environ.update(variables)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for fd, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, out)):
        os.dup2(source, fd)
    code = 1
    try:
        code = main()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _serve_orders() -> None:
    import lemctl.daemon.recovery
    import lemctl.daemon.serve
    import lemctl.daemon.world
    import lemctl.settings  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif (answer := os.fork()) == 0:
            _be_a_daemon(order["variables"], order["log"], order["constants"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve_orders()
