"""A disk that is full or fails, a database that somebody holds: the daemon stops or waits, and loses nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lem_runner.protocol import STDERR_FILE
from lemctl.store.database import SCHEMA_VERSION, Store
from needed import needs
from night import Night, campaign_text

_COMMITS = """
import sys, pathlib
from lemctl.errors import CannotGoOn
from lemctl.paths import Home
from lemctl.store.database import SCHEMA_VERSION, Store
done = 0
with Store.open(Home(pathlib.Path(sys.argv[1])), "write") as store:
    try:
        for number in range(50):
            with store.transaction() as tx:
                tx.execute("INSERT INTO live VALUES (?, '{}', '2026-01-01')", (f"{number:03d}",))
            done += 1
    except CannotGoOn as stop:
        print(done, type(stop).__name__, stop)
        sys.exit(stop.exit_code)
"""


def inject(what: str, wal: Path, command: list[str], **options: object) -> subprocess.Popen[str]:
    """Run `command` with a fault in the system calls on the write-ahead log."""
    call = what.partition(":")[0]
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(wal), "-e", f"trace={call}", "-e", f"inject={what}"]
    return subprocess.Popen([*strace, *command], text=True, **options)  # type: ignore[call-overload,no-any-return]


def attach(what: str, night: Night, trace: Path) -> subprocess.Popen[bytes]:
    """The same for a daemon that runs, until strace ends."""
    assert night.daemon is not None
    wal, call = str(night.home.root / "lem.db-wal"), what.partition(":")[0]
    fault = ["-P", wal, "-e", f"trace={call}", "-e", f"inject={what}"]
    return subprocess.Popen(["strace", "-f", "-qq", "-o", str(trace), "-p", str(night.daemon.pid), *fault])


@needs("strace")
@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("pwrite64:error=ENOSPC:when=40+", "DiskFull", "free space on that disk, what was committed is safe"),
        ("fdatasync:error=EIO:when=20+", "StoreUnusable", "look at that disk"),
    ],
)
def test_a_disk_that_refuses_stops_the_writer_and_keeps_what_was_committed(
    night: Night, fault: str, error: str, text: str
) -> None:
    Store.open(night.home, "write").close()
    command = [sys.executable, "-c", _COMMITS, str(night.home.root)]
    writer = inject(fault, night.home.root / "lem.db-wal", command, stdout=subprocess.PIPE)
    said = writer.communicate(timeout=60)[0]
    assert writer.returncode == 4
    done, kind, message = said.split(maxsplit=2)
    assert kind == error
    assert text in message
    kept = [row[0] for row in night.rows("SELECT topic FROM live ORDER BY topic")]
    assert int(done) > 3
    # A commit whose sync failed may stand or not; none before it may be missing, none after it be there.
    assert kept[: int(done)] == [f"{n:03d}" for n in range(int(done))]
    assert len(kept) <= int(done) + 1


@needs("strace")
def test_a_daemon_outlives_a_disk_that_takes_nothing_for_a_while(night: Night, tmp_path: Path) -> None:
    """Every write to the log fails, that of the attempt's end too, until the fault is taken away."""
    night.add(campaign_text(cycles=10))
    daemon = night.begin()
    night.wait_until_under_way()
    trace = tmp_path / "trace"
    strace = attach("pwrite64:error=ENOSPC", night, trace)
    try:
        night.wait_for(lambda: trace.exists() and trace.read_text().count("(INJECTED)") >= 5, "some refused writes")
        assert daemon.poll() is None
        done = night.statuses().count("Done")
    finally:
        strace.terminate()
        strace.wait(30)
    night.wait_campaign()
    assert night.end() == 0
    night.audit()
    assert night.statuses() == ["Done"] * 10
    assert done < 10
    assert {(outcome, fault) for outcome, fault, _ in night.attempts()} == {("ok", None), ("interrupted", None)}


@needs("strace")
def test_a_runner_whose_events_the_disk_refuses_fails_its_attempt_and_the_run_is_tried_again(
    night: Night, tmp_path: Path
) -> None:
    """ENOSPC in the session folder alone, as a quota makes it: nobody else sees that the disk is full."""
    slow = campaign_text(cycles=3).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 100")
    night.add(slow)
    night.begin()
    night.wait_until_under_way()
    pid, trace = night.runner_pid(), tmp_path / "trace"
    (events,) = night.home.sessions.glob("*/events.jsonl")
    fault = ["-P", str(events), "-e", "trace=write", "-e", "inject=write:error=ENOSPC"]
    strace = subprocess.Popen(["strace", "-f", "-qq", "-o", str(trace), "-p", str(pid), *fault])
    try:
        night.wait_for(lambda: night.attempts()[0][0] == "failed", "the failure")
    finally:
        strace.terminate()
        strace.wait(30)
    assert "(INJECTED)" in trace.read_text()
    assert "events.jsonl cannot be written: No space left on device" in (events.parent / STDERR_FILE).read_text()
    night.wait_campaign()
    assert night.end() == 0
    night.audit()
    failed = [attempt for attempt in night.attempts() if attempt[0] != "ok"]
    assert failed == [("failed", "infra", "the runner could not write to its session folder; its log says why")]
    assert night.statuses() == ["Done"] * 3


