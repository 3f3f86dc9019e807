"""What each command does. Each returns an answer, or None while it has not happened yet: then it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lemctl.cancel import Cancel
from lemctl.clock import Clock, Deadline, utc_text
from lemctl.errors import PersonsMistake
from lemctl.lines import plural
from lemctl.store import campaigns, moves, read_runs, samples, schedules
from lemctl.store.campaigns import Campaign
from lemctl.store.commands import Answer, AskedCommand
from lemctl.store.database import Transaction
from lemctl.store.status import (
    CAMPAIGN_OPEN,
    CampaignCancelled,
    CampaignPaused,
    CampaignStopped,
    CampaignWaiting,
    Skipped,
)


@dataclass(frozen=True)
class UnderWay:
    """The run that a lane works on, and how to end it."""

    run_id: int
    campaign_id: int
    cancel: Cancel


@dataclass(frozen=True)
class Context:
    """What a verb works with; `is_begun` when it has answered None before."""

    tx: Transaction
    clock: Clock
    under_way: UnderWay | None
    is_begun: bool

    def runs_of(self, campaign: Campaign) -> bool:
        """Whether the run under way is the campaign's."""
        return self.under_way is not None and self.under_way.campaign_id == campaign.id


def obey(tx: Transaction, command: AskedCommand, clock: Clock, under_way: UnderWay | None) -> Answer | None:
    """Carry out a command inside the caller's transaction; a person's mistake becomes the answer.

    Each verb looks before it writes: what it answers with a mistake has changed nothing.
    """
    verb = VERBS.get(command.verb)
    if verb is None:
        return Answer(2, f"this daemon does not know the command {command.verb!r}")
    try:
        return verb(command.arguments, Context(tx, clock, under_way, command.is_begun))
    except PersonsMistake as mistake:
        return Answer(mistake.exit_code, str(mistake))
    except moves.IllegalMove as illegal:
        return Answer(2, str(illegal))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Answer(2, f"{command.verb} with {command.arguments}: not understood ({type(error).__name__}: {error})")


def _pause(arguments: dict[str, Any], context: Context) -> Answer:
    tx, clock = context.tx, context.clock
    campaign = campaigns.find(tx, arguments["campaign"])
    to = _pause_of(arguments, clock)
    status = campaign.status
    if isinstance(status, CampaignPaused):
        if status.until_utc is None and to.until_utc is None:
            return Answer(0, f"{campaign.label} is paused already")
        # It had an end, or gets one: the pause that a person asks for replaces the one that stands.
        moves.move(tx, "campaign", campaign.id, CampaignWaiting(), utc_text(clock.utc()), "person")
    elif status.kind not in ("Waiting", "Active"):
        return Answer(2, f"{campaign.label} is {status.kind.lower()}: there is nothing to pause")
    moves.move(tx, "campaign", campaign.id, to, utc_text(clock.utc()), "person")
    until = f" until {to.until_utc[:19]}Z" if to.until_utc else ""
    running = "; the run under way goes on to its end" if context.runs_of(campaign) else ""
    return Answer(0, f"{campaign.label} is paused{until}{running}")


def _pause_of(arguments: dict[str, Any], clock: Clock) -> CampaignPaused:
    """For good, `for_s` from now, or `until_utc`."""
    reason = arguments.get("reason") or "by a person"
    if (for_s := arguments.get("for_s")) is not None:
        end = Deadline.after(float(for_s), clock)
        return CampaignPaused(
            reason=reason, until_utc=end.at_utc, until_boottime_ns=end.boottime_ns, until_boot=end.boot
        )
    if (until := arguments.get("until_utc")) is not None:
        return CampaignPaused(reason=reason, until_utc=utc_text(datetime.fromisoformat(until)))
    return CampaignPaused(reason=reason)


def _resume(arguments: dict[str, Any], context: Context) -> Answer:
    """Also lets in the GPUs that were kept out, whatever state the campaign is in."""
    tx = context.tx
    campaign = campaigns.find(tx, arguments["campaign"])
    kind = campaign.status.kind
    if kind in ("Paused", "Stopped"):
        campaigns.reopen(tx, campaign, context.clock, "person")
    let_in = samples.lift_quarantine(tx)
    again = f"; GPU {', '.join(let_in)} is let in again" if let_in else ""
    if kind in ("Waiting", "Active"):
        return Answer(0, f"{campaign.label} is not paused{again}")
    if kind not in CAMPAIGN_OPEN:
        retry = f"`lemctl campaign retry {campaign.label} --failed` tries its failed runs again"
        return Answer(0 if let_in else 2, f"{campaign.label} is {kind.lower()}{again}: {retry}")
    return Answer(0, f"{campaign.label} goes on, {campaigns.describe_left(tx, campaign)}{again}")


