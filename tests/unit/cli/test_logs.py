"""`lemctl logs`: the attempt's own part of its session's output, while it grows and afterwards."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from build import BOOT, Night, metric_rows, plan_of
from command_line import Lemctl

from lemctl.paths import Home
from lemctl.store.moves import Attempt, end_ok, note_facts


def with_session(night: Night, attempt: Attempt, home: Home) -> Path:
    """Give the attempt a session with output of an earlier attempt in it."""
    folder = home.sessions / "s1"
    folder.mkdir()
    (folder / "stdout.log").write_text("earlier attempt\nmine\nlater attempt\n")
    (folder / "stderr.log").write_text("a warning\n")
    with night.store.transaction() as tx:
        tx.execute(
            "INSERT INTO sessions (uuid, host, lane, backend, executor, isolation, engine_key, engine, started_utc,"
            " boot_id) VALUES ('s1', 'h', 'cpu', 'replay', 'local', 'engine', 'k', '{}', '2026-01-05', ?)",
            (BOOT,),
        )
        tx.execute("UPDATE attempts SET session_id = (SELECT max(id) FROM sessions) WHERE id = ?", (attempt.id,))
    return folder


def test_an_ended_attempt_shows_its_own_part_alone(night: Night, home: Home, lemctl: Lemctl) -> None:
    night.add(plan_of())
    attempt = night.begin(night.runs()[0])
    folder = with_session(night, attempt, home)
    with night.store.transaction() as tx:
        note_facts(tx, attempt.id, {"session_dir": str(folder), "log": {"stdout": [16, 21], "stderr": [0, 0]}})
        end_ok(tx, attempt, night.clock, "VALID", [], metric_rows(None), [])
    said = lemctl("logs", "1", "-q")
    assert said.out == "--- stdout\nmine\n--- ended 2026-01-05T22:00:02Z: ok\n"


def test_following_a_queued_run_waits_for_its_first_attempt(night: Night, home: Home, lemctl: Lemctl) -> None:
    night.add(plan_of())
    night.activate()

    def work() -> None:
        attempt = night.begin(night.runs()[0])
        with night.store.transaction() as tx:
            end_ok(tx, attempt, night.clock, "VALID", [], metric_rows(None), [])
        night.store.leave_thread()

    timer = threading.Timer(0.5, work)
    timer.start()
    said = lemctl("logs", "1", "-f")
    timer.join()
    assert said.code == 0
    assert "run 1 is queued: waiting for its first attempt" in said.out
    assert "ended" in said.out
    assert lemctl("logs", "999", "-f").code == 7


def test_following_shows_what_comes_until_the_attempt_ends(night: Night, home: Home, lemctl: Lemctl) -> None:
    night.add(plan_of())
    attempt = night.begin(night.runs()[0])
    folder = with_session(night, attempt, home)

    def engine() -> None:
        with (folder / "stdout.log").open("a") as log:
            log.write("token 1\n")
        with (folder / "stderr.log").open("a") as log:
            log.write("the last words\n")
        time.sleep(0.4)
        with night.store.transaction() as tx:
            end_ok(tx, attempt, night.clock, "VALID", [], metric_rows(None), [])

    (folder / "stderr.log").write_bytes(b"a warning\n\xff\xfe\xff not text\n")
    timer = threading.Timer(0.1, engine)
    timer.start()
    said = lemctl("logs", "1", "-f")
    timer.join()
    assert said.out.count("a warning") == 1
    assert said.out.count("token 1") == 1
    assert "the last words\n" in said.out
    assert said.out.endswith("--- ended 2026-01-05T22:00:02Z: ok\n")


def test_an_attempt_without_a_session_shows_why_it_ended(night: Night, lemctl: Lemctl) -> None:
    night.add(plan_of())
    night.fail(night.runs()[0], "infra", "no engine answers", "connection refused")
    said = lemctl("logs", "1", "-q")
    assert said.out.splitlines()[1:3] == ["no engine answers", "connection refused"]
    assert lemctl("logs", "9").code == 7
