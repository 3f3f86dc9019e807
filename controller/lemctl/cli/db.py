"""`lemctl db check|backup|open`: care for the one database file."""

from __future__ import annotations

import os
import shutil

from lemctl.cli.long_work import long_work
from lemctl.cli.options import Json, new_app
from lemctl.cli.state import home
from lemctl.cli.terminal import is_terminal, out, out_json, say
from lemctl.errors import NotFound

app = new_app("Check, back up and open the database.")


@app.command("check")
def check(json: Json = False) -> int:
    """Look for corruption and broken references."""
    from lemctl.store.database import check as check_database

    at = home()
    with long_work("checking the database"):
        problems = check_database(at)
    if json:
        out_json("db check", database=str(at.database), problems=problems)
    else:
        for problem in problems:
            out(problem)
        out(f"{at.database}: {f'{len(problems)} problems' if problems else 'sound'}")
    return 4 if problems else 0


@app.command("backup")
def backup() -> None:
    """Copy the database into the backups folder.

    A running daemon is not disturbed.
    """
    from lemctl.store.database import backup as back_up

    with long_work("copying the database"):
        path = back_up(home())
    out(str(path))


@app.command("open")
def open_() -> int:
    """Open the database read-only: in Datasette if it is installed, else in sqlite3."""
    database = home().database
    if not database.exists():
        raise NotFound(f"{database} does not exist; begin with `lemctl campaign start FILE`")
    out(str(database))
    if not is_terminal():
        return 0
    for command in browsers(str(database)):
        if found := shutil.which(command[0]):
            os.execv(found, command)  # noqa: S606 - the browser takes this process' place
    say("neither datasette (`pipx install datasette`) nor sqlite3 is installed; any SQLite browser opens that file")
    return 0


def browsers(database: str) -> list[list[str]]:
    """Command lines that open it, the best first. Datasette opens a file read-only by itself; its `--immutable` would
    not see what a running daemon has in the write-ahead log."""
    return [
        ["datasette", "serve", database, "--open", "--setting", "sql_time_limit_ms", "10000"],
        ["sqlite3", "-readonly", database],
    ]
