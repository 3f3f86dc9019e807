"""Campaigns in the line: adding, attaching, extending, whose turn it is, and when one has ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from build import Night, plan_of

from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.clock import utc_text
from lemctl.errors import NotFound, UsageMistake
from lemctl.paths import Home
from lemctl.store import campaigns, commands, moves, queue
from lemctl.store.campaigns import Campaign
from lemctl.store.commands import Answer
from lemctl.store.status import CampaignCancelled, CampaignPaused, Queued


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """An empty database."""
    made = Night(Home(tmp_path / "home"))
    yield made
    made.close()


def now(night: Night, name: str) -> Campaign:
    return campaigns.find(night.store.connection, name)


def turn(night: Night) -> str | None:
    """The label of the campaign whose turn it is."""
    with night.store.transaction() as tx:
        front = campaigns.front(tx, night.clock)
    return None if front is None else front.label


def finish(night: Night, name: str) -> None:
    for run in night.runs(name):
        night.finish(run)
    with night.store.transaction() as tx:
        assert campaigns.settle(tx, campaigns.find(tx, name), night.clock)


def test_the_same_plan_attaches_and_another_of_that_name_is_refused(night: Night) -> None:
    first = night.add(plan_of("a"))
    again = night.add(plan_of("a"))
    assert (first.attached, first.new_runs) == (False, 4)
    assert (again.attached, again.new_runs, again.campaign.id) == (True, 0, first.campaign.id)
    with pytest.raises(UsageMistake, match="campaign a is waiting with another plan: give this one another name"):
        night.add(plan_of("a", cycles=3))
    assert night.store.connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 4


def test_once_finished_the_same_plan_begins_a_new_number(night: Night) -> None:
    night.add(plan_of("a"))
    assert turn(night) == "a"
    finish(night, "a")
    assert night.add(plan_of("a")).campaign.label == "a#2"
    assert now(night, "a#1").status.kind == "Finished"
    assert now(night, "a").number == 2


def test_an_unknown_campaign_is_answered_with_what_there_is(night: Night) -> None:
    night.add(plan_of("a"))
    with pytest.raises(NotFound, match="no campaign 'b'; there are a"):
        now(night, "b")


def test_extending_adds_only_what_is_new_and_opens_an_ended_campaign(night: Night) -> None:
    night.add(plan_of("a"))
    turn(night)
    finish(night, "a")
    with night.store.transaction() as tx:
        added = campaigns.extend_campaign(tx, plan_of("a", cycles=3), "", night.clock)
        assert campaigns.extend_campaign(tx, plan_of("a", cycles=3), "", night.clock).new_runs == 0
    assert added.new_runs == 2
    campaign = now(night, "a")
    assert (campaign.status.kind, campaign.ended_utc) == ("Waiting", None)
    states = night.store.connection.execute("SELECT status, count(*) FROM runs GROUP BY 1 ORDER BY 1").fetchall()
    assert [tuple(row) for row in states] == [("Done", 4), ("Queued", 2)]


def served(name: str, more: str) -> Plan:
    """A plan whose requests are handed over one by one."""
    text = f"""
