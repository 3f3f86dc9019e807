"""Xid errors of the kernel's log: found for our GPUs alone, from our time on, and told with the failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from lemctl.daemon.gpu_instruments import GpuInstruments
from lemctl.errors import RunFailed
from lemctl.measure.xid import FATAL_CODES, KernelLog, Xid, buses_of, parse_xid

RECORD = "4,1234,5000000,-;NVRM: Xid (PCI:0000:65:00): 79, pid=77, name=python, GPU has fallen off the bus.\n"
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
