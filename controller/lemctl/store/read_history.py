"""Reading how long past runs took, for the estimate of a plan and for what is left of a campaign."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lemctl.campaign.expected import Durations, Expected
from lemctl.campaign.expected import PastRun as PastDuration

#: The newest results that are looked at: enough for a median of whatever is planned again.
NEWEST = 1000
#: Seconds taken for a run that was queued before guesses were stored, and of whose like nothing has ended.
UNKNOWN_S = 600.0


@dataclass(frozen=True, slots=True)
class PastRun:
    """Seconds by phase of one result, as the daemon recorded them; `loading_s` only where the engine was loaded.
    `took_s` is the whole attempt, `guess_s` what its plan had guessed, without loading."""

    experiment: str
    backend: str
    model: str
    phases_s: dict[str, float | None]
    took_s: float
    guess_s: float | None


_SELECT = (
    "SELECT r.experiment, r.guess_s, e.backend, e.model, json_extract(a.facts, '$.phases') AS phases,"
    " json_extract(a.facts, '$.engine_reused') AS reused, (a.ended_mono_ns - a.started_mono_ns) / 1e9 AS took_s"
    " FROM {source} JOIN experiments e ON e.hash = r.experiment JOIN campaigns c ON c.id = r.campaign_id"
    " WHERE a.outcome = 'ok' AND (c.executor = 'simulate') = ? AND (? IS NULL OR r.experiment = ?)"
    " ORDER BY a.id DESC LIMIT ?"
)
_NEWEST = _SELECT.format(source="attempts a JOIN runs r ON r.id = a.run_id")
_OF_ONE = _SELECT.format(source="runs r INDEXED BY runs_experiment JOIN attempts a ON a.run_id = r.id")


def past_runs(
    connection: sqlite3.Connection, simulated: bool = False, experiment: str | None = None, newest: int = NEWEST
) -> list[PastRun]:
    """The newest results with their phases, newest first: of one experiment, or of all. Simulated ones and measured
    ones are never mixed."""
    sql = _NEWEST if experiment is None else _OF_ONE
    found = []
    for row in connection.execute(sql, (simulated, experiment, experiment, newest)):
        if row["phases"] is not None:
            phases = json.loads(row["phases"])
            if row["reused"]:
                phases["loading_s"] = None
            key = row["experiment"], row["backend"], row["model"]
            found.append(PastRun(*key, phases, row["took_s"], row["guess_s"]))
    return found


def durations(past: Iterable[PastRun]) -> Durations:
    """What these results tell of the next."""
    return Durations(
        PastDuration(
            run.experiment,
            run.backend,
            run.model,
            run.took_s - (run.phases_s.get("loading_s") or 0.0),
            run.phases_s.get("loading_s"),
            run.guess_s,
        )
        for run in past
    )


def runs_left(connection: sqlite3.Connection, campaign_id: int, known: Durations) -> Sequence[tuple[str, Expected]]:
    """(experiment, what it is expected to take, loading included) of every run that has not ended, in order."""
    rows = connection.execute(
        "SELECT r.experiment, e.backend, e.model, r.guess_s, r.is_load"
        " FROM runs r JOIN experiments e ON e.hash = r.experiment"
        " WHERE r.campaign_id = ? AND r.status IN ('Queued', 'Starting', 'Cooling', 'Running') ORDER BY r.position",
        (campaign_id,),
    )
    seen: dict[tuple[object, ...], tuple[str, Expected]] = {}
    found = []
    for row in map(tuple, rows):
        if row not in seen:
            experiment, backend, model, guess_s, is_load = row
            guess_s = UNKNOWN_S if guess_s is None else guess_s
            seen[row] = experiment, known.whole(experiment, backend, model, guess_s, bool(is_load))
        found.append(seen[row])
    return found
