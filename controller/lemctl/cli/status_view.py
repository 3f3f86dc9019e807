"""What `lemctl status` shows: one screen from the database, with the daemon alive, dead or hung.

Without the command-line library: this is the command typed most often, and it must answer at once.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from lemctl.cli.describe import seconds_since
from lemctl.cli.state import daemon_pid, home
from lemctl.cli.status_left import left_now, scheduled
from lemctl.cli.terminal import is_terminal, out, out_json
from lemctl.clock import boot_id, utc_text
from lemctl.report.columns import RUN_METRICS
from lemctl.report.status import DaemonState, GpuNow, LaneState, Status, status_text
from lemctl.store.database import Store
from lemctl.store.queries import last_ended, line_of_campaigns
from lemctl.store.read_status import faults, last_runs, live, next_queued, run_lines
from lemctl.store.read_traces import LatestReading, latest_readings, temp_c_at

if TYPE_CHECKING:
    from lemctl.paths import Home
    from lemctl.store.queries import CampaignRow
    from lemctl.store.read_status import QueueLine

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
            out_json("status", **now.to_json()) if json else out(status_text(now, has_bar=is_terminal()))
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
        gpus=[] if pid is None else gpus_now(store, topics),
        next_run=_next_run(store, first, now_s),
    )


def _next_run(store: Store, first: CampaignRow | None, now_s: float) -> QueueLine | None:
    """Whose turn is next in a campaign that is under way or waits for its turn."""
    if first is None or first.status not in ("Active", "Waiting"):
        return None
    return next_queued(store.connection, first.id, utc_text(datetime.fromtimestamp(now_s, UTC)))


def gpus_now(store: Store, topics: dict[str, dict[str, Any]]) -> list[GpuNow]:
    """What the sensors of this host's GPUs said last, read from the database: NVML is not touched."""
    connection, boot, now_ns = store.connection, boot_id(), time.monotonic_ns()
    cooling = _cooling(topics)
    found = []
    for one in latest_readings(connection, boot):
        told = one.reading
        closed_ns, to_c = cooling.get(one.gpu, (None, None))
        power_mw = told.get("power_mw")
        found.append(
            GpuNow(
                uuid=one.gpu,
                name=one.name,
                age_s=(now_ns - one.t_ns) / 1e9,
                power_w=None if power_mw is None else power_mw / 1e3,
                temp_c=told.get("temp_c"),
                busy_pct=told.get("gpu_utilisation_pct"),
                sm_clock_mhz=told.get("sm_clock_mhz"),
                held=_held(one),
                cooling_from_c=None if closed_ns is None else temp_c_at(connection, one.gpu, boot, closed_ns),
                cooling_to_c=to_c,
                slowed_by=_slowed_by(one),
            )
        )
    return found


def _cooling(topics: dict[str, dict[str, Any]]) -> dict[str, tuple[int, float | None]]:
    """GPUs that a gate keeps waiting -> (since when, in monotonic ns; down to which C, where that is known)."""
    found = {}
    for body in topics.values():
        targets_c = body.get("cooling_to_c") or {}
        gpus = body.get("gpus", ()) if body.get("phase") == "cooling" else targets_c
        found.update({gpu: (body["since_mono_ns"], targets_c.get(gpu)) for gpu in gpus})
    return found


def _slowed_by(one: LatestReading) -> tuple[str, ...]:
    if not one.is_throttled:
        return ()
    from lemctl.measure.throttling import slowed_by

    return slowed_by(one.reading["event_reasons"])


def _held(one: LatestReading) -> Literal["at its power cap", "THROTTLED", "throttling not told"] | None:
    if one.reading.get("event_reasons") is None:
        return "throttling not told"
    return "THROTTLED" if one.is_throttled else "at its power cap" if one.is_capped else None


def lane_states(store: Store, topics: dict[str, dict[str, Any]], now_s: float) -> list[LaneState]:
    """The lanes that have a run, by what the daemon wrote last; `now_s` is Unix time."""
    states = []
    for topic, body in topics.items():
        if topic.startswith("lane:") and body.get("run") is not None:
            found = run_lines(store.connection, (), run=body["run"])
            since_s = seconds_since(body.get("since_utc"), now_s)
            states.append(LaneState(topic.removeprefix("lane:"), body, found[0] if found else None, since_s))
    return states
