"""Everything that can be wrong with a runner: each ends the attempt with its kind, the campaign goes on, a person is
told why, and nothing is lost or left behind.

One night has them all, a session each; every test looks at what became of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lem_runner.protocol import EVENTS_FILE, PID_FILE
from lemctl.engines.processes import processes_on
from night import QUICK_RUNGS, Night, campaign_text

#: replay fault -> (kind, what a person reads), with no retry.
ENDS_AS = {
    "kill": ("infra", "the runner was killed by SIGKILL from outside"),
    "exit": ("bad_result", "the runner ended without a result"),
    "no_result": ("bad_result", "the runner ended without a result"),
    "garbage": ("bad_result", "event 5: no JSON"),
    "gap": ("bad_result", "where 5 was due: one was lost or doubled"),
    "truncated_result": ("bad_result", "the result file is not the one that was announced"),
    "error": ("engine_error", "RuntimeError: injected engine error"),
    "oom_host": ("oom_host", "MemoryError: injected"),
    "child_holds_stdout": ("engine_error", "the runner ended with exit code 1"),
}
GOOD = ("huge_output", "none")


def sweep(faults: tuple[str, ...]) -> str:
    return f"sweep: {{replay.engine.fault: [{', '.join(faults)}]}}"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Five campaigns, one after another, in one daemon's life."""
    unbroken = "breaker: {consecutive: 100}\nretry: {max: 0}\n"
    plain = campaign_text("faults", more=unbroken + "timeouts: {silence: 2s}")
    confirmed = campaign_text("confirmed", cycles=3, more=unbroken)
    hanging = campaign_text("hanging", engine="fault: hang", more=unbroken + "timeouts: {run: 1s}")
    slow = campaign_text("slow", engine="load_s: 60", more=unbroken + "timeouts: {start: 1s}")
    once = campaign_text("once", engine="fault: kill, fault_marker: once", more="retry: {max: 1}")
    batches = "sweep: {workload.load.batch_size: [1]}"
    with Night(tmp_path_factory.mktemp("faulty")) as night:
        night.add(plain.replace(batches, sweep((*ENDS_AS, *GOOD))))
        night.add(confirmed.replace(batches, sweep(("oom_gpu", "bad_request", "none"))))
        for text in (hanging, slow, once):
            night.add(text)
        night.begin()
        night.wait_campaign(name="once", ceiling_s=90)
        assert night.end() == 0
        yield night


def run_of(night: Night, campaign: str, **axes: Any) -> dict[str, Any]:
    """The first cycle's run with these swept values: its status, and its attempts."""
    sql = (
        "SELECT r.id, axes, r.status_data FROM runs r JOIN campaigns c ON c.id = r.campaign_id"
        " WHERE cycle = 1 AND c.name = ?"
    )
    for run, found, data in night.rows(sql, campaign):
        if axes.items() <= json.loads(found).items():
            tries = night.rows("SELECT outcome, fault, message, session_id FROM attempts WHERE run_id = ?", run)
            return {**json.loads(data), "tries": tries}
    raise AssertionError(f"no run {axes} in {campaign}")


@pytest.mark.parametrize("fault", ENDS_AS)
def test_a_faulty_runner_ends_its_attempt_with_its_kind(faulty: Night, fault: str) -> None:
    kind, message = ENDS_AS[fault]
    run = run_of(faulty, "faults", **{"replay.engine.fault": fault})
    assert run["kind"] == "Failed"
    assert run["fault"] == kind
    assert message in run["message"]
    assert [(outcome, found) for outcome, found, *_ in run["tries"]] == [("failed", kind)]


def test_a_good_run_after_all_faults_is_done(faulty: Night) -> None:
    assert run_of(faulty, "faults", **{"replay.engine.fault": "none"})["kind"] == "Done"


def test_300_mb_of_output_neither_block_a_run_nor_fill_the_disk(faulty: Night) -> None:
    run = run_of(faulty, "faults", **{"replay.engine.fault": "huge_output"})
    assert run["kind"] == "Done"
    ((uuid, facts),) = faulty.rows(
        "SELECT s.uuid, a.facts FROM attempts a JOIN sessions s ON s.id = a.session_id WHERE a.id = ?", run["attempt"]
    )
    kept_b = sum(f.stat().st_size for f in (faulty.home.sessions / uuid).iterdir())
    assert json.loads(facts)["log"]["stdout"][1] >= 300 << 20
    assert kept_b < 3 << 20


