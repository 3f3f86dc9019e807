"""The process that sends one message and ends: `python -m lemctl.daemon.sender`, a `Message` as JSON on its input, a
`Sent` as JSON on its output.

A process of its own, because the library is large, and because addresses may hang: its parent kills it. It reads the
addresses itself, so that they stand in no command line and cross no pipe.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Any

from lemctl.daemon.addresses import addresses_named
from lemctl.errors import PersonsMistake
from lemctl.paths import Home, default_home
from lemctl.redact import address_parts, redact, secret_values

#: It gives way to whatever is measured meanwhile.
NICENESS = 19


@dataclass(frozen=True)
class Message:
    """What to send; `skip` are the places of addresses that have it already."""

    urls_from: str
    title: str
    body: str
    skip: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sent:
    """The places of the addresses that have it now, and what kept the others from it, without any secret."""

    delivered: tuple[int, ...]
    error: str | None


def send(message: Message, home: Home) -> Sent:
    """Try each address that lacks the message, one after another."""
    try:
        addresses = addresses_named(message.urls_from, home)
    except PersonsMistake as mistake:
        return Sent(message.skip, str(mistake))
    secrets = [*secret_values(), *address_parts(" ".join(addresses))]
    delivered, errors = list(message.skip), []
    for place, address in enumerate(addresses):
        if place not in message.skip:
            error = _deliver(address, message)
            if error is None:
                delivered.append(place)
            else:
                errors.append(f"address {place + 1} of {len(addresses)}: {redact(error, secrets)}")
    return Sent(tuple(delivered), "; ".join(errors) or None)


def _deliver(address: str, message: Message) -> str | None:
    """None when it was taken, else why not."""
    import apprise

    asset = apprise.AppriseAsset(app_id="lemctl", app_desc="lemctl", app_url="", secure_logging=True)
    try:
        with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as log:
            carrier = apprise.Apprise(asset=asset)
            if not carrier.add(address):
                return "not an address that is understood"
            title = f"[{socket.gethostname()}] {message.title}"
            if carrier.notify(body=message.body, title=title):
                return None
            lines = [line.strip() for line in log.getvalue().splitlines() if line.strip()]
    except Exception as error:  # noqa: BLE001 - a plugin's bug is an address that does not work
        return f"{type(error).__name__}: {error}"
    return lines[-1] if lines else "refused"


def main() -> int:
    """One message, then the end."""
    os.nice(NICENESS)
    order: dict[str, Any] = json.load(sys.stdin)
    message = Message(order["urls_from"], order["title"], order["body"], tuple(order["skip"]))
    print(json.dumps(asdict(send(message, Home(default_home())))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
