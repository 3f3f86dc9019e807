"""Xid errors of the kernel's log: found for our GPUs alone, from our time on, and told with the failure."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lemctl.daemon.gpu_instruments import GpuInstruments
from lemctl.errors import RunFailed
from lemctl.measure.xid import DRIVER_FOLDER, FATAL_CODES, KernelLog, Xid, buses_of, parse_xid

RECORD = "4,1234,5000000,-;NVRM: Xid (PCI:0000:65:00): 79, pid=77, name=python, GPU has fallen off the bus.\n"
#: By how much the kernel's clock of messages may differ from the monotonic one.
CLOCKS_NS = 50_000_000
PAGE_FAULT = "4,1235,6000000,-;NVRM: Xid (PCI:0000:17:00): 31, pid=88, MMU Fault\n"


def test_a_record_is_taken_apart() -> None:
    assert parse_xid(RECORD) == Xid(5_000_000_000, "0000:65:00", 79, "pid=77, name=python, GPU has fallen off the bus.")
    assert parse_xid("6,1,2,-;usb 1-1: new device") is None
    assert parse_xid("garbage;NVRM: Xid (PCI:0000:65:00): 79") is None
    assert 31 not in FATAL_CODES


def test_only_what_came_after_the_opening_and_is_ours_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text(RECORD.replace("5000000", "1000000"))
    with KernelLog(path) as log:
        assert log.xids(["0000:65:00.0"], 0) == []
        with path.open("a") as file:
            file.write(RECORD + PAGE_FAULT)
        assert [xid.code for xid in log.xids(["0000:65:00.0"], 0)] == [79]
        assert [xid.code for xid in log.xids(["0000:65:00.0"], 0)] == [79], "asked again, they are forgotten"
        assert [xid.code for xid in log.xids(["0000:17:00.0"], 6_000_000_000)] == [31]
        assert log.xids(["0000:65:00.0"], 5_000_000_001) == []


def test_a_log_that_may_not_be_read_says_so_and_holds_nothing_up(tmp_path: Path) -> None:
    with KernelLog(tmp_path / "none") as log:
        assert log.xids(["0000:65:00.0"], 0) == []
        assert log.why_not is not None
        assert "No such file" in log.why_not


def test_the_real_log_is_read_or_says_why_not() -> None:
    with KernelLog() as log:
        assert log.xids([], 0) == []
        assert log.why_not is None or "/dev/kmsg" in log.why_not


@pytest.mark.skipif(
    not os.access("/dev/kmsg", os.W_OK) or DRIVER_FOLDER.parent.exists(),
    reason="needs a kernel's log that may be written, on a host where nobody watches it for GPUs",
)
def test_the_kernel_s_own_log_is_read_with_its_clock() -> None:
    with KernelLog() as log:
        begin_ns = time.monotonic_ns()
        Path("/dev/kmsg").write_text("NVRM: Xid (PCI:ffff:fe:1f): 31, a test of lemctl\n")
        (xid,) = log.xids(["ffff:fe:1f.0"], begin_ns - CLOCKS_NS)
    assert (xid.code, xid.text, xid.is_fatal) == (31, "a test of lemctl", False)
    assert abs(xid.t_mono_ns - begin_ns) < CLOCKS_NS


@pytest.mark.parametrize(
    ("code", "text", "is_fatal"),
    [
        (79, "GPU has fallen off the bus.", True),
        (109, "Ch 00000008, errorString CTX SWITCH TIMEOUT", True),
        (94, "Contained: SM", False),
        (149, "NETIR_LINK_EVT  Fatal   XC0 i0 Link 09 (0x025525c6 0x00000000)", True),
        (149, "NETIR_LINK_EVT Nonfatal XC0 i0 Link 09 (0x025525c6 0x00000000)", False),
        (144, "SAW_MVB Non-Fatal Link 01", False),
        (154, "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", True),
        (154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)", False),
    ],
)
def test_what_needs_an_administrator_is_fatal(code: int, text: str, is_fatal: bool) -> None:
    assert Xid(0, "0000:65:00", code, text).is_fatal is is_fatal


def driver(tmp_path: Path) -> Path:
    for bus, gpu in (("0000:65:00.0", "GPU-a"), ("0000:17:00.0", "GPU-b")):
        folder = tmp_path / "gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t X\nGPU UUID: \t {gpu}\nBus Location: \t {bus}\n")
    return tmp_path / "gpus"


def test_bus_addresses_are_those_of_the_uuids(tmp_path: Path) -> None:
    assert buses_of(["GPU-a"], driver(tmp_path)) == ["0000:65:00.0"]
    assert buses_of(["GPU-c"], tmp_path / "gpus") == []
    assert buses_of(["GPU-a"], tmp_path / "none") == []


@pytest.mark.parametrize(
    ("record", "gpu", "kind"), [(RECORD, "GPU-a", "gpu_lost"), (PAGE_FAULT, "GPU-b", "engine_error")]
)
def test_a_failure_is_told_with_its_xid_and_a_fatal_one_loses_the_gpu(
    tmp_path: Path, record: str, gpu: str, kind: str
) -> None:
    path = tmp_path / "kmsg"
    path.write_text("")
    instruments = GpuInstruments(
        None,
        (gpu,),
        (),
        None,
        lambda pid: False,
        kernel_log=KernelLog(path),
        driver_folder=driver(tmp_path),  # type: ignore[arg-type]
    )
    fault = RunFailed("engine_error", "CUDA error: unspecified launch failure", "trace")
    assert instruments.explained(fault, 0) is fault
    with path.open("a") as file:
        file.write(record)
    told = instruments.explained(fault, 0)
    assert told.kind == kind
    assert told.message.startswith("CUDA error: unspecified launch failure; the driver says Xid ")
    assert told.detail == "trace"
    instruments.kernel_log.close()
