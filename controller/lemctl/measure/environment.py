"""What a figure depends on beside the experiment: the host, the container, the project. Facts only, nothing secret.

A document is stored once per change, by the hash of its stable part; what changes from attempt to attempt (boot id,
load, who else uses the GPU) is `moment` and stored with the attempt. No environment variable, user name, host name or
address is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lemctl.measure.memory import meminfo_b
from lemctl.measure.readings import GpuFacts
from lemctl.paths import built_from

EnvironmentKind = Literal["host", "container", "project"]
GIT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Environment:
    """One document. `stable` makes the hash; `moment` is as of now and left out of it."""

    kind: EnvironmentKind
    stable: Mapping[str, Any]
    moment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Hash of kind and stable part: equal for equal surroundings, on any host."""
        text = json.dumps([self.kind, self.stable], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def document(self) -> str:
        """The stable part as JSON, keys sorted."""
        return json.dumps(self.stable, sort_keys=True, indent=1)


def describe_host(
    gpus: Sequence[GpuFacts] = (),
    *,
    docker_version: str | None = None,
    gpu_users: Sequence[str] = (),
    root: Path = Path("/"),
) -> Environment:
    """CPU, memory, kernel, power management and GPUs. A fact that the kernel does not tell is None.

    `gpu_users` are processes of others on the GPUs; `root` is where /proc, /sys and /etc are.
    """
    cpu_folder = root / "sys/devices/system/cpu"
    stable = {
        "cpu": _cpu(root),
        "governor": _distinct(cpu_folder.glob("cpu[0-9]*/cpufreq/scaling_governor")),
        "frequency_driver": _distinct(cpu_folder.glob("cpu[0-9]*/cpufreq/scaling_driver")),
        "turbo": _turbo(cpu_folder),
        "smt": _read(cpu_folder / "smt/control"),
        "memory_total_b": meminfo_b(root).get("MemTotal"),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "os": _os_name(root),
        "docker": docker_version,
        "gpus": [facts.to_json() for facts in gpus],
    }
    moment = {
        "boot_id": _read(root / "proc/sys/kernel/random/boot_id"),
        "load_1m": _load(root),
        "memory_available_b": meminfo_b(root).get("MemAvailable"),
        "gpu_users": list(gpu_users),
    }
    return Environment("host", stable, moment)


def describe_container(
    *,
    image: str | None,
    digest: str | None,
    python: str | None,
    packages: Mapping[str, str],
    cuda: str | None = None,
    executor: str,
) -> Environment:
    """What served the model: the image by digest (None with the local executor), interpreter, packages, CUDA."""
    stable = {
        "executor": executor,
        "image": image,
        "digest": digest,
        "python": python,
        "cuda": cuda,
        "packages": dict(sorted(packages.items())),
    }
    return Environment("container", stable)


def describe_project(version: str, folder: Path | None = None) -> Environment:
    """This program: version, and the commit that it is of, with whether files differ from it."""
    built = built_from() if folder is None else None
    here = folder or Path(__file__).resolve().parents[3]
    is_checkout = (here / ".git").exists() and (here / "pyproject.toml").exists()
    commit = _git(here, "rev-parse", "HEAD") if is_checkout else None
    changes = _git(here, "status", "--porcelain") if is_checkout else None
    is_dirty = None if changes is None else bool(changes)
    if built is not None:
        commit, is_dirty = built
    stable = {
        "version": version,
        "commit": commit,
        "dirty": is_dirty,
        "python": platform.python_version(),
    }
    return Environment("project", stable)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu(root: Path) -> dict[str, Any]:
    """Model, sockets, cores and threads from /proc/cpuinfo; ARM kernels name no model there."""
    text = _read(root / "proc/cpuinfo") or ""
    entries = [dict(_pairs(block)) for block in text.split("\n\n") if block.strip()]
    models = sorted({entry[key] for entry in entries for key in ("model name", "Model") if key in entry})
    packages = {entry["physical id"] for entry in entries if "physical id" in entry}
    cores = {(entry.get("physical id"), entry["core id"]) for entry in entries if "core id" in entry}
    microcode = sorted({entry["microcode"] for entry in entries if "microcode" in entry})
    return {
        "model": ", ".join(models) or None,
        "sockets": len(packages) or None,
        "cores": len(cores) or None,
        "threads": os.cpu_count() if root == Path("/") else len(entries) or None,
        "microcode": ", ".join(microcode) or None,
    }


def _pairs(block: str) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in block.splitlines())
    return [(key.strip(), value.strip()) for key, colon, value in lines if colon]


def _turbo(cpu_folder: Path) -> bool | None:
    no_turbo = _read(cpu_folder / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _read(cpu_folder / "cpufreq/boost")
    return None if boost is None else boost == "1"


def _load(root: Path) -> float | None:
    text = _read(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def _os_name(root: Path) -> str | None:
    for line in (_read(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return None


def _distinct(paths: Iterable[Path]) -> str | None:
    """The one value that all CPUs have, or all that there are, comma-separated."""
    return ", ".join(sorted({text for path in paths if (text := _read(path)) is not None})) or None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
