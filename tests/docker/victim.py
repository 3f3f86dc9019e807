"""What tests of faults in containers share: a run under way in one, and the audit that nothing is left of it."""

from __future__ import annotations

import json
from typing import Any

from lemctl.engines.containers import Containers
from night import Night, campaign_text


def slow(name: str, more: str = "retry: {max: 1}") -> str:
    """One run of some 2 s."""
    return campaign_text(name, more=more).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 100")


def audit(night: Night, engine: Containers) -> None:
    assert engine.leftovers(night.home.hash) == []
    night.audit()


class Victim:
    """A run under way in a container."""

    def __init__(self, night: Night, name: str):
        self.night = night
        night.add(slow(name), executor="docker")
        self.name = name
        night.wait_for(lambda: "Running" in night.statuses(name), f"run of {name}")
        row = night.rows("SELECT container_id, hello FROM sessions WHERE ended_utc IS NULL AND hello IS NOT NULL")[0]
        self.container: str = row[0]
        self.pid: int = json.loads(row[1])["pid"]

    def attempts(self) -> list[tuple[Any, ...]]:
        """At its end: outcome, fault, message of each."""
        self.night.wait_campaign(name=self.name)
        sql = (
            "SELECT outcome, fault, message FROM attempts a JOIN runs r ON r.id = a.run_id"
            " JOIN campaigns c ON c.id = r.campaign_id WHERE c.name = ? ORDER BY a.id"
        )
        return self.night.rows(sql, self.name)
