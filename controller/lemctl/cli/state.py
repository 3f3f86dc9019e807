"""The state folder as commands open it: reading without pydantic, so that `status` answers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lemctl.paths import Home, default_home

if TYPE_CHECKING:
    from lemctl.store.database import Store


def home() -> Home:
    """`$LEM_HOME`, else the platform's folder."""
    return Home(default_home().expanduser().absolute())


def open_store() -> Store:
    """The database, read-only: works with the daemon dead or hung. Raises `NotFound`, `StoreUnusable`."""
    from lemctl.store.database import Store

    return Store.open(home(), "read")


def daemon_pid(at: Home) -> int | None:
    """Process id of the running daemon (0 where it has not written it yet), None when none runs.

    Looks at the lock alone: what the daemon is made of need not be imported for that.
    """
    from lemctl.daemon.locks import holder_text

    text = holder_text(at.daemon_lock)
    if text is None:
        return None
    return int(text) if text.isdigit() else 0
