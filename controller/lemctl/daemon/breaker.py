"""What a run's end does to its campaign: a row of equal failures pauses it, and `on_failure` may end it. (A lost GPU
has paused it by then: `gpu_loss`.)

After the breaker one run goes first, as a probe: at the stated time or when a person resumes. Its success closes the
breaker, any failure of its first attempt pauses the campaign again.
"""

from __future__ import annotations

from collections.abc import Sequence

from lemctl.clock import Clock, Deadline, utc_text
from lemctl.errors import FaultKind
from lemctl.store import campaigns, moves, outbox, read_runs
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Transaction
from lemctl.store.status import CampaignCancelled, CampaignPaused


def breaker_trips(faults: Sequence[FaultKind | None], consecutive: int) -> FaultKind | None:
    """The fault that the newest `consecutive` ended runs share; None when any of them was done or failed otherwise.

    `faults` is newest first, None for a run that is done.
    """
    newest = faults[:consecutive]
    if len(newest) < consecutive or newest[0] is None or any(f != newest[0] for f in newest):
        return None
    return newest[0]


def judge_campaign(tx: Transaction, campaign: Campaign, clock: Clock) -> None:
    """Move the campaign on when the attempt that has just ended asks for it."""
    if campaign.status.kind != "Active" or not read_runs.has_queued(tx, campaign):
        return
    to = _verdict(tx, campaign, clock)
    if to is None:
        return
    event: outbox.Event = "breaker"
    title, next_step = None, f"; `lemctl campaign resume {campaign.label}`"
    if isinstance(to, CampaignCancelled):
        event, title, next_step = "finished", "was ended after a failure", ""
        campaigns.cancel_queued(tx, campaign, to.reason, clock, "daemon")
        campaigns.close(tx, campaign, to, clock, "daemon")
    else:
        moves.move(tx, "campaign", campaign.id, to, utc_text(clock.utc()), "daemon")
    body = f"{to.reason}; {campaigns.describe(tx, campaign, clock)}{next_step}"
    outbox.tell(tx, campaign, event, body, clock, title=title)


def _verdict(tx: Transaction, campaign: Campaign, clock: Clock) -> CampaignPaused | CampaignCancelled | None:
    consecutive: int = campaign.document["breaker"]["consecutive"]
    newest = read_runs.newest_faults(tx, campaign, consecutive)
    probed = read_runs.probe_for(tx, campaign)
    if probed is not None and read_runs.probe_outcome(tx, campaign) == "failed":
        return _opened(campaign, f"breaker: the probe after {probed} failed, too", probed, clock)
    if newest and newest[0] is not None and campaign.document["on_failure"] != "continue":
        reason = f"a run failed with {newest[0]} (on_failure: {campaign.document['on_failure']})"
        pauses = campaign.document["on_failure"] == "pause"
        return CampaignPaused(reason=reason) if pauses else CampaignCancelled(reason=reason)
    fault = breaker_trips(newest, consecutive)
    if fault is not None:
        return _opened(campaign, f"breaker: {consecutive} runs in a row failed with {fault}", fault, clock)
    return None


def _opened(campaign: Campaign, reason: str, fault: FaultKind, clock: Clock) -> CampaignPaused:
    probe_s: float = campaign.document["breaker"]["probe_s"]
    if not probe_s:
        return CampaignPaused(reason=reason, fault=fault)
    until = Deadline.after(probe_s, clock)
    return CampaignPaused(
        reason=reason, fault=fault, until_utc=until.at_utc, until_boottime_ns=until.boottime_ns, until_boot=until.boot
    )
