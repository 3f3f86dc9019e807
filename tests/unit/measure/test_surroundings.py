"""Host energy and the facts about host and project, from folders that look like a host's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lemctl.measure.cpu import RaplUnavailableError, energy_between_j, find_zones, read_zones
from lemctl.measure.environment import describe_container, describe_host, describe_project
from lemctl.measure.meters import METERS, find_obstacles
from lemctl.measure.readings import GpuFacts


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def zone(name: str, energy_uj: int, range_uj: int = 1_000_000) -> dict[str, str]:
    return {"name": name, "energy_uj": str(energy_uj), "max_energy_range_uj": str(range_uj)}


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    zones = {
        "intel-rapl:0": zone("package-0", 900_000),
        "intel-rapl:0:0": zone("core", 5),
        "intel-rapl:0:1": zone("dram", 100),
        "intel-rapl:1": zone("package-1", 100),
        "intel-rapl-mmio:0": zone("package-0", 900_000),
    }
    return write(tmp_path, {f"{name}/{file}": text for name, files in zones.items() for file, text in files.items()})


def test_rapl_adds_packages_and_survives_a_wrap(powercap: Path) -> None:
    zones = find_zones(powercap)
    assert [z.name for z in zones] == ["package-0", "dram", "package-1"]
    begin = read_zones(zones)
    write(
        powercap,
        {"intel-rapl:0/energy_uj": "50000", "intel-rapl:1/energy_uj": "300100", "intel-rapl:0:1/energy_uj": "7100"},
    )
    assert energy_between_j(zones, begin, read_zones(zones)) == pytest.approx({"cpu": 0.15 + 0.3, "ram": 0.007})


def test_a_host_without_rapl_says_so(tmp_path: Path) -> None:
    with pytest.raises(RaplUnavailableError, match="no RAPL zone"):
        find_zones(tmp_path)


def test_rapl_that_vanishes_is_an_error_not_a_zero(powercap: Path) -> None:
    zones = find_zones(powercap)
    (powercap / "intel-rapl:1/energy_uj").unlink()
    with pytest.raises(RaplUnavailableError, match="no longer"):
        read_zones(zones)


def test_every_meter_states_its_scope_resolution_and_basis() -> None:
    assert {name: meter.basis for name, meter in METERS.items()} == {
        "nvml-counter": "measured",
        "nvml-series": "measured",
        "rapl": "measured",
        "codecarbon": "estimated",
    }
    assert all(meter.scopes and meter.resolution and meter.meaning for meter in METERS.values())
    assert set(find_obstacles()) == set(METERS)


HOST = {
    "proc/cpuinfo": "\n\n".join(
        f"processor : {n}\nmodel name : Test CPU 9\nphysical id : 0\ncore id : {n // 2}\nmicrocode : 0x1"
        for n in range(4)
    ),
    "proc/meminfo": "MemTotal:  1000 kB\nMemAvailable:  400 kB\n",
    "proc/loadavg": "0.50 0.40 0.30 1/100 42\n",
    "proc/sys/kernel/random/boot_id": "boot-a\n",
    "etc/os-release": 'NAME=x\nPRETTY_NAME="Test Linux 1"\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
}


def test_the_host_is_described_from_the_kernels_files(tmp_path: Path) -> None:
    host = describe_host([GpuFacts("GPU-1", 0, "Model")], docker_version="29.0", root=write(tmp_path, HOST))
    assert host.stable["cpu"] == {"model": "Test CPU 9", "sockets": 1, "cores": 2, "threads": 4, "microcode": "0x1"}
    assert host.stable["governor"] == "performance, powersave"
    assert host.stable["turbo"] is False
    assert host.stable["memory_total_b"] == 1000 * 1024
    assert host.stable["os"] == "Test Linux 1"
    assert host.stable["gpus"][0]["uuid"] == "GPU-1"
    assert host.moment == {"boot_id": "boot-a", "load_1m": 0.5, "memory_available_b": 400 * 1024, "gpu_users": []}


def test_a_reboot_keeps_the_hash_and_another_governor_changes_it(tmp_path: Path) -> None:
    before = describe_host(root=write(tmp_path, HOST))
    rebooted = describe_host(
        root=write(tmp_path, {"proc/sys/kernel/random/boot_id": "boot-b", "proc/loadavg": "9 9 9"})
    )
    assert rebooted.hash == before.hash
    changed = describe_host(root=write(tmp_path, {"sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "schedutil"}))
    assert changed.hash != before.hash


def test_what_a_kernel_does_not_tell_is_none(tmp_path: Path) -> None:
    host = describe_host(root=tmp_path)
    assert host.stable["cpu"]["model"] is None
    assert host.stable["governor"] is None
    assert host.stable["turbo"] is None
    assert host.stable["memory_total_b"] is None


def test_this_host_can_be_described_without_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    host = describe_host()
    everything = host.document + json.dumps(dict(host.moment))
    assert "hf_secret_value" not in everything
    assert os.uname().nodename not in everything
    assert host.stable["cpu"]["threads"] == os.cpu_count()


def test_a_checkout_tells_its_commit_and_whether_it_is_dirty(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "", "a": "1"})
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, timeout=30)
    clean = describe_project("1.2.3", tmp_path)
    assert clean.stable["dirty"] is False
    assert len(clean.stable["commit"]) == 40
    (tmp_path / "a").write_text("2")
    assert describe_project("1.2.3", tmp_path).stable["dirty"] is True
    assert describe_project("1.2.3", tmp_path).hash != clean.hash


def test_an_installed_wheel_has_no_commit(tmp_path: Path) -> None:
    installed = describe_project("1.2.3", tmp_path)
    assert installed.stable["commit"] is None
    assert installed.stable["dirty"] is None


def test_the_container_is_known_by_its_digest_and_packages() -> None:
    settings = {"image": "x", "python": "3.12.1", "packages": {"torch": "2.13"}, "executor": "docker"}
    first = describe_container(digest="sha256:a", **settings)  # type: ignore[arg-type]
    second = describe_container(digest="sha256:b", **settings)  # type: ignore[arg-type]
    assert first.hash != second.hash


def test_the_samplers_imports_stay_light() -> None:
    heavy = ("pydantic", "numpy", "psutil", "typer", "rich", "structlog", "asyncio")
    code = f"import sys, lemctl.measure.sampler; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
