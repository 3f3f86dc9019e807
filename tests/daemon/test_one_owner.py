"""One daemon per state folder, one owner per device, and engines that are shared exactly as the campaign says."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lemctl.daemon import process
from lemctl.daemon.locks import FileLock, holder_text, take_lane_locks
from lemctl.errors import Locked, PreflightRefused
from needed import needs
from night import Night, campaign_text

SLOW = campaign_text(cycles=2).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 30")


def test_a_second_daemon_on_a_state_folder_leaves_at_once(night: Night) -> None:
    night.add(SLOW)
    first = night.begin()
    night.wait_until_under_way()
    second = night.begin()
    assert second.wait(30) == 5
    assert f"is held by {first.pid}" in (night.home.logs / "daemon.out").read_text()
    night.daemon = first
    night.wait_campaign()
    night.end()
    night.audit()
    assert night.rows("SELECT count(*) FROM attempts") == [(2,)]


def test_start_twice_gives_one_daemon(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in night.variables().items():
        monkeypatch.setenv(name, value)
    pids = {process.spawn(night.settings), process.spawn(night.settings)}
    assert pids == {process.holder(night.home)}
    night.ask("shutdown")
    night.wait_for(lambda: process.holder(night.home) is None, "end of the daemon")
    night.audit()


@pytest.mark.slow
def test_a_start_while_the_old_daemon_leaves_gets_a_new_one(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in night.variables().items():
        monkeypatch.setenv(name, value)
    night.add(SLOW)
    old = night.begin()
    night.wait_until_under_way()
    old.terminate()
    leaving = "SELECT 1 FROM live WHERE json_extract(document, '$.state') = 'leaving'"
    night.wait_for(lambda: night.rows(leaving) != [] or old.poll() is not None, "a word of leaving")
    new = process.spawn(night.settings)
    assert new not in (0, old.pid)
    night.wait_campaign()
    night.ask("shutdown")
    night.wait_for(lambda: process.holder(night.home) is None, "end of the daemon")
    old.wait()
    night.audit()


def test_a_daemon_that_cannot_come_up_says_why(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.home.create()
    night.home.database.write_bytes(b"not a database " * 500)
    monkeypatch.setenv("LEM_HOME", str(night.home.root))
    with pytest.raises(Exception, match=r"the daemon did not come up: .*file is not a database"):
        process.spawn(night.settings)


@pytest.mark.slow
def test_two_state_folders_never_work_on_one_device_at_the_same_time(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    with Night(tmp_path / "a", locks=locks) as a, Night(tmp_path / "b", locks=locks) as b:
        for night in (a, b):
            night.add(SLOW)
        a.begin()
        a.wait_until_under_way()
        b.begin()
        b.wait_for(lambda: f"state folder {a.home.root}" in b.waits_for(), "word of who holds the device")
        assert b.attempts() == []
        for night in (a, b):
            night.wait_campaign()
        spans = "SELECT min(started_mono_ns), max(ended_mono_ns) FROM attempts"
        ((_, a_ended),), ((b_began, _),) = a.rows(spans), b.rows(spans)
        assert a_ended < b_began
        for night in (a, b):
            night.end()
        for night in (a, b):
            night.audit()


def test_a_lane_is_locked_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    taken = take_lane_locks(tmp_path, ("GPU-b",), "pid 1")
    with pytest.raises(Locked, match="GPU-b is held by pid 1"):
        take_lane_locks(tmp_path, ("GPU-a", "GPU-b"), "pid 2")
    assert holder_text(tmp_path / "GPU-a") is None
    for lock in taken:
        lock.release()
    assert len(take_lane_locks(tmp_path, ("GPU-a", "GPU-b"), "pid 2")) == 2


def test_a_lock_is_not_followed_through_a_link_and_its_folder_is_named_when_unusable(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "cpu").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PreflightRefused, match="set LEM_LOCK_DIR"):
        take_lane_locks(tmp_path, ("cpu",), "x")
    assert (tmp_path / "elsewhere").read_text() == "precious"
    with pytest.raises(PreflightRefused, match="set LEM_LOCK_DIR"):
        take_lane_locks(tmp_path / "elsewhere", ("cpu",), "x")


@needs("root")
def test_another_user_of_the_host_shares_the_locks_whoever_made_their_folder() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        Path(place).chmod(0o755)
        folder = Path(place) / "locks"
        umask = os.umask(0o077)
        try:
            (mine,) = take_lane_locks(folder, ("GPU-a",), "pid 1")
        finally:
            os.umask(umask)
        program = f"""if True:
            import os
            from pathlib import Path
            from lemctl.daemon.locks import take_lane_locks
            from lemctl.errors import Locked
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
            take_lane_locks(Path({str(folder)!r}), ("GPU-b",), "pid 2")
            try:
                take_lane_locks(Path({str(folder)!r}), ("GPU-a",), "pid 2")
            except Locked as locked:
                print(locked)
        """
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        mine.release()
    assert said.stdout.strip().endswith("GPU-a is held by pid 1"), said.stderr


def test_a_lock_says_who_holds_it_and_is_free_when_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder_text(path) is None
    lock = FileLock.take(path, "me")
    assert holder_text(path) == "me"
    lock.release()
    assert holder_text(path) is None


@pytest.mark.parametrize(
    ("more", "sessions"),
    [
        ("", 2),  # engine: two engines, each loaded once
        ("isolation: process", 4),  # one for each run
        ("reload_each_block: true", 4),  # each block its own
    ],
)
def test_engines_are_shared_as_the_isolation_says(night: Night, more: str, sessions: int) -> None:
    text = campaign_text(cycles=2, more=more)
    text = text.replace("{workload.load.batch_size: [1]}", "{replay.engine.load_s: [0.0, 0.01]}")
    night.add(text.replace("order: as_written", "order: blocked"))
    night.begin()
    night.wait_campaign()
    night.end()
    night.audit()
    keys = night.rows("SELECT engine_key, count(*) FROM sessions GROUP BY 1")
    assert len(keys) == 2
    # A block may begin with the engine that the one before it ended with.
    assert sum(count for _, count in keys) in ({sessions, sessions + 1} if not more else {sessions})
    reused = night.rows("SELECT json_extract(facts, '$.engine_reused') FROM attempts ORDER BY id")
    assert sum(r for (r,) in reused) == 4 - sum(count for _, count in keys)


def test_the_engine_of_one_campaign_serves_the_next(night: Night) -> None:
    for name in ("first", "second"):
        night.add(campaign_text(name))
    night.begin()
    night.wait_campaign(name="second")
    night.end()
    assert night.rows("SELECT count(*) FROM sessions") == [(1,)]
    night.audit()


@pytest.mark.slow
def test_a_daemons_open_files_and_threads_do_not_grow_with_its_sessions(night: Night) -> None:
    night.add(campaign_text("warm", cycles=2, more="isolation: process"))
    daemon = night.begin()
    night.wait_campaign(name="warm")
    proc = Path(f"/proc/{daemon.pid}")

    def held() -> tuple[int, int]:
        """Once it has let the lane go: no session is open then."""
        night.wait_for(lambda: night.rows("SELECT 1 FROM sessions WHERE ended_utc IS NULL") == [], "end of the session")
        return len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))

    before = held()
    night.add(campaign_text("many", cycles=12, more="isolation: process"))
    night.wait_campaign(name="many")
    after = held()
    night.end()
    night.audit()
    assert night.rows("SELECT count(*) FROM sessions") == [(14,)]
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 1
