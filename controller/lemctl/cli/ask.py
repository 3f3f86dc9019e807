"""Asking the daemon: a row that it answers. The command returns when it has happened."""

from __future__ import annotations

import time
from typing import Any

from lemctl.cli.state import daemon_pid
from lemctl.clock import SystemClock
from lemctl.errors import NoDaemon
from lemctl.paths import Home
from lemctl.store.commands import EXPIRES_S, Answer, Verb, answer_of, ask, withdraw
from lemctl.store.database import Store

POLL_S = 0.05
#: How often the daemon's lock is looked at while waiting: more often than a person minds, less than it costs.
ALIVE_EVERY_S = 1.0

HOW_TO_START = "start it with `lemctl daemon start`"


def ask_daemon(home: Home, verb: Verb, arguments: dict[str, Any]) -> Answer:
    """Ask, and wait for the answer. Raises `NoDaemon` when none runs, when it ends before it answers, or when it hangs
    and the command expires."""
    if daemon_pid(home) is None:
        raise NoDaemon(f"no daemon runs on {home.root}; {HOW_TO_START}")
    with Store.open(home, "write") as store:
        with store.transaction() as tx:
            command = ask(tx, verb, arguments, SystemClock())
        looked_at_s = time.monotonic()
        while (answer := answer_of(store.connection, command)) is None:
            if time.monotonic() - looked_at_s > ALIVE_EVERY_S:
                looked_at_s = time.monotonic()
                if daemon_pid(home) is None and answer_of(store.connection, command) is None:
                    raise NoDaemon(f"the daemon ended before it carried out `{verb}`; {HOW_TO_START}, then ask again")
                with store.transaction() as tx:
                    is_withdrawn = withdraw(tx, command, SystemClock())
                if is_withdrawn:
                    raise NoDaemon(
                        f"the daemon did not take `{verb}` within {EXPIRES_S:.0f} s, and it was not carried out;"
                        " `lemctl doctor` says whether the daemon hangs and what to do"
                    )
            time.sleep(POLL_S)
    return answer
