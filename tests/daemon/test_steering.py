"""What a person asks of a live daemon happens before the answer comes, and once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lemctl.clock import SystemClock, utc_text
from lemctl.daemon.obey import obey
from lemctl.store import campaigns, moves
from lemctl.store.commands import AskedCommand, Verb
from lemctl.store.database import Store
from lemctl.store.status import CampaignFinished, CampaignPaused, CampaignStatus, CampaignStopped
from night import Night, campaign_text

#: Some 1.2 s of decoding a run, in batches of 0.3 s.
SLOW = campaign_text(cycles=2).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 75")


@pytest.fixture
def slow(night: Night) -> Iterator[Night]:
    """A daemon in the first of two runs that take a while."""
    night.add(SLOW)
    night.begin()
    night.wait_until_under_way()
    yield night
    if night.daemon is not None and night.daemon.poll() is None:
        night.end()
    night.audit()


def test_pause_lets_the_run_end_and_starts_nothing_until_resumed(slow: Night) -> None:
    answer = slow.ask("pause", campaign="night")
    assert (answer.exit_code, answer.text) == (0, "night is paused; the run under way goes on to its end")
    slow.wait_for(lambda: slow.statuses() == ["Done", "Queued"], "end of the run")
    assert slow.ask("wake").exit_code == 0  # several ticks later
    assert slow.ask("pause", campaign="night").text == "night is paused already"
    assert slow.statuses() == ["Done", "Queued"]
    assert slow.ask("resume", campaign="night").text == "night goes on, 1 run left"
    slow.wait_campaign()


def test_stop_is_answered_when_the_run_has_ended(slow: Night) -> None:
    answer = slow.ask("stop", campaign="night")
    assert slow.statuses() == ["Done", "Queued"]
    assert answer.text == "night is stopped, 1 run left; `lemctl campaign resume night` goes on"
    assert slow.campaign() == "Stopped"
    assert slow.ask("resume", campaign="night").exit_code == 0
    slow.wait_campaign()


def test_a_resume_after_a_stop_that_still_waits_wins(slow: Night) -> None:
    slow.ask_only("stop", campaign="night")
    slow.wait_campaign("Stopped")
    assert slow.ask("resume", campaign="night").exit_code == 0
    slow.wait_campaign()
    assert slow.statuses() == ["Done"] * 2
    answers = [a for (a,) in slow.rows("SELECT answer FROM commands ORDER BY id")]
    assert answers[0] == "night was stopped, and goes on since: somebody resumed it"


def test_cancel_is_answered_when_the_run_has_ended(slow: Night) -> None:
    assert slow.ask("cancel", campaign="night").text == "night is cancelled"
    assert slow.campaign() == "Cancelled"
    assert slow.statuses() == ["Cancelled"] * 2
    assert slow.attempts() == [("cancelled", None, "cancelled by a person")]
    assert slow.ask("resume", campaign="night").exit_code == 2
    assert slow.ask("retry", campaign="night").text == "2 runs of night will be tried again"
    slow.wait_campaign()
    assert slow.statuses() == ["Done"] * 2


def test_cancel_and_then_a_shutdown_leave_no_queued_run(slow: Night) -> None:
    slow.ask_only("cancel", campaign="night")
    slow.wait_campaign("Cancelled")
    slow.kill()
    slow.begin()
    slow.wait_for(lambda: slow.rows("SELECT 1 FROM attempts WHERE outcome IS NULL") == [], "recovery")
    assert slow.statuses() == ["Cancelled"] * 2


def test_skip_ends_the_run_under_way_and_the_queued_one(slow: Night) -> None:
    ids = [row[0] for row in slow.rows("SELECT id FROM runs ORDER BY position")]
    assert slow.ask("skip", run=ids[0]).exit_code == 0
    assert slow.ask("skip", run=ids[1]).exit_code == 0
    slow.wait_campaign()
    assert slow.statuses()[0] == "Cancelled"
    assert slow.statuses()[1] in ("Skipped", "Cancelled")  # it may have begun meanwhile
    assert slow.ask("skip", run=ids[0]).text == f"run {ids[0]} is cancelled"


def test_retry_tries_again_what_failed_and_only_that(night: Night) -> None:
    failing = campaign_text(engine="fault_marker: once", more="retry: {max: 0}")
    night.add(failing.replace("{workload.load.batch_size: [1]}", "{replay.engine.fault: [error, none]}"))
    night.begin()
    night.wait_campaign()
    assert night.statuses() == ["Failed", "Done"]
    nothing = night.ask("retry", campaign="night", where={"backend": "pytorch"})
    assert (nothing.exit_code, nothing.text) == (7, "night has no failed run that matches")
    assert night.ask("retry", campaign="night", where={"replay.engine.fault": "error"}).exit_code == 0
    night.wait_for(lambda: night.statuses() == ["Done", "Done"], "the second try")
    night.wait_campaign()
    night.end()
    night.audit()
    assert [outcome for outcome, *_ in night.attempts()] == ["failed", "ok", "ok"]


@pytest.mark.slow
def test_a_campaign_of_a_higher_priority_goes_first_but_takes_no_turn_away(slow: Night) -> None:
    for name in ("second", "third"):
        slow.add(campaign_text(name))
    assert slow.ask("prioritise", campaign="third", priority=5).exit_code == 0
    assert slow.ask("prioritise", campaign="second", after="third").exit_code == 0
    assert slow.ask("prioritise", campaign="third", after="second").exit_code == 2
    slow.wait_campaign(name="second")
    order = slow.rows(
        "SELECT DISTINCT c.name FROM attempts a JOIN runs r ON r.id = a.run_id JOIN campaigns c ON c.id = r.campaign_id"
        " ORDER BY a.id"
    )
    assert order == [("night",), ("third",), ("second",)]


@pytest.mark.parametrize(
    ("verb", "arguments", "exit_code"),
    [
        ("pause", {"campaign": "nobody"}, 7),
        ("pause", {}, 2),
        ("pause", {"campaign": 7}, 2),
        ("skip", {"run": "seven"}, 2),
        ("skip", {"run": 999}, 7),
        ("dance", {}, 2),
        ("retry", {"campaign": "night", "where": "backend"}, 2),
    ],
)
def test_a_wrong_command_is_answered_and_the_daemon_lives(tmp_path: Path, verb, arguments, exit_code) -> None:  # type: ignore[no-untyped-def]
    """Through `obey` itself: what the command line would not send must not end the daemon either."""
    from lemctl.clock import SystemClock
    from lemctl.daemon.obey import obey
    from lemctl.store.commands import AskedCommand

    night = Night(tmp_path)
    night.add(campaign_text())
    with Store.open(night.home, "write") as store, store.transaction() as tx:
        answer = obey(tx, AskedCommand(1, verb, arguments), SystemClock(), None)
    assert answer is not None
    assert answer.exit_code == exit_code


@pytest.mark.parametrize(
    ("verb", "arguments", "status", "exit_code", "says"),
    [
        ("pause", {"campaign": "night"}, CampaignFinished(), 2, "night is finished: there is nothing to pause"),
        ("pause", {"campaign": "night"}, CampaignStopped(), 2, "night is stopped: there is nothing to pause"),
        ("prioritise", {"campaign": "night", "priority": 3}, None, 0, "night has its turn already and keeps it"),
    ],
)
def test_an_answer_names_the_campaign_and_what_it_does_not_change(
    tmp_path: Path, verb: Verb, arguments: dict[str, Any], status: CampaignStatus | None, exit_code: int, says: str
) -> None:
    night = Night(tmp_path / "home")
    night.add(campaign_text())
    clock = SystemClock()
    with Store.open(night.home, "write") as store, store.transaction() as tx:
        campaign = campaigns.front(tx, clock)
        assert campaign is not None
        if status is not None:
            campaigns.close(tx, campaign, status, clock, "person")
        answer = obey(tx, AskedCommand(1, verb, arguments), clock, None)
    assert answer is not None
    assert answer.exit_code == exit_code
    assert says in answer.text


def test_a_retry_of_a_paused_campaign_says_that_it_waits_for_a_resume(tmp_path: Path) -> None:
    night = Night(tmp_path / "home")
    night.add(campaign_text())
    clock = SystemClock()
    with Store.open(night.home, "write") as store, store.transaction() as tx:
        campaign = campaigns.front(tx, clock)
        assert campaign is not None
        campaigns.cancel_queued(tx, campaign, "for the test", clock, "person")
        moves.move(tx, "campaign", campaign.id, CampaignPaused(reason="breaker"), utc_text(clock.utc()), "daemon")
        answer = obey(tx, AskedCommand(1, "retry", {"campaign": "night", "failed": True}), clock, None)
    assert answer is not None
    assert answer.exit_code == 0
    assert "`lemctl campaign resume night`" in answer.text


def test_a_shutdown_is_answered_when_the_daemon_has_let_go(slow: Night) -> None:
    number = slow.ask_only("shutdown")
    assert slow.daemon is not None
    assert slow.daemon.wait(30) == 0
    assert slow.rows("SELECT exit_code, answer FROM commands WHERE id = ?", number) == [(0, "the daemon has ended")]
    assert slow.statuses() == ["Queued"] * 2


def test_the_breaker_pauses_the_campaign_and_says_why(night: Night) -> None:
    night.add(campaign_text(cycles=6, engine="fault: error", more="retry: {max: 0}\nbreaker: {consecutive: 3}"))
    night.begin()
    night.wait_campaign("Paused")
    night.end()
    night.audit()
    assert night.statuses() == ["Failed"] * 3 + ["Queued"] * 3
    ((data,),) = night.rows("SELECT json_extract(status_data, '$.reason') FROM campaigns")
    assert data == "breaker: 3 runs in a row failed with engine_error"


def test_heartbeats_tell_that_the_daemon_lives(slow: Night) -> None:
    sql = "SELECT json_extract(document, '$.state'), json_extract(document, '$.pid') FROM live WHERE topic = 'daemon'"
    assert slow.daemon is not None
    slow.wait_for(lambda: slow.rows(sql) == [("running", slow.daemon.pid)], "heartbeat of a running daemon")
    lane = "SELECT json_extract(document, '$.phase') FROM live WHERE topic = 'lane:cpu'"
    slow.wait_for(lambda: slow.rows(lane) == [("window",)], "word of the lane")
    until = time.monotonic() + 30
    slow.end()
    assert time.monotonic() < until
    assert slow.rows("SELECT * FROM live") == []
