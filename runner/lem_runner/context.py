"""A device context and nothing else: `python -m lem_runner context` holds one on every visible GPU until stdin ends.

What a context costs in power belongs to the container, not to the engine in it. It is held by a process of its own,
through the driver's library alone (CUDA Driver API): an engine that wants to initialise the device itself finds this
process untouched.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
from contextlib import suppress

LIBRARY = "libcuda.so.1"
HELD = "held"
#: A driver that takes longer to begin hangs.
BEGIN_LIMIT_S = 30.0
END_LIMIT_S = 5.0


class HeldContext:
    """A context in a child process; `obstacle` says why there is none."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "lem_runner", "context"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.obstacle = self._await_word()

    def release(self) -> None:
        """Give it back. A child that does not leave is killed."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT_S)

    def _await_word(self) -> str | None:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], BEGIN_LIMIT_S)
        if not readable:
            return f"the driver gave no context within {BEGIN_LIMIT_S:.0f} s"
        word = self._process.stdout.readline().decode(errors="replace").strip()
        return None if word == HELD else word or "the process that was to hold a context ended"


def hold_context() -> int:
    """Hold a context on every visible GPU, say so in one line, wait for the end of stdin. Returns the exit status."""
    obstacle = _retain_all()
    print(obstacle or HELD, flush=True)
    while obstacle is None and os.read(0, 4096):
        pass
    return 0 if obstacle is None else 1


def _retain_all() -> str | None:
    """Primary contexts by the names and codes of cuda.h; why there is none, in words."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return f"no CUDA driver here: {error}"
    count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    for step, code in (
        ("cuInit", cuda.cuInit(0)),
        ("cuDeviceGetCount", cuda.cuDeviceGetCount(ctypes.byref(count))),
    ):
        if code:
            return f"{step} answered {code}"
    for index in range(count.value):
        if code := cuda.cuDeviceGet(ctypes.byref(device), index):
            return f"cuDeviceGet answered {code}"
        if code := cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
            return f"cuDevicePrimaryCtxRetain answered {code} for device {index}"
    return None if count.value else "the CUDA driver sees no GPU"
