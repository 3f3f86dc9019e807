"""Whose turn it is: which run may begin now, and if none, why and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from lemctl.campaign.expected import Expected
from lemctl.campaign.hours import Hours, describe, read_hours
from lemctl.clock import Clock, utc_text
from lemctl.daemon import schedule
from lemctl.daemon.lanes import Lane
from lemctl.daemon.specs import resolved
from lemctl.lines import plural
from lemctl.store import campaigns, moves, outbox, queue, read_history
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Transaction
from lemctl.store.queue import QueuedRun
from lemctl.store.status import CampaignPaused


@dataclass(frozen=True, slots=True)
class Turn:
    """`run` may begin; else `waits_for` says why not, and `again` when that may change by itself. `has_moved` when a
    campaign was ended or paused by looking: somebody else may have his turn at once."""

    campaign: Campaign | None = None
    run: QueuedRun | None = None
    waits_for: str | None = None
    again: datetime | None = None
    has_moved: bool = False


def next_turn(tx: Transaction, clock: Clock, lane: Lane | None) -> Turn:
    """Look at the campaign in front."""
    campaign = campaigns.front(tx, clock)
    if campaign is None:
        return Turn(again=schedule.next_alarm(tx, clock))
    hours = read_hours(campaign.document)
    turn = _in_hours(tx, campaign, hours, clock, lane) if hours else _next(tx, campaign, clock)
    return replace(turn, again=schedule.earliest([turn.again, schedule.next_alarm(tx, clock)]))


def _next(tx: Transaction, campaign: Campaign, clock: Clock, without: frozenset[str] = frozenset()) -> Turn:
    """The next run that need not wait for its retry; a campaign that has none left is settled."""
    run = queue.next_run(tx, campaign, clock, without)
    if run is not None:
        return Turn(campaign, run)
    if campaigns.settle(tx, campaign, clock):
        return Turn(campaign, has_moved=True)
    retry = queue.earliest_retry(tx, campaign, clock)
    if retry is None:
        return Turn(campaign)
    again = schedule.moment_of(retry, clock)
    return Turn(campaign, None, f"the retry of a run of {campaign.label} at {utc_text(again)}", again)


def _in_hours(tx: Transaction, campaign: Campaign, hours: Hours, clock: Clock, lane: Lane | None) -> Turn:
    """Order is kept: what does not fit before the close waits for the next opening, and nothing passes it. Only what
    fits no window at all is passed over, and pauses its campaign when nothing else is left."""
    too_long: set[str] = set()
    longest_s = hours.longest_s(clock.utc())
    while (turn := _next(tx, campaign, clock, frozenset(too_long))).run is not None:
        need_s = expected_s(tx, campaign, turn.run, lane).p90_s
        if need_s <= longest_s:
            hold = schedule.held_by_hours(hours, clock.utc(), need_s)
            return turn if hold is None else Turn(campaign, None, f"{campaign.label}: {hold.why}", hold.again)
        too_long.add(turn.run.experiment)
    if too_long and turn.again is None and not turn.has_moved:
        _pause_for_hours(tx, campaign, hours, len(too_long), clock)
        return Turn(campaign, has_moved=True)
    return turn


def _pause_for_hours(tx: Transaction, campaign: Campaign, hours: Hours, experiments: int, clock: Clock) -> None:
    """Nothing that is left fits its hours, and only a person can change that: so somebody is told."""
    reason = (
        f"the runs of {plural(experiments, 'experiment')} are expected to be longer than its hours,"
        f" {describe(hours)}: give it longer ones with `lemctl campaign extend`, or skip them"
    )
    moves.move(tx, "campaign", campaign.id, CampaignPaused(reason=reason), utc_text(clock.utc()), "daemon")
    body = f"{reason}; {campaigns.describe(tx, campaign, clock)}; `lemctl campaign resume {campaign.label}` goes on"
    outbox.tell(tx, campaign, "breaker", body, clock, title="is paused: its runs are longer than its hours")


def expected_s(tx: Transaction, campaign: Campaign, run: QueuedRun, lane: Lane | None) -> Expected:
    """What a run takes by its own history, else by that of its like, else by the guess of its plan; with the loading of
    its engine, unless that is open."""
    simulated = campaign.executor == "simulate"
    past = read_history.past_runs(tx, simulated, run.experiment) or read_history.past_runs(tx, simulated)
    known = read_history.durations(past)
    guess_s = read_history.UNKNOWN_S if run.guess_s is None else run.guess_s
    is_open = lane is not None and lane.has_open(run.spec, resolved(run.spec, campaign.document).engine)
    return known.whole(run.experiment, run.spec["backend"], run.model, guess_s, not is_open)
