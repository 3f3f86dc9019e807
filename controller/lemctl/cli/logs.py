"""`lemctl logs RUN`: why an attempt ended as it did, and what its engine printed meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lemctl.cli.options import Json, new_app
from lemctl.cli.state import home, open_store
from lemctl.cli.terminal import out, out_json, say
from lemctl.errors import NotFound, page
from lemctl.paths import Home
from lemctl.store.database import Store
from lemctl.store.queries import UNFINISHED
from lemctl.store.read_results import log_places
from lemctl.store.read_status import run_lines

app = new_app("What an engine printed during a run.")

FOLLOW_EVERY_S = 0.3
STREAMS = ("stdout", "stderr")
#: An attempt under way does not know yet where its part of the session's output begins: this much is shown at first.
LAST_B = 4096


@dataclass
class Part:
    """A part of one stream of a session; `to_b` None while it grows."""

    log: Path
    from_b: int
    to_b: int | None

    def read(self) -> bytes:
        """Its bytes as far as they were kept."""
        from lemctl.engines.logs import read_log

        return read_log(self.log, self.from_b, self.to_b)


@app.command("logs")
def logs(
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run, as `status` shows it.")],
    attempt: Annotated[int | None, typer.Option(help="Which attempt; default the newest.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt ends.")] = False,
    json: Json = False,
) -> None:
    """What an engine printed during a run, and why the attempt ended."""
    with open_store() as store:
        place = _await_attempt(store, run) if follow and attempt is None else log_places(store.connection, run, attempt)
        parts = parts_of(place, home())
        if json:
            texts = {
                stream: parts[stream].read().decode(errors="replace") if stream in parts else "" for stream in STREAMS
            }
            out_json("logs", run=run, attempt={key: place[key] for key in place if key != "facts"}, **texts)
            return
        say(f"run {run}, attempt {place['number']}, begun {place['started_utc'][:19]}Z")
        _show_new(parts)
        while follow and place["outcome"] is None:
            time.sleep(FOLLOW_EVERY_S)
            place = log_places(store.connection, run, place["number"])
            if not parts:
                parts = parts_of(place, home())
            _show_new(parts)
    if place["outcome"] is not None:
        out(_ending(place))


def _await_attempt(store: Store, run: int) -> dict[str, Any]:
    """As `log_places`, waiting for the first attempt of a run that is still in its queue. Raises `NotFound`."""
    is_told = False
    while True:
        try:
            return log_places(store.connection, run, None)
        except NotFound:
            found = run_lines(store.connection, (), run=run)
            if not found or found[0].status not in UNFINISHED:
                raise
        if not is_told:
            say(f"run {run} is {found[0].status.lower()}: waiting for its first attempt")
            is_told = True
        time.sleep(FOLLOW_EVERY_S)


def parts_of(place: dict[str, Any], at: Home) -> dict[str, Part]:
    """Stream -> the attempt's part of it; none before it has a session."""
    facts = place["facts"]
    if facts.get("session_dir") and facts.get("log"):
        folder = Path(facts["session_dir"])
        return {stream: Part(folder / f"{stream}.log", *facts["log"][stream]) for stream in facts["log"]}
    if place["session"] is None:
        return {}
    logs = [at.sessions / place["session"] / f"{stream}.log" for stream in STREAMS]
    return {log.stem: Part(log, max(0, log.stat().st_size - LAST_B), None) for log in logs if log.exists()}


def _show_new(parts: dict[str, Part]) -> None:
    """Print what is there, and remember it as seen."""
    for stream, part in parts.items():
        new = part.read()
        if new:
            out(f"--- {stream}")
            out(new.decode(errors="replace").rstrip("\n"))
            # In bytes of the file: what is no text is longer once it is shown.
            part.from_b += len(new)


def _ending(place: dict[str, Any]) -> str:
    kind = f" ({place['fault']})" if place["fault"] else ""
    lines = [f"--- ended {place['ended_utc'][:19]}Z: {place['outcome']}{kind}"]
    if place["message"]:
        lines.append(place["message"])
    if place["detail"]:
        lines.append(place["detail"].rstrip())
    if place["fault"]:
        lines.append(f"more: {page(place['fault'])}")
    return "\n".join(lines)