def _stop(arguments: dict[str, Any], context: Context) -> Answer | None:
    tx = context.tx
    campaign = campaigns.find(tx, arguments["campaign"])
    if campaign.status.kind not in ("Stopped", "Finished", "Cancelled"):
        if context.is_begun:
            return Answer(0, f"{campaign.label} was stopped, and goes on since: somebody resumed it")
        campaigns.close(tx, campaign, CampaignStopped(), context.clock, "person")
    if context.runs_of(campaign):
        return None
    left = campaigns.describe_left(tx, campaign)
    return Answer(0, f"{campaign.label} is stopped, {left}; `lemctl campaign resume {campaign.label}` goes on")


def _cancel(arguments: dict[str, Any], context: Context) -> Answer | None:
    tx = context.tx
    campaign = campaigns.find(tx, arguments["campaign"])
    reason = "cancelled by a person"
    if campaign.status.kind in CAMPAIGN_OPEN:
        if context.is_begun:
            return Answer(0, f"{campaign.label} was cancelled, and goes on since: somebody asked for a retry")
        campaigns.cancel_queued(tx, campaign, reason, context.clock, "person")
        campaigns.close(tx, campaign, CampaignCancelled(reason=reason), context.clock, "person")
    is_unscheduled = schedules.end(tx, campaign.name, context.clock)
    if context.under_way is not None and context.runs_of(campaign):
        context.under_way.cancel.set("cancelled", reason)
        return None
    if campaign.status.kind == "Finished":
        no_more = "; it does not begin again" if is_unscheduled else " already"
        return Answer(0, f"{campaign.label} is finished{no_more}")
    return Answer(0, f"{campaign.label} is cancelled")


def _retry(arguments: dict[str, Any], context: Context) -> Answer:
    tx, clock = context.tx, context.clock
    campaign = campaigns.find(tx, arguments["campaign"])
    found = read_runs.retryable(tx, campaign, arguments.get("run"), arguments.get("where") or {})
    if not found:
        return Answer(7, f"{campaign.label} has no failed run that matches")
    if campaign.status.kind not in CAMPAIGN_OPEN:
        campaigns.reopen(tx, campaign, clock, "person")
    for run_id in found:
        moves.requeue(tx, run_id, clock, "asked for by a person", "person")
    kind = campaign.status.kind
    held = f", once `lemctl campaign resume {campaign.label}` lets it go on: it is {kind.lower()}"
    return Answer(
        0,
        f"{plural(len(found), 'run')} of {campaign.label} will be tried again"
        + (held if kind in ("Paused", "Stopped") else ""),
    )


def _skip(arguments: dict[str, Any], context: Context) -> Answer | None:
    tx, under_way = context.tx, context.under_way
    run = read_runs.run_row(tx, int(arguments["run"]))
    if run.status in ("Skipped", "Cancelled"):
        return Answer(0, f"run {run.id} is {run.status.lower()}")
    if under_way is not None and under_way.run_id == run.id:
        under_way.cancel.set("cancelled", "skipped by a person")
        return None
    if run.status != "Queued":
        return Answer(2, f"run {run.id} is {run.status}: only a run that is queued or under way can be skipped")
    moves.move(
        tx, "run", run.id, Skipped(reason="by a person", because="person"), utc_text(context.clock.utc()), "person"
    )
    return Answer(0, f"run {run.id} is skipped")


def _prioritise(arguments: dict[str, Any], context: Context) -> Answer:
    campaign = campaigns.find(context.tx, arguments["campaign"])
    after = campaigns.find(context.tx, arguments["after"]) if arguments.get("after") else None
    campaigns.place_in_line(context.tx, campaign, arguments.get("priority"), after)
    if campaign.status.kind == "Active":
        return Answer(0, f"{campaign.label} has its turn already and keeps it; its new place counts once it has paused")
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
