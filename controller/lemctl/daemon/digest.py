"""The daily digest: one message a day for each campaign that asks for it, at a fixed hour of the host's local time."""

from __future__ import annotations

from datetime import datetime, timedelta

from lemctl.clock import Clock
from lemctl.store import campaigns, outbox
from lemctl.store.database import Store

DIGEST_HOUR = 8
LOOK_S = 60.0


class Digest:
    """Looks once a minute. That a day's digest is written once is the outbox's business: it has a key."""

    def __init__(self, store: Store, clock: Clock):
        self._store = store
        self._clock = clock
        self._looked_ns: int | None = None

    def close(self) -> None:
        """Nothing is under way."""

    def tick(self) -> None:
        """Write what is due."""
        now_ns = self._clock.monotonic_ns()
        if self._looked_ns is not None and now_ns - self._looked_ns < LOOK_S * 1e9:
            return
        self._looked_ns = now_ns
        today = due_since(self._clock.utc().astimezone())
        if today is None:
            return
        alive = campaigns.alive_since(self._store.connection, today - timedelta(days=1))
        wanting = [c for c in alive if _wants(c.document) and datetime.fromisoformat(c.created_utc) < today]
        if not wanting:
            return
        with self._store.transaction() as tx:
            for campaign in wanting:
                key = f"digest:{campaign.id}:{today.date().isoformat()}"
                body = f"{campaign.status.kind}: {campaigns.describe(tx, campaign, self._clock)}"
                outbox.tell(tx, campaign, "digest", body, self._clock, key)


def due_since(local: datetime, hour: int = DIGEST_HOUR) -> datetime | None:
    """The moment of today's digest if it has passed. Pure; `local` is aware."""
    moment = local.replace(hour=hour, minute=0, second=0, microsecond=0)
    return moment if local >= moment else None


def _wants(document: dict[str, object]) -> bool:
    notify = document.get("notify")
    return isinstance(notify, dict) and "digest" in notify["on"]
