"""Adaptive cycles: when a block ends, experiments that are precise enough need no more of them.

A campaign with `until` queues the most cycles there may be; those not needed are skipped with their reason, so that a
report can say how many runs that saved.
"""

from __future__ import annotations

from lemctl.clock import Clock
from lemctl.judge.stopping import Stop, decide_cycles, read_until
from lemctl.store import campaigns, read_runs
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Transaction
from lemctl.store.status import Skipped


def skip_what_is_precise(tx: Transaction, campaign: Campaign, cycle: int, clock: Clock) -> int:
    """After a run of `cycle` has ended: how many runs were skipped. Nothing is looked at before the block's end."""
    rule = read_until(campaign.document["cycles"])
    if rule is None or (done := read_runs.blocks_done(tx, campaign)) < cycle:
        return 0
    metric, until = rule
    skipped = 0
    for experiment, values in read_runs.figures_so_far(tx, campaign, metric).items():
        decision = decide_cycles(values, done, until)
        if isinstance(decision, Stop) and decision.reached:
            to = Skipped(reason=f"after {done} cycles, {decision.reason}", because="precise")
            skipped += campaigns.skip_cycles(tx, campaign, experiment, to, clock)
    return skipped
