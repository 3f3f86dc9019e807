"""The checks of `lemctl doctor`: each looks at one thing and says what it found."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lemctl.clock import boot_id
from lemctl.engines.backends import BACKENDS
from lemctl.engines.prepared import missing_images
from lemctl.errors import LemctlError
from lemctl.lines import size
from lemctl.settings import Settings

OLDEST_PYTHON = (3, 11)
#: An engine needs this to be imported: what it is checked for.
ENGINE_MODULES = {"tensorrt": ("tensorrt_llm",), "pytorch": ("torch", "transformers"), "vllm": ("vllm",)}
PROBE_TIMEOUT_S = 60.0
#: A clock before this moment was never set.
NOT_BEFORE_UNIX_S = 1_735_689_600.0


@dataclass(frozen=True)
class Check:
    """One finding. A failed check that is not needed is a note: campaigns run without it."""

    name: str
    is_ok: bool
    detail: str
    fix: str = ""
    is_needed: bool = True

    @property
    def word(self) -> Literal["OK", "FAIL", "NOTE"]:
        """What stands before it."""
        return "OK" if self.is_ok else "FAIL" if self.is_needed else "NOTE"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"name": self.name, "result": self.word, "detail": self.detail, "fix": self.fix or None}


def all_checks(settings: Settings, executor: str) -> list[Check]:
    """Every check in order; `executor` is the one that must work."""
    looks: list[Callable[[], Check | Iterator[Check]]] = [
        _python,
        lambda: _state_folder(settings),
        lambda: _disk(settings),
        lambda: _database(settings),
        lambda: _daemon(settings),
        lambda: _lock_folder(settings),
        _clock,
        _docker if executor == "docker" else _interpreters,
        _cautions,
        _gpu,
    ]
    found: list[Check] = []
    for look in looks:
        result = look()
        found += [result] if isinstance(result, Check) else list(result)
    return found


def _python() -> Check:
    text = f"{platform.python_version()} at {sys.executable}"
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("python", sys.version_info >= OLDEST_PYTHON, text, f"install Python {wanted} or newer")


def _state_folder(settings: Settings) -> Check:
    from lemctl.store.database import file_system, refuse_network_file_system

    root = settings.paths.root
    try:
        settings.paths.create()
        refuse_network_file_system(root)
        with tempfile.TemporaryFile(dir=root):
            pass
    except LemctlError as error:
        return Check("state folder", False, str(error), "export LEM_HOME=/a/local/folder")
    except OSError as error:
        return Check("state folder", False, f"{root}: {error.strerror}", "export LEM_HOME=/a/folder/of/yours")
    kind = file_system(root, Path("/proc/self/mountinfo"))
    mode = root.stat().st_mode & 0o777
    return Check("state folder", mode == 0o700, f"{root} on {kind}, mode {mode:o}", f"chmod 700 {root}")


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(settings.paths.root if settings.paths.root.exists() else "/").free
    wanted = settings.min_free_disk_mb * 1_000_000
    return Check(
        "disk", free >= wanted, f"{size(free)} free, {size(wanted)} needed", "free space, or set LEM_MIN_FREE_DISK_MB"
    )


def _database(settings: Settings) -> Check:
    from lemctl.store.database import check

    if not settings.paths.database.exists():
        return Check("database", True, "none yet; the first campaign makes it")
    try:
        problems = check(settings.paths)
    except LemctlError as error:
        return Check("database", False, str(error), f"look into {settings.paths.backups}")
    text = f"{settings.paths.database}: {problems[0] if problems else 'sound'}"
    return Check("database", not problems, text, f"restore the newest copy in {settings.paths.backups}")


def _daemon(settings: Settings) -> Check:
    from lemctl.cli.daemon import daemon_state

    try:
        state = daemon_state(settings.paths)
    except LemctlError as error:
        return Check("daemon", False, str(error), "see the database's line", is_needed=False)
    if state.health == "hung":
        return Check("daemon", False, f"pid {state.pid} hangs", f"kill -9 {state.pid}; lemctl daemon start")
    return Check("daemon", True, f"{state.health}" + (f", pid {state.pid}" if state.pid else "; a campaign starts it"))


def _lock_folder(settings: Settings) -> Check:
    folder = settings.lock_dir
    fix = "export LEM_LOCK_DIR=/a/folder/that/all/users/of/the/GPUs/share"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Check("lock folder", False, f"{folder}: {error.strerror}", fix)
    return Check("lock folder", os.access(folder, os.W_OK), str(folder), fix)


def _clock() -> Check:
    is_set = time.time() > NOT_BEFORE_UNIX_S
    has_boot = boot_id() != "unknown"
    said = "set" if is_set else "was never set"
    boot = "boot id readable" if has_boot else "no boot id: times of different boots cannot be told apart"
    return Check("clock", is_set and has_boot, f"{said}, {boot}", "timedatectl set-ntp true")


def _docker() -> Iterator[Check]:
    from lemctl.engines.containers import Containers
    from lemctl.engines.errors import ContainerFault

    try:
        facts = Containers().ping()
    except ContainerFault as fault:
        yield Check("docker", False, fault.message, "start the Docker engine, or use `--executor local`")
        return
    yield Check("docker", True, f"engine {facts.engine_version}")
    is_v2 = not facts.compose_version.startswith("1.")
    yield Check("compose", is_v2, facts.compose_version, "install Docker Compose v2 (the `docker compose` plugin)")
    for name in BACKENDS:
        gaps = missing_images([name])
        # One image is enough for a campaign; `plan` says which one a campaign needs.
        yield Check(
            f"image {name}",
            not gaps,
            gaps[0].name + ", not here" if gaps else BACKENDS[name].image_ref,
            (gaps[0].fix or "") if gaps else "",
            is_needed=False,
        )


def _interpreters() -> Iterator[Check]:
    for name, row in BACKENDS.items():
        modules = ENGINE_MODULES.get(name, ())
        interpreter = row.local_interpreter
        absent = _absent_modules(interpreter, modules)
        variable = f"LEM_PYTHON_{name.upper()}"
        if absent is None:
            fix = f"export {variable}=/path/to/python"
            yield Check(f"engine {name}", False, f"{interpreter} does not run", fix, is_needed=False)
            continue
        detail = interpreter + (f": no {', '.join(absent)}" if absent else "")
        fix = f"pip install 'lemctl[{name}]', or export {variable}=/path/to/a/python/with/it"
        yield Check(f"engine {name}", not absent, detail, fix, is_needed=False)


def _cautions() -> Iterator[Check]:
    for name, row in BACKENDS.items():
        if row.caution:
            yield Check(f"caution {name}", False, row.caution, is_needed=False)


def _absent_modules(interpreter: str, modules: tuple[str, ...]) -> list[str] | None:
    """Which of the modules that Python lacks; None where it does not run."""
    program = "import importlib.util, sys; print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))"
    try:
        said = subprocess.run(
            [interpreter, "-c", program, *modules], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.split()


def _gpu() -> Check:
    from lemctl.measure.gpu import NvmlProbe
    from lemctl.measure.readings import GpuLostError, NvmlUnavailableError

    try:
        probe = NvmlProbe()
        try:
            names = [probe.facts(gpu).name or gpu for gpu in probe.gpus()]
        finally:
            probe.close()
    except (NvmlUnavailableError, GpuLostError) as error:
        detail = f"no GPU: energy will be absent ({error})"
        return Check("GPU", False, detail, "install the NVIDIA driver", is_needed=False)
    return Check("GPU", bool(names), ", ".join(names) or "the driver finds none", "see `nvidia-smi`", is_needed=False)
