"""The state folder as commands open it: reading without pydantic, so that `status` answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lemctl.paths import Home, default_home

if TYPE_CHECKING:
    from lemctl.store.database import Store


def home() -> Home:
    """`$LEM_HOME`, else the platform's folder. Raises `UsageMistake` where a file is in its place."""
    at = default_home().expanduser().absolute()
    if at.is_file():
        from lemctl.errors import UsageMistake

        raise UsageMistake(f"the state folder {at} is a file; give a folder with --home or LEM_HOME")
    return Home(at)


def open_store() -> Store:
    """The database, read-only: works with the daemon dead or hung. Raises `NotFound`, `StoreUnusable`."""
    from lemctl.store.database import Store

    return Store.open(home(), "read")


@contextmanager
def store_if_any() -> Iterator[Store | None]:
    """As `open_store` for lists, which are empty where nothing has been started: None before the first campaign."""
    if not home().database.exists():
        yield None
        return
    with open_store() as store:
        yield store


def daemon_pid(at: Home) -> int | None:
    """Process id of the running daemon (0 where it has not written it yet), None when none runs.

    Looks at the lock alone: what the daemon is made of need not be imported for that.
    """
    from lemctl.daemon.locks import holder_text

    text = holder_text(at.daemon_lock)
    if text is None:
        return None
    return int(text) if text.isdigit() else 0
