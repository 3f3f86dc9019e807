"""`lemctl notify test`: does a notification arrive? Sent at once, by the process that the daemon uses."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from lemctl.cli.options import Json, new_app
from lemctl.cli.state import daemon_pid, home
from lemctl.cli.terminal import out, out_json, warn
from lemctl.errors import LemctlError, PreflightRefused

app = new_app("Try whether notifications arrive.")

POLL_S = 0.05


@app.callback()
def _noun() -> None:
    """One verb alone would become the noun itself."""


@app.command("test")
def try_addresses(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Where the addresses stand: what `notify.urls_from` says.")
    ] = "LEM_NOTIFY",
    json: Json = False,
) -> None:
    """Send a test message to every address. Exit code 4 when one does not take it."""
    from lemctl.daemon.addresses import addresses_named, daemon_lacks
    from lemctl.daemon.notify import SEND_TIMEOUT_S, SenderProcess
    from lemctl.daemon.sender import Message

    at = home()
    count = len(addresses_named(name, at))
    message = Message(name, "test", "This is a test of lemctl's notifications.")
    sending = SenderProcess(message, at)
    until = time.monotonic() + SEND_TIMEOUT_S
    while (sent := sending.poll()) is None:
        if time.monotonic() > until:
            sending.kill()
            raise LemctlError(f"{name}: nothing heard for {SEND_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)
    if json:
        out_json("notify test", urls_from=name, addresses=count, delivered=len(sent.delivered), error=sent.error)
    if sent.error is not None:
        raise PreflightRefused(f"{name}: {sent.error}")
    if not json:
        out(f"{name}: delivered to {count} of {count} addresses")
    pid = daemon_pid(at)
    if pid and daemon_lacks(name, at, pid):
        warn(f"the daemon {pid} does not know {name}: put it into {at.notify / name}, or start the daemon anew")
