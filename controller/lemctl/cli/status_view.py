"""What `lemctl status` shows: one screen from the database, with the daemon alive, dead or hung.

Without the command-line library: this is the command typed most often, and it must answer at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lemctl.cli.describe import seconds_since
from lemctl.cli.state import daemon_pid, home
from lemctl.cli.status_left import left_now, scheduled
from lemctl.cli.terminal import is_terminal, out, out_json
from lemctl.report.columns import RUN_METRICS
from lemctl.report.status import DaemonState, LaneState, Status, status_text
from lemctl.store.database import Store
from lemctl.store.queries import last_ended, line_of_campaigns
from lemctl.store.read_status import faults, last_runs, live, run_lines

if TYPE_CHECKING:
    from lemctl.paths import Home

LAST_RUNS = 5
WATCH_EVERY_S = 1.0
NOTHING_YET = "no campaigns yet; begin with `lemctl campaign start FILE`"


def show_status(*, json: bool = False, watch: bool = False) -> None:
    """Print it; with `watch` live on a terminal, elsewhere again every second until Ctrl-C."""
    at = home()
    if not at.database.exists():
        out_json("status", home=str(at.root), campaigns=[]) if json else out(f"{NOTHING_YET} (state folder {at.root})")
        return
    if watch and not json and is_terminal():
        from lemctl.cli.watch.app import watch as watch_live

        watch_live(at)
        return
    with Store.open(at, "read") as store:
        while True:
            now = read_status(store, at)
            out_json("status", **now.to_json()) if json else out(status_text(now))
            if not watch:
                return
            time.sleep(WATCH_EVERY_S)


def read_status(store: Store, at: Home) -> Status:
    """Everything that the screen shows, from one reading of the database."""
    connection, now_s = store.connection, time.time()
    campaigns = line_of_campaigns(connection) or last_ended(connection)
    first = campaigns[0] if campaigns else None
    pid = daemon_pid(at)
    topics = live(connection)
    said = topics.get("daemon", {})
    return Status(
        daemon=DaemonState(
            pid=pid,
            heartbeat_age_s=None if pid is None else seconds_since(said.get("heartbeat_utc"), now_s),
            waits_for=None if pid is None else said.get("waits_for"),
        ),
        campaigns=campaigns,
        left=None if first is None else left_now(store, first, now_s),
        scheduled=scheduled(store, now_s),
        lanes=[] if pid is None else lane_states(store, topics, now_s),
        last=last_runs(connection, LAST_RUNS, RUN_METRICS),
        faults=[] if first is None else faults(connection, first.id),
        home=str(at.root),
    )


def lane_states(store: Store, topics: dict[str, dict[str, Any]], now_s: float) -> list[LaneState]:
    """The lanes that have a run, by what the daemon wrote last; `now_s` is Unix time."""
    states = []
    for topic, body in topics.items():
        if topic.startswith("lane:") and body.get("run") is not None:
            found = run_lines(store.connection, (), run=body["run"])
            since_s = seconds_since(body.get("since_utc"), now_s)
            states.append(LaneState(topic.removeprefix("lane:"), body, found[0] if found else None, since_s))
    return states
