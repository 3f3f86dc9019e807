"""Adaptive cycles: when a block ends, experiments that are precise enough need no more of them.

A campaign with `until` queues the most cycles there may be; those not needed are skipped with their reason, so that a
report can say how many runs that saved.
"""

from __future__ import annotations

from typing import Any

from lemctl.clock import Clock
from lemctl.judge.stopping import Stop, Until, decide_cycles
from lemctl.store import campaigns, read_runs
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Transaction

#: Begins the reason of every run that was skipped so.
PRECISE = "precise enough"


def until_of(cycles: Any) -> tuple[str, Until] | None:
    """(metric, rule) of a campaign's `cycles`, None when they are a number."""
    if not isinstance(cycles, dict):
        return None
    until = cycles["until"]
    return until["metric"], Until(until["half_width"], cycles["min"], cycles["max"])


def skip_what_is_precise(tx: Transaction, campaign: Campaign, cycle: int, clock: Clock) -> int:
    """After a run of `cycle` has ended: how many runs were skipped. Nothing is looked at before the block's end."""
    rule = until_of(campaign.document["cycles"])
    if rule is None or (done := read_runs.blocks_done(tx, campaign)) < cycle:
        return 0
    metric, until = rule
    skipped = 0
    for experiment, values in read_runs.figures_so_far(tx, campaign, metric).items():
        decision = decide_cycles(values, done, until)
        if isinstance(decision, Stop) and decision.reached:
            reason = f"{PRECISE} after {done} cycles: {decision.reason}"
            skipped += campaigns.skip_cycles(tx, campaign, experiment, reason, clock, "daemon")
    return skipped
