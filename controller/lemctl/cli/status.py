"""`lemctl status` with its options; what it shows is in `status_view`."""

from __future__ import annotations

from typing import Annotated

import typer

from lemctl.cli.options import Json, new_app
from lemctl.cli.status_view import show_status

app = new_app("What runs now, what comes next, what failed.")


@app.command("status")
def status(
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Live, with keys to steer; `q` leaves.")] = False,
) -> None:
    """What runs now, what comes next, what failed."""
    show_status(json=json, watch=watch)
