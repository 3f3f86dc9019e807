"""What a person asks of the daemon: a row that the daemon answers. It expires, so that none is obeyed hours later."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from lemctl.clock import Clock, utc_text

EXPIRES_S = 30.0

Verb = Literal["pause", "resume", "stop", "cancel", "retry", "skip", "extend", "prioritise", "wake", "shutdown"]


@dataclass(frozen=True)
class AskedCommand:
    """One row that waits for its answer. `is_begun`: it was carried out, and only its end is waited for."""

    id: int
    verb: Verb
    arguments: dict[str, Any]
    is_begun: bool = False


@dataclass(frozen=True)
class Answer:
    """What became of a command: an exit code of the CLI, and a line for the person."""

    exit_code: int
    text: str


def ask(tx: sqlite3.Connection, verb: Verb, arguments: dict[str, Any], clock: Clock) -> int:
    """Write a command; returns its id."""
    now = clock.utc()
    cursor = tx.execute(
        "INSERT INTO commands (verb, arguments, asked_utc, expires_utc) VALUES (?, ?, ?, ?)",
        (verb, json.dumps(arguments), utc_text(now), utc_text(now + timedelta(seconds=EXPIRES_S))),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def take(tx: sqlite3.Connection, clock: Clock) -> list[AskedCommand]:
    """The commands nobody took yet, oldest first, marked as taken; an expired one is answered so instead."""
    now_utc = utc_text(clock.utc())
    taken = []
    for row in tx.execute(
        "SELECT * FROM commands WHERE answered_utc IS NULL AND taken_utc IS NULL ORDER BY id"
    ).fetchall():
        if row["expires_utc"] < now_utc:
            answer(tx, row["id"], Answer(6, "no daemon took this command in time; it was not carried out"), clock)
        else:
            tx.execute("UPDATE commands SET taken_utc = ? WHERE id = ?", (now_utc, row["id"]))
            taken.append(AskedCommand(row["id"], row["verb"], json.loads(row["arguments"])))
    return taken


def answer(tx: sqlite3.Connection, command_id: int, what: Answer, clock: Clock) -> None:
    """Answer a command, once."""
    tx.execute(
        "UPDATE commands SET answered_utc = ?, exit_code = ?, answer = ? WHERE id = ? AND answered_utc IS NULL",
        (utc_text(clock.utc()), what.exit_code, what.text, command_id),
    )


def answer_of(connection: sqlite3.Connection, command_id: int) -> Answer | None:
    """The answer, once there is one."""
    row = connection.execute(
        "SELECT exit_code, answer FROM commands WHERE id = ? AND answered_utc IS NOT NULL", (command_id,)
    ).fetchone()
    return None if row is None else Answer(row[0], row[1])


def withdraw(tx: sqlite3.Connection, command_id: int, clock: Clock) -> bool:
    """Take back a command that no daemon took in its time; False where one has taken or answered it after all."""
    now_utc = utc_text(clock.utc())
    changed = tx.execute(
        "UPDATE commands SET answered_utc = ?, exit_code = 6, answer = 'withdrawn: no daemon took it in time'"
        " WHERE id = ? AND taken_utc IS NULL AND answered_utc IS NULL AND expires_utc <= ?",
        (now_utc, command_id, now_utc),
    )
    return changed.rowcount == 1


def reject_leftovers(tx: sqlite3.Connection, clock: Clock) -> int:
    """A new daemon obeys no command that was asked of the one before it."""
    rows = tx.execute("SELECT id FROM commands WHERE answered_utc IS NULL").fetchall()
    for row in rows:
        answer(tx, row[0], Answer(6, "the daemon ended before it carried this out; ask again"), clock)
    return len(rows)
