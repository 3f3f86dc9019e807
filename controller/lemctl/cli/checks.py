"""The checks of `lemctl doctor`: each looks at one thing and says what it found."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lemctl.cli import checks_engine, checks_gpu, checks_host
from lemctl.cli.finding import Check
from lemctl.engines.backends import BACKENDS
from lemctl.errors import LemctlError, PreflightRefused
from lemctl.lines import size
from lemctl.paths import data_folder
from lemctl.settings import Settings

OLDEST_PYTHON = (3, 11)

Look = Callable[[], Check | Iterable[Check]]


@dataclass(frozen=True)
class Use:
    """What has to work: the executor, backends by name, and GPUs by UUID."""

    executor: str
    backends: tuple[str, ...]
    gpus: tuple[str, ...]


def all_checks(settings: Settings, executor: str) -> list[Check]:
    """Every check in order; `executor` is the one that must work, with whatever GPUs are here."""
    from lemctl.daemon.gpu_choice import gpus_here

    here, why_none = gpus_here()
    # One engine is enough for a campaign, and the stand-in for engines asks nothing of a GPU.
    engines = tuple(name for name in BACKENDS if name != "replay")
    use = Use(executor, engines, tuple(facts.uuid for facts in here))
    looks = [
        _installation,
        *_needed(settings, use),
        lambda: _database(settings),
        lambda: _outbox(settings),
        lambda: _kept_out(settings),
        checks_host.governor,
        checks_host.timers,
        checks_engine.images if executor == "docker" else checks_engine.interpreters,
        checks_engine.cautions,
        lambda: checks_engine.models(settings),
        lambda: checks_gpu.gpus(here, why_none),
    ]
    return list(_found(looks))


def refuse_unfit(settings: Settings, use: Use) -> None:
    """Before a campaign begins: raise `PreflightRefused` with the remedy of the first needed thing that is missing.

    What takes long, or is looked at by the daemon anyway (the database), is left to `doctor`; images, models and
    prompts to `missing`.
    """
    looks = _needed(settings, use)
    if use.executor == "local":
        looks.append(lambda: checks_engine.interpreters(use.backends, is_needed=True))
    for check in _found(looks):
        if check.word == "FAIL":
            fix = f"; next: {check.fix}" if check.fix else ""
            refused = PreflightRefused(f"{check.name}: {check.detail}{fix}; `lemctl doctor` looks at everything")
            refused.anchor = check.anchor
            raise refused


def _needed(settings: Settings, use: Use) -> list[Look]:
    """Looks at what `use` cannot do without, each of which may rely on those before it."""
    looks: list[Look] = [
        _python,
        lambda: _state_folder(settings),
        lambda: _disk(settings),
        lambda: _daemon(settings),
        lambda: _lock_folder(settings),
        checks_host.memory,
        checks_host.clock,
    ]
    if use.executor == "docker":
        looks.append(lambda: _engine_and_its_disk(settings))
        if use.gpus:
            looks.append(lambda: checks_gpu.in_containers(settings, use.gpus, use.backends))
    return looks


def _found(looks: Iterable[Look]) -> Iterator[Check]:
    for look in looks:
        result = look()
        yield from [result] if isinstance(result, Check) else result


def _python() -> Check:
    text = f"{platform.python_version()} at {sys.executable}"
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("python", sys.version_info >= OLDEST_PYTHON, text, f"install Python {wanted} or newer")


def _installation() -> Check:
    from lemctl.cli.main import version_line

    data = data_folder()
    detail = f"{version_line()}; campaigns and documentation in {data}"
    lacks = [name for name in ("compose.yaml", "images", "campaigns") if not (data / name).exists()]
    if lacks:
        detail = f"{version_line()}: no {', '.join(lacks)} in {data}"
    return Check("installation", not lacks, detail, "install lemctl anew: pipx reinstall lemctl")


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


def _disk(settings: Settings) -> Iterator[Check]:
    """The disks of the state folder and, where it is another one, of its sessions."""
    root, sessions = settings.paths.root, settings.paths.sessions
    yield _room("disk", root if root.exists() else Path("/"), settings)
    if sessions.exists() and sessions.stat().st_dev != root.stat().st_dev:
        yield _room("disk of sessions", sessions, settings)


def _engine_and_its_disk(settings: Settings) -> Iterator[Check]:
    from lemctl.engines.containers import Containers
    from lemctl.engines.errors import ContainerFault

    yield from checks_engine.engine()
    try:
        folder = Containers().data_folder()
    except ContainerFault:
        return  # said already
    if folder is not None:
        yield _room("disk of docker", folder, settings)


def _room(name: str, folder: Path, settings: Settings) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(name, True, f"{folder} cannot be asked: {error.strerror}")
    wanted = settings.min_free_disk_mb * 1_000_000
    detail = f"{size(free)} free at {folder}, {size(wanted)} needed"
    return Check(name, free >= wanted, detail, "free space, or set LEM_MIN_FREE_DISK_MB")


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
        detail = f"pid {state.pid} hangs: it holds its lock, and was last heard {state.heartbeat_age_s:.0f} s ago"
        return Check("daemon", False, detail, f"`kill -9 {state.pid}`, which loses nothing, and `lemctl daemon start`")
    return Check("daemon", True, f"{state.health}" + (f", pid {state.pid}" if state.pid else "; a campaign starts it"))


def _lock_folder(settings: Settings) -> Check:
    from lemctl.daemon.locks import make_lock_folder

    folder = settings.lock_dir
    fix = f"chmod 1777 {folder}, as its owner, or export LEM_LOCK_DIR=/a/folder/that/all/users/of/the/GPUs/share"
    try:
        make_lock_folder(folder)
    except OSError as error:
        return Check("lock folder", False, f"{folder}: {error.strerror}", fix)
    return Check("lock folder", True, str(folder), fix)


def _outbox(settings: Settings) -> Check:
    from lemctl.store.database import Store
    from lemctl.store.outbox import troubles

    if not settings.paths.database.exists():
        return Check("notifications", True, "none yet")
    try:
        with Store.open(settings.paths) as store:
            found = troubles(store.connection)
    except LemctlError as error:
        return Check("notifications", False, str(error), "see the database's line", is_needed=False)
    fix = "`lemctl notify test` shows what is wrong with an address"
    return Check("notifications", not found, found[0] if found else "none that waits", fix, is_needed=False)


def _kept_out(settings: Settings) -> Check:
    from lemctl.store.database import Store
    from lemctl.store.samples import quarantined

    if not settings.paths.database.exists():
        return Check("GPUs kept out", True, "none yet")
    try:
        with Store.open(settings.paths) as store:
            found = quarantined(store.connection)
    except LemctlError as error:
        return Check("GPUs kept out", False, str(error), "see the database's line", is_needed=False)
    detail = "; ".join(f"{gpu}: {reason}" for gpu, reason in found.items())
    fix = "look after it, then `lemctl campaign resume NAME`, of any campaign, lets it in again"
    return Check("GPUs kept out", not found, detail or "none", fix, is_needed=False)