@pytest.mark.parametrize("fault", ["oom_gpu", "bad_request"])
def test_an_answer_is_confirmed_once_and_the_other_cycles_are_skipped(faulty: Night, fault: str) -> None:
    sql = (
        "SELECT status_data FROM runs WHERE json_extract(axes, '$.\"replay.engine.fault\"') = ?"
        " AND campaign_id = (SELECT id FROM campaigns WHERE name = 'confirmed') ORDER BY cycle"
    )
    first, *others = [json.loads(data) for (data,) in faulty.rows(sql, fault)]
    assert (first["kind"], first["fault"]) == ("Failed", fault)
    assert [o["kind"] for o in others] == ["Skipped", "Skipped"]
    assert others[0]["reason"].startswith(f"cycle 1 failed twice with {fault}: ")
    tries = run_of(faulty, "confirmed", **{"replay.engine.fault": fault})["tries"]
    assert [t[:2] for t in tries] == [("failed", fault), ("failed", fault)]
    assert tries[0][3] != tries[1][3], "the second try was not made on a fresh engine"


def test_a_run_that_does_not_end_is_timed_out(faulty: Night) -> None:
    run = run_of(faulty, "hanging")
    assert (run["fault"], run["message"]) == ("timed_out", "no result within 1 s")


def test_a_load_that_does_not_end_is_timed_out(faulty: Night) -> None:
    run = run_of(faulty, "slow")
    assert (run["fault"], run["message"]) == ("timed_out", "not loaded within 1 s")


def test_trouble_of_the_surroundings_is_tried_again_and_then_done(faulty: Night) -> None:
    run = run_of(faulty, "once")
    assert run["kind"] == "Done"
    assert [t[:2] for t in run["tries"]] == [("failed", "infra"), ("ok", None)]


def test_after_all_faults_nothing_is_lost_or_left(faulty: Night) -> None:
    faulty.audit()
    assert faulty.rows("SELECT count(*) FROM campaigns WHERE status != 'Finished'") == [(0,)]
    assert not (faulty.home.logs / "daemon.out").read_text()


LONG = campaign_text(cycles=2, more="timeouts: {silence: 2s}").replace(
    "decode_ms_per_token: 1.0", "decode_ms_per_token: 200, fault_marker: once"
)


FORCED = (
    r"no run can start; asked to quit \([\d.]+ of 2 s, in vain\), stdin closed \([\d.]+ of 2 s, in vain\), "
    r"killed \([\d.]+ of 5 s\), container restarted, or its processes ended \([\d.]+ s\) \(killed\)"
)


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Night]:
    """Its daemon does not ask a runner for long that does not hear."""
    with Night(tmp_path, constants=QUICK_RUNGS) as made:
        yield made


@pytest.mark.slow
def test_a_runner_that_keeps_its_interpreter_to_itself_is_silent(impatient: Night) -> None:
    """No thread of it gets anywhere: neither a sign of life nor the end of its input."""
    impatient.add(campaign_text(engine="fault: silent", more="retry: {max: 0}\ntimeouts: {silence: 2s}"))
    impatient.begin()
    impatient.wait_campaign()
    impatient.end()
    assert impatient.attempts() == [("failed", "silent", "no sign of life for 2 s")]
    impatient.audit()


@pytest.mark.slow
def test_a_stopped_runner_is_silent_and_is_ended(impatient: Night) -> None:
    impatient.add(LONG)
    impatient.begin()
    impatient.wait_until_under_way()
    pid = impatient.runner_pid()
    os.kill(pid, signal.SIGSTOP)
    impatient.wait_for(lambda: len(impatient.attempts()) == 2, "second attempt")
    impatient.end()
    outcome, fault, message = impatient.attempts()[0]
    assert (outcome, fault, message) == ("failed", "silent", "no sign of life for 2 s")
    ended_by = impatient.rows("SELECT end_reason FROM sessions ORDER BY id")[0][0]
    assert ended_by.endswith("(killed)")
    assert not Path(f"/proc/{pid}").exists()
    impatient.audit()


