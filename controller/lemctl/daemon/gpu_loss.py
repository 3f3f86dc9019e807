"""A GPU that is lost is kept out, its campaign pauses and its people are told: all in the transaction that records the
loss, so that no death of the daemon comes between. Only a person lets it in again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lemctl.clock import Clock, utc_text
from lemctl.errors import PreflightRefused
from lemctl.store import campaigns, moves, outbox, read_runs, samples
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Store, Transaction
from lemctl.store.status import CampaignPaused

_log = logging.getLogger(__name__)

GPU_LOST = CampaignPaused(reason="a GPU was lost: look after it, then resume")


def lose_gpus(tx: Transaction, campaign: Campaign, gpus: Sequence[str], why: str, clock: Clock) -> None:
    """Keep the GPUs of a lane out, pause the campaign that has runs left for them, and tell its people of it."""
    names = ", ".join(gpus) or "the device"
    _log.error("GPU lost, kept out: %s: %s", names, why)
    samples.quarantine(tx, gpus, why, clock)
    campaign = campaigns.by_id(tx, campaign.id)
    if campaign.status.kind == "Active" and read_runs.has_queued(tx, campaign):
        moves.move(tx, "campaign", campaign.id, GPU_LOST, utc_text(clock.utc()), "daemon")
    lets_in = f"look after it, then `lemctl campaign resume {campaign.label}` lets it in again"
    body = f"{names} is kept out ({why}): {lets_in}; {campaigns.describe(tx, campaign, clock)}"
    outbox.tell(tx, campaign, "gpu_lost", body, clock)


def refuse_kept_out(store: Store, campaign: Campaign, gpus: Sequence[str]) -> None:
    """Raise `PreflightRefused` while one of the GPUs is kept out."""
    for gpu, reason in samples.quarantined(store.connection).items():
        if gpu in gpus:
            lets_in = f"`lemctl campaign resume {campaign.label}` lets it in"
            raise PreflightRefused(f"GPU {gpu} is kept out since it failed ({reason}); {lets_in}")
