"""A runner's stdout and stderr as capped files: the first megabyte, and the tail in a file of its own.

A runner that prints 300 MB neither fills the disk nor blocks on a full pipe.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from lemctl.engines.entrusted import read_entrusted, write_entrusted

HEAD_B = 1 << 20
TAIL_B = 1 << 18
#: The tail file is rewritten at most this often.
TAIL_PERIOD_S = 1.0


class CappedLog:
    """Drains one pipe in a thread of its own. `total_b` counts everything that came, kept or not.

    A full disk ends the keeping, never the draining: the writer would block on its pipe.
    """

    def __init__(self, pipe: IO[bytes], path: Path):
        self.path = path
        self.total_b = 0
        self._pipe = pipe
        self._tail = bytearray()
        self._thread = threading.Thread(target=self._drain, name=f"drain-{path.name}", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until the writer has closed its end; a background child may hold it open for ever, hence the limit."""
        self._thread.join(timeout_s)

    def last_lines(self, count: int = 5) -> str:
        """The newest lines, for a message."""
        return b"\n".join(bytes(self._tail).splitlines()[-count:]).decode(errors="replace")

    def _drain(self) -> None:
        written_at = 0.0
        with self._pipe:
            while chunk := self._read():
                room = HEAD_B - self.total_b
                if room > 0:
                    self._keep_head(chunk[:room])
                self.total_b += len(chunk)
                self._tail = (self._tail + chunk)[-TAIL_B:]
                if self.total_b > HEAD_B and time.monotonic() - written_at > TAIL_PERIOD_S:
                    self._write_tail()
                    written_at = time.monotonic()
        if self.total_b > HEAD_B:
            self._write_tail()

    def _keep_head(self, part: bytes) -> None:
        with suppress(OSError):
            write_entrusted(self.path, part, os.O_APPEND)

    def _read(self) -> bytes:
        try:
            return self._pipe.read1(1 << 16)  # type: ignore[attr-defined,no-any-return]
        except (OSError, ValueError):  # closed under us while the session ends
            return b""

    def _write_tail(self) -> None:
        """One JSON line with the offset of what follows, then the bytes."""
        header = json.dumps({"offset": self.total_b - len(self._tail)}).encode() + b"\n"
        with suppress(OSError):
            write_entrusted(tail_path(self.path), header + bytes(self._tail))


def tail_path(log: Path) -> Path:
    """`stdout.log` -> `stdout.tail`."""
    return log.with_suffix(".tail")


def read_log(log: Path, from_b: int, to_b: int | None) -> bytes:
    """The kept part of a stream between two offsets, with a line that says where bytes were dropped."""
    try:
        head = read_entrusted(log, 2 * HEAD_B) or b""
        tail = read_entrusted(tail_path(log), 2 * TAIL_B)
    except OSError as error:
        return f"... not shown: {error} ...\n".encode()
    part = head[from_b:to_b]
    if (to_b is not None and to_b <= len(head)) or tail is None:
        return part
    header, _, body = tail.partition(b"\n")
    offset = int(json.loads(header)["offset"])
    end = None if to_b is None else max(0, to_b - offset)
    dropped = offset - max(from_b, len(head))
    note = f"\n... {dropped} bytes not kept ...\n".encode() if dropped > 0 else b""
    return part + note + body[max(0, max(from_b, len(head)) - offset) : end]
