"""What each command does. Each returns an answer, or None while it has not happened yet: then it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lemctl.cancel import Cancel
from lemctl.clock import Clock, utc_text
from lemctl.errors import PersonsMistake
from lemctl.lines import plural
from lemctl.store import campaigns, moves, read_runs
from lemctl.store.commands import Answer, AskedCommand
from lemctl.store.database import Transaction
from lemctl.store.status import (
    CAMPAIGN_OPEN,
    CampaignCancelled,
    CampaignPaused,
    CampaignStopped,
    Skipped,
)


@dataclass(frozen=True)
class UnderWay:
    """The run that a lane works on, and how to end it."""

    run_id: int
    campaign_id: int
    cancel: Cancel


Context = tuple[Transaction, Clock, UnderWay | None]


def obey(tx: Transaction, command: AskedCommand, clock: Clock, under_way: UnderWay | None) -> Answer | None:
    """Carry out a command inside the caller's transaction; a person's mistake becomes the answer."""
    verb = VERBS.get(command.verb)
    if verb is None:
        return Answer(2, f"this daemon does not know the command {command.verb!r}")
    try:
        return verb(command.arguments, (tx, clock, under_way))
    except PersonsMistake as mistake:
        return Answer(mistake.exit_code, str(mistake))
    except moves.IllegalMove as illegal:
        return Answer(2, str(illegal))


def _pause(arguments: dict[str, Any], context: Context) -> Answer:
    tx, clock, under_way = context
    campaign = campaigns.find(tx, arguments["campaign"])
    if campaign.status.kind == "Paused":
        return Answer(0, f"{campaign.label} is paused already")
    reason = arguments.get("reason") or "by a person"
    moves.move(tx, "campaign", campaign.id, CampaignPaused(reason=reason), utc_text(clock.utc()), "person")
    running = under_way is not None and under_way.campaign_id == campaign.id
    return Answer(0, f"{campaign.label} is paused" + ("; the run under way goes on to its end" if running else ""))


def _resume(arguments: dict[str, Any], context: Context) -> Answer:
    tx, clock, _ = context
    campaign = campaigns.find(tx, arguments["campaign"])
    if campaign.status.kind in ("Waiting", "Active"):
        return Answer(0, f"{campaign.label} is not paused")
    campaigns.reopen(tx, campaign, clock, "person")
    return Answer(0, f"{campaign.label} goes on, {campaigns.describe_left(tx, campaign)}")


def _stop(arguments: dict[str, Any], context: Context) -> Answer | None:
    tx, clock, under_way = context
    campaign = campaigns.find(tx, arguments["campaign"])
    if campaign.status.kind not in ("Stopped", "Finished", "Cancelled"):
        campaigns.close(tx, campaign, CampaignStopped(), clock, "person")
    if under_way is not None and under_way.campaign_id == campaign.id:
        return None
    left = campaigns.describe_left(tx, campaign)
    return Answer(0, f"{campaign.label} is stopped, {left}; `lemctl campaign resume {campaign.label}` goes on")


def _cancel(arguments: dict[str, Any], context: Context) -> Answer | None:
    tx, clock, under_way = context
    campaign = campaigns.find(tx, arguments["campaign"])
    reason = "cancelled by a person"
    if campaign.status.kind in CAMPAIGN_OPEN:
        campaigns.cancel_queued(tx, campaign, reason, clock, "person")
        campaigns.close(tx, campaign, CampaignCancelled(reason=reason), clock, "person")
    if under_way is not None and under_way.campaign_id == campaign.id:
        under_way.cancel.set("cancelled", reason)
        return None
    return Answer(0, f"{campaign.label} is cancelled")


def _retry(arguments: dict[str, Any], context: Context) -> Answer:
    tx, clock, _ = context
    campaign = campaigns.find(tx, arguments["campaign"])
    found = read_runs.retryable(tx, campaign, arguments.get("run"), arguments.get("where") or {})
    for run_id in found:
        moves.requeue(tx, run_id, clock, "asked for by a person", "person")
    if not found:
        return Answer(7, f"{campaign.label} has no failed run that matches")
    if campaign.status.kind in ("Finished", "Cancelled"):
        campaigns.reopen(tx, campaign, clock, "person")
    return Answer(0, f"{plural(len(found), 'run')} of {campaign.label} will be tried again")


def _skip(arguments: dict[str, Any], context: Context) -> Answer | None:
    tx, clock, under_way = context
    run = read_runs.run_row(tx, int(arguments["run"]))
    if run.status in ("Skipped", "Cancelled"):
        return Answer(0, f"run {run.id} is {run.status.lower()}")
    if under_way is not None and under_way.run_id == run.id:
        under_way.cancel.set("cancelled", "skipped by a person")
        return None
    if run.status != "Queued":
        return Answer(2, f"run {run.id} is {run.status}: only a run that is queued or under way can be skipped")
    moves.move(tx, "run", run.id, Skipped(reason="by a person"), utc_text(clock.utc()), "person")
    return Answer(0, f"run {run.id} is skipped")


def _prioritise(arguments: dict[str, Any], context: Context) -> Answer:
    tx, _, _ = context
    campaign = campaigns.find(tx, arguments["campaign"])
    after = campaigns.find(tx, arguments["after"]) if arguments.get("after") else None
    campaigns.place_in_line(tx, campaign, arguments.get("priority"), after)
    return Answer(0, f"{campaign.label} has moved in the line")


def _wake(arguments: dict[str, Any], context: Context) -> Answer:  # noqa: ARG001
    return Answer(0, "awake")


VERBS: dict[str, Callable[[dict[str, Any], Context], Answer | None]] = {
    "pause": _pause,
    "resume": _resume,
    "stop": _stop,
    "cancel": _cancel,
    "retry": _retry,
    "skip": _skip,
    "prioritise": _prioritise,
    "wake": _wake,
}
