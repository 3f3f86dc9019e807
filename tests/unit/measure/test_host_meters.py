"""CPU and memory energy from a RAPL folder that counts and from a codecarbon child that is a script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lemctl.measure.cpu import find_zones
from lemctl.measure.energy import NoEnergy
from lemctl.measure.host import HostEnergy, HostMeters

S = 1_000_000_000
ESTIMATE = """
import json, select, sys, time
while not select.select([sys.stdin], [], [], 0.1)[0]:
    t = time.monotonic_ns()
    told = {"t_mono_ns": t, "cpu_j": t / 1e9 * 42.0, "ram_j": t / 1e9 * 10.0, "cpu_basis": "estimated"}
    print(json.dumps(told), flush=True)
"""
BROKEN = """
import json
print(json.dumps({"unavailable": "ImportError: no codecarbon"}), flush=True)
"""


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that no disk stalls: a counter that stood still for a while would be read as less energy, then more."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def counting_zone(in_memory: Path) -> Iterator[Path]:
    """A package that draws 50 W and wraps every two seconds: a late reading does not miss a whole turn."""
    zone, done = in_memory / "intel-rapl:0", threading.Event()
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("100000000\n")

    def count() -> None:
        while not done.is_set():
            (zone / "new").write_text(str(round(time.monotonic() * 50e6) % 100_000_000))
            (zone / "new").rename(zone / "energy_uj")
            done.wait(0.005)

    (zone / "energy_uj").write_text("0")
    thread = threading.Thread(target=count)
    thread.start()
    yield in_memory
    done.set()
    thread.join()


def wait_for_energy(meters: HostMeters, begin_ns: int, end_ns: int, is_there: Callable[[object], bool]) -> HostEnergy:
    deadline = time.monotonic() + 8.0
    while True:
        found = meters.energy_between(begin_ns, end_ns)["cpu"]
        if is_there(found):
            assert isinstance(found, HostEnergy)
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_rapl_is_preferred_and_measured_across_wraps(counting_zone: Path) -> None:
    with HostMeters(zones=find_zones(counting_zone)) as meters:
        begin_ns = time.monotonic_ns() + S // 5
        found = wait_for_energy(meters, begin_ns, begin_ns + 2 * S, lambda energy: isinstance(energy, HostEnergy))
        memory = meters.energy_between(begin_ns, begin_ns + 2 * S)["ram"]
    assert (found.meter, found.basis) == ("rapl", "measured")
    assert found.energy_j == pytest.approx(100.0, rel=0.05)
    assert isinstance(memory, NoEnergy)
    assert "no country" in memory.reason


def test_without_rapl_the_estimate_is_marked_as_one() -> None:
    with HostMeters("DEU", zones=[], carbon_command=[sys.executable, "-c", ESTIMATE]) as meters:
        begin_ns = time.monotonic_ns() + S // 2
        found = wait_for_energy(meters, begin_ns, begin_ns + S, lambda energy: isinstance(energy, HostEnergy))
    assert (found.meter, found.basis) == ("codecarbon", "estimated")
    assert found.energy_j == pytest.approx(42.0, rel=0.01)


def test_a_codecarbon_that_cannot_start_is_absent_with_its_reason() -> None:
    with HostMeters("DEU", zones=[], carbon_command=[sys.executable, "-c", BROKEN]) as meters:
        deadline = time.monotonic() + 5.0
        while "ImportError" not in str(meters.energy_between(0, S)["cpu"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.slow
def test_the_real_codecarbon_counts_offline(tmp_path: Path) -> None:
    python = os.environ.get("LEM_PYTHON_CARBON") or sys.executable
    has = subprocess.run([python, "-c", "import codecarbon"], capture_output=True, check=False, timeout=60)
    if has.returncode != 0 or shutil.which(python) is None:
        pytest.skip("codecarbon is not installed (extra `carbon`)")
    command = [python, "-m", "lemctl.measure.carbon"]
    with HostMeters("DEU", zones=[], carbon_command=command) as meters:
        deadline = time.monotonic() + 30.0
        while not meters._ticks:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        begin_ns = time.monotonic_ns()
        found = wait_for_energy(meters, begin_ns, begin_ns + 2 * S, lambda energy: isinstance(energy, HostEnergy))
    assert found.energy_j > 0