@pytest.mark.slow
def test_every_step_is_recorded_where_an_orderly_end_had_to_be_forced(tmp_path: Path) -> None:
    """Its campaign is over, nobody waits for it any longer, and it does not hear."""
    with Night(tmp_path, constants={**QUICK_RUNGS, "lemctl.daemon.serve.LINGER_S": 6.0}) as night:
        night.add(campaign_text())
        night.begin()
        night.wait_campaign()
        os.kill(night.runner_pid(), signal.SIGSTOP)
        ended = "SELECT end_reason FROM sessions WHERE ended_utc IS NOT NULL"
        night.wait_for(lambda: night.rows(ended) != [], "end of the session")
        ((reason,),) = night.rows(ended)
        assert re.fullmatch(FORCED, reason), reason
        night.end()
        (line,) = [line for line in (night.home.logs / "daemon.jsonl").read_text().splitlines() if "by force" in line]
        assert reason.removesuffix(" (killed)") in line
        night.audit()
    assert [outcome for outcome, *_ in night.attempts()] == ["ok"]


@pytest.mark.slow
def test_one_replica_that_is_stopped_is_silent_by_its_number_and_all_are_ended(night: Night) -> None:
    """The other one goes on with its work and the runner above says that it lives: neither may hide it."""
    more = "timeouts: {silence: 8s}\nmeasure: {window: 120s}"
    night.add(campaign_text(engine="data_parallel: 2", more=more))
    night.begin()
    night.wait_until_under_way()
    folder = next(night.home.sessions.glob("*/replica-1"))
    night.wait_for(lambda: '"window_begin"' in (folder / EVENTS_FILE).read_text(), "the window of replica 1")
    pids = [int((folder.parent / name / PID_FILE).read_text()) for name in ("", "replica-0", "replica-1")]
    stopped_at = time.monotonic()
    os.kill(pids[2], signal.SIGSTOP)
    night.wait_for(lambda: night.attempts()[0][0] is not None, "the end of the attempt")
    outcome, fault, message = night.attempts()[0]
    assert (outcome, fault) == ("failed", "silent"), night.said()
    assert re.fullmatch(r"replica 1 of 2: no sign of life for (8|9|1\d) s", message or "")
    assert time.monotonic() - stopped_at < 25, "silence is noticed within its limit, then the ladder"
    night.wait_for(lambda: len(night.attempts()) == 2, "another attempt")
    assert not set(pids) & set(processes_on(night.home.sessions))
    night.end()
    night.audit()


def test_a_runner_killed_between_runs_fails_no_run(night: Night) -> None:
    """The engine is kept for the next run; when it died meanwhile, that run opens another."""
    night.add(campaign_text("first"))
    night.begin()
    night.wait_campaign(name="first")
    os.kill(night.runner_pid(), signal.SIGKILL)
    night.add(campaign_text("second"))
    night.wait_campaign(name="second")
    night.end()
    assert night.attempts() == [("ok", None, None), ("ok", None, None)]
    assert night.rows("SELECT count(*) FROM sessions") == [(2,)]
    night.audit()


def test_a_runner_that_is_asked_to_end_from_outside_fails_its_attempt_and_the_campaign_goes_on(night: Night) -> None:
    """SIGTERM by somebody else: it ends its engine and says goodbye, without a result."""
    night.add(LONG.replace("timeouts: {silence: 2s}", ""))
    night.begin()
    night.wait_until_under_way()
    os.kill(night.runner_pid(), signal.SIGTERM)
    night.wait_for(lambda: len(night.attempts()) == 2, "second attempt")
    night.end()
    outcome, fault, message = night.attempts()[0]
    assert (outcome, fault) == ("failed", "bad_result")
    assert message == "the runner ended without a result"
    night.audit()


@pytest.mark.slow
def test_no_progress_is_timed_out_although_the_runner_says_it_lives(night: Night) -> None:
    """`alive` comes every 5 s and counts; a hang in native code that lets other threads run moves no counter."""
    night.add(campaign_text(engine="fault: hang", more="retry: {max: 0}\ntimeouts: {silence: 20s, progress: 3s}"))
    night.begin()
    night.wait_campaign()
    night.end()
    assert night.attempts() == [("failed", "timed_out", "no progress for 3 s (batches done: 1)")]
    night.audit()