@needs("strace")
def test_a_disk_that_fails_stops_the_daemon_and_the_next_one_goes_on(night: Night) -> None:
    """EIO at the sync of a commit: nobody knows what is on that disk, and going on could lose more."""
    night.add(campaign_text(cycles=20))
    daemon = night.begin()
    night.wait_until_under_way()
    strace = attach("fdatasync:error=EIO", night, Path(os.devnull))
    assert daemon.wait(60) == 4
    strace.wait(30)
    said = (night.home.logs / "daemon.out").read_text()
    assert "look at that disk" in said
    assert "Traceback" not in said
    assert "Queued" in night.statuses()
    night.begin()
    night.wait_campaign()
    night.end()
    night.audit()
    assert night.statuses() == ["Done"] * 20


def test_too_little_free_disk_starts_no_run_and_says_so(night: Night) -> None:
    night.environment["LEM_MIN_FREE_DISK_MB"] = "1000000000"
    night.add(campaign_text())
    night.begin()
    night.wait_for(lambda: "free disk" in night.waits_for(), "a word on the disk")
    assert night.attempts() == []
    night.end()
    night.audit()


def test_a_locked_database_is_waited_for(night: Night) -> None:
    night.add(campaign_text(cycles=3))
    night.begin()
    night.wait_until_under_way()
    with Store.open(night.home, "write") as store, store.transaction():
        before = night.rows("SELECT count(*) FROM transitions")
        time.sleep(1.0)  # held for that long while runs go on: that is the fault
        assert night.rows("SELECT count(*) FROM transitions") == before
    night.wait_campaign()
    night.end()
    night.audit()
    assert [outcome for outcome, *_ in night.attempts()] == ["ok"] * 3


def test_a_damaged_database_is_refused_by_the_daemon_with_its_backup(night: Night) -> None:
    night.add(campaign_text(cycles=2))
    night.begin()
    night.wait_until_under_way()
    night.kill()
    night.begin()  # recovers, and keeps a backup
    night.wait_campaign()
    night.end()
    with night.home.database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 3)
    before = night.home.database.read_bytes()
    daemon = night.begin()
    assert daemon.wait(30) == 4
    said = (night.home.logs / "daemon.out").read_text()
    (backup,) = night.home.backups.iterdir()
    assert "cannot be used" in said
    assert str(backup) in said
    assert night.home.database.read_bytes() == before
    assert "Traceback" not in said


def test_a_newer_database_is_refused_by_the_daemon_and_left_untouched(night: Night) -> None:
    night.add(campaign_text())
    with sqlite3.connect(night.home.database) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = night.home.database.read_bytes()
    assert night.begin().wait(30) == 4
    said = (night.home.logs / "daemon.out").read_text()
    assert f"has schema {SCHEMA_VERSION + 1}, this lemctl knows {SCHEMA_VERSION}: use the newer lemctl" in said
    assert "Traceback" not in said
    assert night.home.database.read_bytes() == before


@needs("strace")
def test_a_kill_in_the_middle_of_a_write_leaves_a_whole_database(night: Night) -> None:
    """SIGKILL at a write of the log itself, between two pages of one transaction."""
    for number in (3, 11, 24, 37):
        Store.open(night.home, "write").close()
        before = {row[0] for row in night.rows("SELECT topic FROM live")}
        command = [
            sys.executable,
            "-c",
            _COMMITS.replace("{number:03d}", f"{number}-" + "{number:03d}"),
            str(night.home.root),
        ]
        killed = inject(f"pwrite64:signal=KILL:when={number}", night.home.root / "lem.db-wal", command)
        assert killed.wait(60) == -signal.SIGKILL
        after = {row[0] for row in night.rows("SELECT topic FROM live")}
        assert before <= after
        mine = sorted(after - before)
        assert mine == [f"{number}-{n:03d}" for n in range(len(mine))]
    night.audit()
