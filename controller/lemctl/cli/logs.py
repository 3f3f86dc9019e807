"""`lemctl logs RUN`: why an attempt ended as it did, and what its engine printed meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli.options import Json, new_app
from lemctl.cli.state import open_store
from lemctl.cli.terminal import out, out_json, say
from lemctl.store.read_results import log_places

if TYPE_CHECKING:
    from lemctl.store.database import Store

app = new_app("What an engine printed during a run.")

FOLLOW_EVERY_S = 0.3
STREAMS = ("stdout", "stderr")


@app.command("logs")
def logs(
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run, as `status` shows it.")],
    attempt: Annotated[int | None, typer.Option(help="Which attempt; default the newest.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt ends.")] = False,
    json: Json = False,
) -> None:
    """What an engine printed during a run, and why the attempt ended."""
    with open_store() as store:
        place = log_places(store.connection, run, attempt)
        if json:
            texts = {stream: read_stream(place["facts"], stream) for stream in STREAMS}
            out_json("logs", run=run, attempt={**place, "facts": None}, **texts)
            return
        say(_headline(run, place))
        shown = dict.fromkeys(STREAMS, 0)
        _show_new(place, shown)
        while follow and place["outcome"] is None:
            time.sleep(FOLLOW_EVERY_S)
            place = _again(store, run, place)
            _show_new(place, shown)
    if place["outcome"] is not None:
        out(_ending(place))


def read_stream(facts: dict[str, Any], stream: str) -> str:
    """The attempt's part of one of its session's streams; empty where nothing was recorded."""
    from lemctl.engines.logs import read_log

    folder, log = facts.get("session_dir"), facts.get("log", {}).get(stream)
    if folder is None or log is None:
        return ""
    return read_log(Path(folder) / f"{stream}.log", log[0], log[1]).decode(errors="replace")


def _headline(run: int, place: dict[str, Any]) -> str:
    folder = place["facts"].get("session_dir")
    where = f" from {folder}" if folder else ""
    return f"run {run}, attempt {place['number']}, begun {place['started_utc'][:19]}Z{where}"


def _show_new(place: dict[str, Any], shown: dict[str, int]) -> None:
    """Print what came since the last look."""
    for stream in STREAMS:
        text = read_stream(place["facts"], stream)
        if len(text) > shown[stream]:
            if not shown[stream]:
                out(f"--- {stream}")
            out(text[shown[stream] :].rstrip("\n"))
            shown[stream] = len(text)


def _again(store: Store, run: int, place: dict[str, Any]) -> dict[str, Any]:
    return log_places(store.connection, run, place["number"])


def _ending(place: dict[str, Any]) -> str:
    kind = f" ({place['fault']})" if place["fault"] else ""
    lines = [f"--- ended {place['ended_utc'][:19]}Z: {place['outcome']}{kind}"]
    if place["message"]:
        lines.append(place["message"])
    if place["detail"]:
        lines.append(place["detail"].rstrip())
    return "\n".join(lines)
