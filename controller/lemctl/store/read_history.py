"""Reading how long past runs took, for the estimate of a plan."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

#: The newest results that are looked at: enough for a median of whatever is planned again.
NEWEST = 1000


@dataclass(frozen=True, slots=True)
class PastRun:
    """Seconds by phase of one result, as the daemon recorded them; `loading_s` only where the engine was loaded."""

    experiment: str
    backend: str
    model: str
    phases_s: dict[str, float | None]


def past_runs(connection: sqlite3.Connection) -> list[PastRun]:
    """The newest results with their phases, newest first; simulated ones are not among them."""
    rows = connection.execute(
        "SELECT r.experiment, e.backend, e.model, json_extract(a.facts, '$.phases') AS phases,"
        " json_extract(a.facts, '$.engine_reused') AS reused"
        " FROM attempts a JOIN runs r ON r.id = a.run_id JOIN experiments e ON e.hash = r.experiment"
        " JOIN campaigns c ON c.id = r.campaign_id"
        " WHERE a.outcome = 'ok' AND c.executor != 'simulate' ORDER BY a.id DESC LIMIT ?",
        (NEWEST,),
    )
    found = []
    for row in rows:
        if row["phases"] is not None:
            phases = json.loads(row["phases"])
            if row["reused"]:
                phases["loading_s"] = None
            found.append(PastRun(row["experiment"], row["backend"], row["model"], phases))
    return found
