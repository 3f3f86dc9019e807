"""The daemon as a process: one per state folder, started detached, asked after by its lock."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lemctl.clock import SystemClock, boot_id
from lemctl.daemon.locks import FileLock, holder_text
from lemctl.daemon.log import ROTATE_B
from lemctl.errors import CannotGoOn, DiskFull, LemctlError, Locked, PreflightRefused
from lemctl.paths import Home
from lemctl.redact import TOKEN_VARIABLES
from lemctl.settings import Settings
from lemctl.store import live
from lemctl.store.database import Store, backup, prune_backups

if TYPE_CHECKING:
    from lemctl.daemon.serve import Flag

SPAWN_TIMEOUT_S = 15.0
#: How long the daemon waits for another program that writes to its database, before it stops.
PATIENCE_S = 60.0
RECOVERY = "recovery"
KEEP_BACKUPS = 5


def holder(home: Home) -> int | None:
    """Process id of the running daemon, None when none runs. 0 when it has not written its id yet."""
    text = holder_text(home.daemon_lock)
    if text is None:
        return None
    return int(text) if text.isdigit() else 0


def spawn(settings: Settings, timeout_s: float = SPAWN_TIMEOUT_S) -> int:
    """Start a daemon, unless one runs, and wait for its first heartbeat; its process id.

    Raises `LemctlError` with the end of its log when it does not come up, `PreflightRefused` when one is in its way.
    """
    home = settings.paths
    until = time.monotonic() + timeout_s
    while (pid := holder(home)) is not None:
        if _serves(home, pid):
            return pid
        if time.monotonic() > until:
            raise PreflightRefused(
                f"the daemon {pid} neither serves nor ends for {timeout_s:.0f} s: `kill -9 {pid}` loses nothing; look"
                f" into {home.logs}"
            )
        time.sleep(0.02)
    home.create()
    log = home.logs / "daemon.out"
    environment = {**os.environ, "LEM_HOME": str(home.root)}
    for secret in TOKEN_VARIABLES:  # the prefetch alone needs them
        environment.pop(secret, None)
    _rotate(log)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "lemctl.daemon.process"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
            env=environment,
        )
    while time.monotonic() < until:
        if (pid := holder(home)) and _serves(home, pid):
            return pid
        if process.poll() is not None and holder(home) is None:
            break
        time.sleep(0.02)
    tail = log.read_text(errors="replace").splitlines()[-5:]
    raise LemctlError("the daemon did not come up: " + (" | ".join(tail) or f"nothing in {log}"))


def _rotate(log: Path) -> None:
    """What a daemon prints before its log is open, or as it crashes: two files of it are kept."""
    if log.exists() and log.stat().st_size > ROTATE_B:
        log.rename(log.with_suffix(".out.1"))


def run(settings: Settings) -> int:
    """Be the daemon until told to leave; the exit code. Raises `Locked` when another one runs."""
    home = settings.paths
    for secret in TOKEN_VARIABLES:
        os.environ.pop(secret, None)
    home.create()
    try:
        lock = FileLock.take(home.daemon_lock, str(os.getpid()))
    except Locked as locked:
        raise Locked(f"a daemon runs here already ({locked}); `lemctl daemon stop` ends it") from None
    log = _log(home)
    try:
        with _open_store(settings) as store:
            store.refuse_damage()
            _serve(settings, store, log)
        return 0
    except (CannotGoOn, Locked) as stop:
        log.error("stopped: %s", stop)
        raise
    except Exception:
        log.exception("stopped by an internal error")
        raise
    finally:
        lock.release()


def _open_store(settings: Settings) -> Store:
    """Even opening writes: where the disk is full, the ballast of an earlier daemon makes room."""
    from lemctl.daemon.disk import Ballast

    home = settings.paths
    try:
        return Store.open(home, "write", PATIENCE_S)
    except DiskFull:
        if not Ballast(home.ballast, 0).give_up():
            raise
        return Store.open(home, "write", PATIENCE_S)


def _serve(settings: Settings, store: Store, log: logging.Logger) -> None:
    from lemctl.daemon.alarm import SchedulerAlarm
    from lemctl.daemon.digest import Digest
    from lemctl.daemon.disk import MB, HostDisk
    from lemctl.daemon.notify import Postman
    from lemctl.daemon.recovery import recover
    from lemctl.daemon.serve import Daemon, Flag
    from lemctl.daemon.supervisor import Supervisor
    from lemctl.daemon.world import Host
    from lemctl.measure.memory import memory_lack

    leave = Flag()
    _leave_on_signals(leave)
    clock = SystemClock()
    supervisor = Supervisor(clock)
    disk = HostDisk(store.home, clock, settings.min_free_disk_mb * MB, settings.ballast_mb * MB)
    store.make_room = disk.make_room
    host = Host(settings, store, clock, boot_id(), disk)
    found = store.with_room(recover, store, host.executors_to_sweep(), clock)
    log.info("started: %s", found)
    if found.interrupted:
        _keep_backup(store.home, log)
    daemon = Daemon(
        store,
        clock,
        host.world(),
        host.lane_for,
        os.getpid(),
        disk,
        memory_lack,
        chores=(supervisor, Postman(store, clock), Digest(store, clock), disk),
        leave=leave,
    )
    daemon.alarm = SchedulerAlarm(daemon.wake)
    if settings.metrics_listen is not None:
        from lemctl.daemon.exposition import expose

        expose(settings.metrics_listen, store, log)
    supervisor.ready()
    daemon.serve()
    log.info("ended")


def _leave_on_signals(leave: Flag) -> None:
    """SIGTERM and SIGINT are obeyed at the next tick, a terminal that closes is none of the daemon's business."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _keep_backup(home: Home, log: logging.Logger) -> None:
    try:
        log.info("backup after an unclean end: %s", backup(home, RECOVERY))
        prune_backups(home, RECOVERY, KEEP_BACKUPS)
    except (LemctlError, OSError) as error:
        log.warning("no backup after an unclean end: %s", error)


def _serves(home: Home, pid: int) -> bool:
    """Whether the daemon ticks: it has recovered what was left, and was not told to leave."""
    try:
        with Store.open(home) as store:
            told = live.get(store.connection, "daemon") or {}
    except LemctlError:
        return False
    return told.get("pid") == pid and told.get("state") != "leaving"


def _log(home: Home) -> logging.Logger:
    """`daemon.jsonl`, rotated."""
    from lemctl.daemon.log import open_log

    return open_log(home.logs / "daemon.jsonl")


def main() -> int:
    """`python -m lemctl.daemon.process`: the daemon in the foreground, errors as one line."""
    from lemctl.settings import load_settings

    try:
        return run(load_settings())
    except Locked as locked:
        print(locked, file=sys.stderr)
        return locked.exit_code
    except CannotGoOn as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())
