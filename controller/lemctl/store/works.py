"""Rows of `works` and `outputs`: what each attempt did, kept so that comparisons outlive the session folders."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lem_runner.protocol import canonical_json

#: (prompt's hash, hash of all its output ids, the first of these ids).
OutputRow = tuple[str, str, Sequence[int]]


@dataclass(frozen=True)
class WorkRow:
    """What an attempt did as the judge describes it, and what came back where that is worth comparing."""

    document: Mapping[str, Any]
    outputs: Sequence[OutputRow] = ()


def add_work(tx: sqlite3.Connection, attempt_id: int, work: WorkRow) -> None:
    """Store it. Outputs are stored once by content: repeats of greedy decoding give the same ones."""
    digest = None
    if work.outputs:
        text = canonical_json([list(row) for row in work.outputs]).encode()
        digest = hashlib.sha256(text).hexdigest()[:32]
        tx.execute("INSERT INTO outputs VALUES (?, ?) ON CONFLICT (hash) DO NOTHING", (digest, zlib.compress(text)))
    tx.execute("INSERT INTO works VALUES (?, ?, ?)", (attempt_id, json.dumps(work.document), digest))


@dataclass(frozen=True, slots=True)
class StoredWork:
    """As it was stored; `outputs` is what `read_outputs` takes, None where none were kept."""

    document: dict[str, Any]
    outputs: str | None


def works_of_campaign(connection: sqlite3.Connection, campaign_id: int) -> dict[int, StoredWork]:
    """run -> the work of the attempt that gave its result."""
    rows = connection.execute(
        "SELECT r.id, w.document, w.outputs FROM runs r JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok'"
        " JOIN works w ON w.attempt_id = a.id WHERE r.campaign_id = ?",
        (campaign_id,),
    )
    return {run: StoredWork(json.loads(document), outputs) for run, document, outputs in rows}


def read_outputs(connection: sqlite3.Connection, digest: str) -> list[OutputRow]:
    """The outputs stored under a hash."""
    row = connection.execute("SELECT content FROM outputs WHERE hash = ?", (digest,)).fetchone()
    return [(prompt, sha256, ids) for prompt, sha256, ids in json.loads(zlib.decompress(row[0]))]
