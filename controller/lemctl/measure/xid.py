"""Xid errors: what the NVIDIA driver says of a GPU in the kernel's log, where that may be read.

A record of /dev/kmsg is `priority,sequence,microseconds,flags;text` (Documentation/ABI/testing/dev-kmsg of the kernel);
the driver writes `NVRM: Xid (PCI:0000:65:00): 79, pid=..., text`. Nothing is ever reset here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

KMSG = Path("/dev/kmsg")
#: One folder per GPU, named for its bus address.
DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
#: One record; the kernel refuses to hand out part of one.
RECORD_B = 8192
#: Codes after which a GPU needs an administrator: in NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors/
#: analyzing-xid-catalog.html, October 2025) those whose immediate action is to reset the GPU or to restart the machine,
#: and the double-bit memory error and the NVLink error, which have a procedure of their own.
FATAL_CODES = frozenset({46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158})
#: NVLink 5 from Blackwell on: the text says whether the error is fatal.
NVLINK5_CODES = range(144, 151)
#: The driver itself says what it needs: `GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)`.
RECOVERY_CODE = 154

_FATAL_LINK = re.compile(r"(?<!-)\bFatal\b")
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9A-Fa-f:.]+)\): (\d+),? ?(.*)")


@dataclass(frozen=True)
class Xid:
    """One error. `t_mono_ns` is the kernel's clock of messages, which is the monotonic one to within milliseconds."""

    t_mono_ns: int
    bus: str
    code: int
    text: str

    @property
    def is_fatal(self) -> bool:
        """Whether the GPU should not be used again before somebody has looked after it."""
        if self.code in NVLINK5_CODES:
            return _FATAL_LINK.search(self.text) is not None
        if self.code == RECOVERY_CODE:
            return not self.text.endswith("(None)")
        return self.code in FATAL_CODES

    def __str__(self) -> str:
        return f"Xid {self.code}" + (f": {self.text}" if self.text else "")


class KernelLog:
    """The kernel's messages from now on. `why_not` says why they cannot be read, None where they can."""

    def __init__(self, path: Path = KMSG):
        self.why_not: str | None = None
        self._fd: int | None = None
        self._kept: list[Xid] = []
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            self.why_not = f"the kernel's log cannot be read ({path}: {error.strerror})"

    def __enter__(self) -> KernelLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """A second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def xids(self, buses: Iterable[str], since_mono_ns: int) -> list[Xid]:
        """The errors of these GPUs since then, oldest first, as far as they came after this log was opened."""
        self._kept += [xid for record in self._records() if (xid := parse_xid(record)) is not None]
        wanted = {_short(bus) for bus in buses}
        return [xid for xid in self._kept if _short(xid.bus) in wanted and xid.t_mono_ns >= since_mono_ns]

    def _records(self) -> Iterator[str]:
        while self._fd is not None:
            try:
                record = os.read(self._fd, RECORD_B)
            except BlockingIOError:
                return
            except BrokenPipeError:  # some were overwritten before they were read: go on with those that are left
                continue
            except OSError as error:
                self.why_not = f"the kernel's log cannot be read any longer ({error.strerror})"
                return
            if not record:
                return
            yield from record.decode(errors="replace").splitlines()


def parse_xid(record: str) -> Xid | None:
    """A record of the kernel's log, if it is an Xid error."""
    head, _, text = record.partition(";")
    found = _XID.search(text)
    if found is None:
        return None
    try:
        t_us = int(head.split(",")[2])
    except (IndexError, ValueError):
        return None
    return Xid(t_us * 1000, found[1], int(found[2]), found[3].strip())


def buses_of(gpus: Sequence[str], root: Path = DRIVER_FOLDER) -> list[str]:
    """The bus addresses of these UUIDs, as the driver lists them."""
    found = []
    for file in sorted(root.glob("*/information")):
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        if any(gpu in text for gpu in gpus):
            found.append(file.parent.name)
    return found


def _short(bus: str) -> str:
    """`0000:65:00.0` and `0000:65:00` are the same device."""
    return bus.lower().partition(".")[0]