name: {name}
preset: quick-test
model: "path:tiny"
backend: replay
workload: {{dataset: random, random: {{input_len: 16}}, prompts: 8, load: {{mode: closed, concurrency: 2}}}}
{more}
"""
    return plan(loads(text, f"{name}.yaml"))


def test_extending_with_other_latency_targets_is_refused(night: Night) -> None:
    """Goodput of one experiment would be averaged over two questions."""
    night.add(served("a", "targets: {ttft: 1s}"))
    with night.store.transaction() as tx:
        for other in ("", "targets: {ttft: 2s}"):
            with pytest.raises(UsageMistake, match="a has other targets"):
                campaigns.extend_campaign(tx, served("a", other), "", night.clock)
        assert campaigns.extend_campaign(tx, served("a", "targets: {ttft: 1s}"), "", night.clock).new_runs == 0


def test_the_line_goes_by_priority_then_age_and_a_turn_is_kept(night: Night) -> None:
    night.add(plan_of("a"))
    night.add(plan_of("b"), priority=1)
    assert turn(night) == "b"
    night.add(plan_of("c"), priority=9)
    assert turn(night) == "b"
    finish(night, "b")
    assert turn(night) == "c"
    finish(night, "c")
    assert turn(night) == "a"


def test_a_campaign_put_after_another_waits_until_that_has_ended(night: Night) -> None:
    first = night.add(plan_of("a")).campaign
    night.add(plan_of("b"), priority=5, after=first)
    assert turn(night) == "a"
    with night.store.transaction() as tx:
        moves.move(tx, "campaign", first.id, CampaignPaused(reason="x"), "2026", "test")
    assert turn(night) is None
    with night.store.transaction() as tx:
        campaigns.cancel_queued(tx, now(night, "a"), "x", night.clock, "test")
        campaigns.close(tx, now(night, "a"), CampaignCancelled(reason="x"), night.clock, "test")
    assert turn(night) == "b"


def test_a_circle_in_the_line_is_refused(night: Night) -> None:
    a = night.add(plan_of("a")).campaign
    b = night.add(plan_of("b"), after=a).campaign
    with pytest.raises(UsageMistake, match="a would wait for itself"), night.store.transaction() as tx:
        campaigns.place_in_line(tx, a, None, b)
    with night.store.transaction() as tx:
        campaigns.place_in_line(tx, a, 3, None)
    assert now(night, "a").priority == 3


def test_a_paused_campaign_lets_the_next_one_by(night: Night) -> None:
    a = night.add(plan_of("a")).campaign
    night.add(plan_of("b"))
    assert turn(night) == "a"
    with night.store.transaction() as tx:
        moves.move(tx, "campaign", a.id, CampaignPaused(reason="x"), "2026", "test")
    assert turn(night) == "b"
    with night.store.transaction() as tx:
        campaigns.reopen(tx, now(night, "a"), night.clock, "person")
    assert turn(night) == "b"


def test_a_run_held_back_lets_the_next_one_by_and_comes_when_its_time_has(night: Night) -> None:
    night.add(plan_of("a"))
    turn(night)
    first, second, *_ = night.runs("a")
    attempt = night.begin(first)
    until = utc_text(night.clock.utc() + timedelta(seconds=30))
    with night.store.transaction() as tx:
        held = Queued(not_before_utc=until, why="retry after infra")
        moves.end_failed(tx, attempt, night.clock, "infra", "x", "", held)

    def next_id() -> int:
        with night.store.transaction() as tx:
            run = queue.next_run(tx, campaigns.find(tx, "a"), night.clock)
        assert run is not None
        return run.id

    assert next_id() == second
    deadline = queue.earliest_retry(night.store.connection, now(night, "a"), night.clock)
    assert deadline is not None
    assert deadline.at_utc == until
    night.clock.advance(30)
    assert next_id() == first


def test_a_campaign_ends_when_its_last_run_does_and_not_before(night: Night) -> None:
    night.add(plan_of("a"))
    turn(night)
    *others, last = night.runs("a")
    for run in others:
        night.finish(run)
    with night.store.transaction() as tx:
        assert not campaigns.settle(tx, now(night, "a"), night.clock)
    attempt = night.begin(last)
    with night.store.transaction() as tx:
        assert not campaigns.settle(tx, now(night, "a"), night.clock)
        moves.end_without_fault(tx, attempt.id, last, night.clock, "interrupted", "x", Queued())
    night.finish(last)
    with night.store.transaction() as tx:
        assert campaigns.settle(tx, now(night, "a"), night.clock)
    assert now(night, "a").ended_utc is not None


def test_an_ended_campaign_cannot_go_on_while_a_newer_one_of_its_name_does(night: Night) -> None:
    night.add(plan_of("a"))
    turn(night)
    finish(night, "a")
    night.add(plan_of("a"))
    with pytest.raises(UsageMistake, match="a cannot go on while a#2 is waiting"), night.store.transaction() as tx:
        campaigns.reopen(tx, now(night, "a#1"), night.clock, "person")


def test_a_command_is_taken_and_answered_once(night: Night) -> None:
    with night.store.transaction() as tx:
        number = commands.ask(tx, "pause", {"campaign": "a"}, night.clock)
    with night.store.transaction() as tx:
        assert [c.verb for c in commands.take(tx, night.clock)] == ["pause"]
        assert commands.take(tx, night.clock) == []
        commands.answer(tx, number, Answer(0, "first"), night.clock)
        commands.answer(tx, number, Answer(1, "second"), night.clock)
    assert commands.answer_of(night.store.connection, number) == Answer(0, "first")


def test_a_command_that_nobody_took_in_time_is_never_carried_out(night: Night) -> None:
    with night.store.transaction() as tx:
        number = commands.ask(tx, "cancel", {"campaign": "a"}, night.clock)
    night.clock.advance(commands.EXPIRES_S + 1)
    with night.store.transaction() as tx:
        assert commands.take(tx, night.clock) == []
    answer = commands.answer_of(night.store.connection, number)
    assert answer is not None
    assert answer.exit_code == 6


def test_a_new_daemon_obeys_nothing_that_was_asked_of_the_one_before(night: Night) -> None:
    with night.store.transaction() as tx:
        taken = commands.ask(tx, "cancel", {"campaign": "a"}, night.clock)
        commands.take(tx, night.clock)
        fresh = commands.ask(tx, "pause", {"campaign": "a"}, night.clock)
        assert commands.reject_leftovers(tx, night.clock) == 2
        assert commands.take(tx, night.clock) == []
    for number in (taken, fresh):
        answer = commands.answer_of(night.store.connection, number)
        assert answer is not None
        assert answer.exit_code == 6
