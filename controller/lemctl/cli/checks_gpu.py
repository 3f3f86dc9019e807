"""What `lemctl doctor` looks at of the GPUs: driver, modes, who else uses them, and whether containers see them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lemctl.cli.finding import Check
from lemctl.daemon.locks import holder_text
from lemctl.engines.backends import BACKENDS
from lemctl.engines.prepared import missing_images
from lemctl.measure.inventory import gpu_users
from lemctl.measure.readings import GpuFacts, NvmlUnavailableError
from lemctl.settings import Settings

#: Any of these on the engine's PATH lets it give GPUs to containers.
TOOLKIT = ("nvidia-container-runtime-hook", "nvidia-container-runtime", "nvidia-ctk")
CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))


def gpus(here: list[GpuFacts], why_none: str | None) -> Iterator[Check]:
    """Every check of GPUs themselves. Without one, campaigns run all the same, and energy is absent."""
    if not here:
        detail = f"energy will be absent: {why_none}"
        yield Check("GPU", False, detail, "install the NVIDIA driver; see `nvidia-smi`", is_needed=False)
        return
    yield Check("GPU", True, ", ".join(f"{facts.index}: {facts.name}" for facts in here))
    yield _driver(here)
    yield _persistence(here)
    yield _mig(here)
    yield _power_limit(here)
    yield _users(here)
    yield kernel_log()


def in_containers(settings: Settings, uuids: Sequence[str], backends: Sequence[str]) -> Iterator[Check]:
    """Whether containers get these GPUs: needed where a campaign's engines run in them."""
    toolkit = _toolkit()
    yield toolkit
    if toolkit.is_ok:
        yield from _in_container(settings, uuids, backends)


def _driver(here: list[GpuFacts]) -> Check:
    versions = ", ".join(sorted({f"{facts.driver}, CUDA {facts.cuda_driver}" for facts in here}))
    return Check("driver", all(facts.driver for facts in here), versions, "install the NVIDIA driver", is_needed=False)


def _persistence(here: list[GpuFacts]) -> Check:
    off = [str(facts.index) for facts in here if facts.persistence is False]
    detail = f"off on {', '.join(off)}: the driver unloads between runs, and its counters begin anew" if off else "on"
    fix = "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1"
    return Check("persistence", not off, detail, fix, is_needed=False)


def _mig(here: list[GpuFacts]) -> Check:
    on = [str(facts.index) for facts in here if facts.mig]
    detail = f"on for {', '.join(on)}: energy of one instance cannot be told" if on else "off"
    return Check("MIG", not on, detail, "nvidia-smi -i INDEX -mig 0 turns it off", is_needed=False)


def _power_limit(here: list[GpuFacts]) -> Check:
    lowered = [
        f"{f.index}: {f.power_limit_mw / 1000:.0f} of {f.power_limit_default_mw / 1000:.0f} W"
        for f in here
        if f.power_limit_mw and f.power_limit_default_mw and f.power_limit_mw != f.power_limit_default_mw
    ]
    detail = ", ".join(lowered) or "as the maker sets it"
    fix = "nvidia-smi -i INDEX -pl WATTS sets it back; figures at another limit are a mode of their own"
    return Check("power limit", not lowered, detail, fix, is_needed=False)


def _users(here: list[GpuFacts]) -> Check:
    try:
        found = gpu_users()
    except NvmlUnavailableError as error:
        return Check("GPU users", False, str(error), "see `nvidia-smi`", is_needed=False)
    used = [f"{f.index}: {', '.join(map(str, found[f.uuid]))}" for f in here if found.get(f.uuid)]
    detail = f"processes on GPU {'; '.join(used)}" if used else "nobody else"
    fix = "end them (`ps -fp PID`), or name other GPUs in the campaign: windows beside them are INVALID"
    return Check("GPU users", not used, detail, fix, is_needed=False)


def kernel_log() -> Check:
    """Whether Xid errors can be read."""
    from lemctl.measure.xid import KernelLog

    with KernelLog() as log:
        detail = "readable: Xid errors are told with a failed run" if log.why_not is None else log.why_not
        fix = "add your user to the group `adm`, or sysctl kernel.dmesg_restrict=0"
        return Check("kernel log", log.why_not is None, detail, fix, is_needed=False)


def _toolkit() -> Check:
    """By its programs, by its description of the devices, or by the engine's own word."""
    found = [name for name in TOOLKIT if shutil.which(name)]
    found += [str(folder) for folder in CDI_FOLDERS if folder.is_dir() and any(folder.glob("*nvidia*"))]
    found = found or [f"runtime {name}" for name in _nvidia_runtimes()]
    fix = "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure` and `systemctl restart docker`"
    return Check("container toolkit", bool(found), ", ".join(found) or "not found: containers get no GPU", fix)


def _nvidia_runtimes() -> list[str]:
    from lemctl.engines.containers import Containers
    from lemctl.engines.errors import ContainerFault

    try:
        return [name for name in Containers().ping().runtimes if "nvidia" in name]
    except ContainerFault:
        return []  # said by the engine's own check


def _in_container(settings: Settings, uuids: Sequence[str], backends: Sequence[str]) -> Iterator[Check]:
    """NVML in a container of the first image that is here. GPUs that a campaign holds are left alone: it may be in the
    middle of a window."""
    from lemctl.engines.docker import probe_nvml

    backend = next((BACKENDS[name] for name in backends if not missing_images([name])), None)
    if backend is None:
        return
    held = [text for uuid in uuids if (text := holder_text(settings.lock_dir / uuid)) is not None]
    if held:
        yield Check("NVML in a container", True, f"not tried while the GPU is held by {held[0]}")
        return
    trouble = probe_nvml(settings, backend, uuids)
    fix = "`nvidia-ctk runtime configure --runtime=docker` and `systemctl restart docker`"
    yield Check("NVML in a container", trouble is None, trouble or f"works in {backend.image_ref}", fix)
