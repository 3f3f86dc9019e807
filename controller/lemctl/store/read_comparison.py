"""Reading results to compare: of a campaign, of an experiment, or of a commit of this program."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lemctl.errors import NotFound, UsageMistake
from lemctl.store.queries import find_campaign

Kind = Literal["campaign", "experiment", "commit"]
KINDS: tuple[Kind, ...] = ("campaign", "experiment", "commit")
_HEX = re.compile(r"[0-9a-f]{4,40}")
_COMMIT = (
    "(SELECT json_extract(p.document, '$.commit') FROM environments p"
    " WHERE p.hash = json_extract(a.environment, '$.project'))"
)
_OF = {
    "campaign": "r.campaign_id = ?",
    "experiment": "r.experiment = ?",
    "commit": f"{_COMMIT} = ?",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """What one side of a comparison means: `label` for a reader, `value` as the database has it."""

    kind: Kind
    label: str
    value: str | int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One result with all that decides whether it may be compared. `figures`: metric -> (value or None, unit)."""

    run: int
    campaign_id: int
    experiment: str
    backend: str
    model: str
    axes: dict[str, Any]
    cycle: int
    verdict: str
    is_simulated: bool
    started_utc: str
    host: str
    gpus: tuple[str, ...]
    work: dict[str, Any] | None
    outputs: str | None
    figures: dict[str, tuple[float | None, str]]

    @property
    def place(self) -> tuple[str, tuple[str, ...]]:
        """Where it was measured: results of one place may be paired."""
        return self.host, self.gpus


def select(connection: sqlite3.Connection, text: str) -> Selection:
    """What a person means by `text`: a campaign's NAME or NAME#NUMBER, the beginning of an experiment's hash or of a
    commit, or one of these after `campaign:`, `experiment:`, `commit:`. Raises `NotFound` or `UsageMistake`."""
    kind, colon, rest = text.partition(":")
    kinds = [known for known in KINDS if known == kind] if colon else list(KINDS)
    name = rest if colon else text
    if not kinds:
        raise UsageMistake(f"{kind}: is none of campaign:, experiment:, commit:")
    found = [selection for known in kinds for selection in _FINDERS[known](connection, name)]
    if not found:
        raise NotFound(f"{text!r} is no campaign, experiment or commit with results; `lemctl campaign list` shows some")
    if len(found) > 1:
        may_be = ", ".join(f"{selection.kind}:{selection.label}" for selection in found[:5])
        raise UsageMistake(f"{text!r} may mean {may_be}; write one of these")
    return found[0]


def measurements(
    connection: sqlite3.Connection, selection: Selection, metrics: Sequence[str], include_suspect: bool
) -> list[Measurement]:
    """The results that count, oldest first, with the metrics named."""
    condition = f"{_OF[selection.kind]} AND a.verdict IN ('VALID'{', ' + repr('SUSPECT') if include_suspect else ''})"
    figures: dict[int, dict[str, tuple[float | None, str]]] = {}
    marks = ", ".join("?" * len(metrics))
    for run, name, value, unit in connection.execute(
        "SELECT r.id, m.name, m.value, m.unit FROM runs r JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok'"  # noqa: S608 - constants; values are bound
        f" JOIN metrics m ON m.attempt_id = a.id WHERE {condition} AND m.name IN ({marks})",
        (selection.value, *metrics),
    ):
        figures.setdefault(run, {})[name] = (value, unit)
    rows = connection.execute(
        "SELECT r.id, r.campaign_id, r.experiment, e.backend, e.model, r.axes, r.cycle, a.verdict, c.executor,"  # noqa: S608 - constants; values are bound
        " a.started_utc, a.host, json_extract(s.engine, '$.gpus') AS gpus, w.document, w.outputs"
        " FROM runs r JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok'"
        " JOIN experiments e ON e.hash = r.experiment JOIN campaigns c ON c.id = r.campaign_id"
        " LEFT JOIN sessions s ON s.id = a.session_id LEFT JOIN works w ON w.attempt_id = a.id"
        f" WHERE {condition} ORDER BY a.started_utc, a.id",
        (selection.value,),
    )
    return [
        Measurement(
            run=row["id"],
            campaign_id=row["campaign_id"],
            experiment=row["experiment"],
            backend=row["backend"],
            model=row["model"],
            axes=json.loads(row["axes"]),
            cycle=row["cycle"],
            verdict=row["verdict"],
            is_simulated=row["executor"] == "simulate",
            started_utc=row["started_utc"],
            host=row["host"],
            gpus=tuple(json.loads(row["gpus"])) if row["gpus"] else (),
            work=None if row["document"] is None else json.loads(row["document"]),
            outputs=row["outputs"],
            figures=figures.get(row["id"], {}),
        )
        for row in rows
    ]


def _campaigns(connection: sqlite3.Connection, name: str) -> list[Selection]:
    try:
        campaign = find_campaign(connection, name)
    except NotFound:
        return []
    return [Selection("campaign", campaign.label, campaign.id)]


def _experiments(connection: sqlite3.Connection, name: str) -> list[Selection]:
    if not _HEX.fullmatch(name):
        return []
    rows = connection.execute("SELECT hash FROM experiments WHERE hash GLOB ? || '*' ORDER BY hash LIMIT 6", (name,))
    return [Selection("experiment", row[0], row[0]) for row in rows]


def _commits(connection: sqlite3.Connection, name: str) -> list[Selection]:
    if not _HEX.fullmatch(name):
        return []
    rows = connection.execute(
        "SELECT DISTINCT json_extract(document, '$.commit') AS id FROM environments"
        " WHERE kind = 'project' AND id GLOB ? || '*' ORDER BY id LIMIT 6",
        (name,),
    )
    return [Selection("commit", row[0][:12], row[0]) for row in rows]


_FINDERS = {"campaign": _campaigns, "experiment": _experiments, "commit": _commits}
