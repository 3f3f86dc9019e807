"""The state of things on one screen: what a person sees first at two in the morning. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any, Literal

from lemctl.errors import page
from lemctl.lines import duration, plural
from lemctl.report.columns import RUN_COLUMNS
from lemctl.report.figures import ABSENT, axes_line
from lemctl.report.table import clipped, narrowed, table
from lemctl.store.queries import CampaignRow
from lemctl.store.read_status import FaultCount, QueueLine, RunLine

WIDTH = 80
_LEAD = 10
_BAR = 40
#: A daemon writes its heartbeat every second; one this old hangs.
HUNG_AFTER_S = 30.0
#: An open lane reads its GPUs once a second: readings this old are of another time.
STALE_S = 30.0

GROUNDS = {
    "measured": "from its own runs",
    "like": "partly from like runs",
    "guess": "partly a guess",
}

Health = Literal["running", "hung", "not running"]


@dataclass(frozen=True)
class DaemonState:
    """Who holds the daemon's lock, and what it said last."""

    pid: int | None
    heartbeat_age_s: float | None
    waits_for: str | None

    @property
    def health(self) -> Health:
        """`hung`: its process holds the lock, but its heartbeat has stopped."""
        if self.pid is None:
            return "not running"
        return "hung" if self.heartbeat_age_s is not None and self.heartbeat_age_s > HUNG_AFTER_S else "running"


@dataclass(frozen=True)
class LaneState:
    """What a lane does: the daemon's own words, with the run's line from the store."""

    name: str
    document: dict[str, Any]
    run: RunLine | None
    since_s: float | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        axes = self.run.axes if self.run else None
        return {"name": self.name, **self.document, "since_s": self.since_s, "axes": axes}


@dataclass(frozen=True)
class LeftNow:
    """What is left of the first campaign: seconds (median, 90th percentile), the weakest ground of any run, and the
    nights that it needs where it has hours. `ends` is local time in words."""

    p50_s: float
    p90_s: float
    ground: Literal["measured", "like", "guess"]
    hours: str | None
    ends: str | None
    nights_p50: int | None
    nights_p90: int | None
    too_long: int


@dataclass(frozen=True)
class Scheduled:
    """A campaign that begins by itself: local time in words, and its cron expression if it does so again."""

    name: str
    begins: str
    cron: str | None


@dataclass(frozen=True)
class GpuNow:
    """What a GPU's sensors said last, None where one said nothing. `cooling_from_c` is the temperature at which the
    gate closed, while it is closed, `cooling_to_c` the one at which it opens, where that is known; `held` says whether
    something slows the GPU down, `slowed_by` what."""

    uuid: str
    name: str
    age_s: float
    power_w: float | None
    temp_c: float | None
    busy_pct: float | None
    sm_clock_mhz: float | None
    held: Literal["at its power cap", "THROTTLED", "throttling not told"] | None
    cooling_from_c: float | None
    cooling_to_c: float | None = None
    slowed_by: Sequence[str] = ()

    @property
    def cooling(self) -> str | None:
        """`cooling from 74 C to 37 C` as far as that is known, None while nothing makes it wait."""
        parts = [
            None if self.cooling_from_c is None else f" from {self.cooling_from_c:.0f} C",
            None if self.cooling_to_c is None else f" to {self.cooling_to_c:.0f} C",
        ]
        return f"cooling{''.join(part for part in parts if part)}" if any(parts) else None

    @property
    def limits(self) -> str:
        """What holds it back, with the reasons of a throttling."""
        return (self.held or "not throttled") + (f" ({', '.join(self.slowed_by)})" if self.slowed_by else "")


@dataclass(frozen=True)
class Status:
    """Everything that the screen shows. `campaigns` in the order of the line, the newest ended one if none is open."""

    daemon: DaemonState
    campaigns: Sequence[CampaignRow]
    left: LeftNow | None
    scheduled: Sequence[Scheduled]
    lanes: Sequence[LaneState]
    last: Sequence[RunLine]
    faults: Sequence[FaultCount]
    home: str
    gpus: Sequence[GpuNow] = ()
    next_run: QueueLine | None = None
    """Whose turn is next in the first campaign."""

    @property
    def first(self) -> CampaignRow | None:
        """The campaign that is most worth a look."""
        return self.campaigns[0] if self.campaigns else None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "daemon": {
                "health": self.daemon.health,
                "pid": self.daemon.pid,
                "heartbeat_age_s": self.daemon.heartbeat_age_s,
                "waits_for": self.daemon.waits_for,
            },
            "campaigns": [campaign.to_json() for campaign in self.campaigns],
            "left": None if self.left is None else asdict(self.left),
            "scheduled": [asdict(one) for one in self.scheduled],
            "lanes": [lane.to_json() for lane in self.lanes],
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "next_run": None if self.next_run is None else asdict(self.next_run),
            "last_runs": [line.to_json() for line in self.last],
            "failures": [fault.to_json() for fault in self.faults],
            "home": self.home,
        }


def status_text(status: Status, *, has_bar: bool = False) -> str:
    """The screen, at most 80 columns wide. The bar is for a terminal: elsewhere the same words without it."""
    return "\n".join(_lines(status, has_bar))


def headline(status: Status) -> str:
    """The daemon, the first campaign with its bar, what runs now: for the live screen."""
    return "\n".join(_head(status, has_bar=True))


def tail(status: Status, width: int = WIDTH) -> str:
    """What comes next, the last runs in a table so wide, what failed."""
    return "\n".join(_tail(status, width)).strip("\n") or "nothing has run yet"


def _lines(status: Status, has_bar: bool) -> Iterator[str]:
    yield from _head(status, has_bar)
    for gpu in status.gpus:
        yield _row("gpu", _gpu(gpu))
        if gpu.slowed_by and gpu.age_s <= STALE_S:
            yield _row("", f"throttled: {', '.join(gpu.slowed_by)}")
    yield from _tail(status, WIDTH)


def _head(status: Status, has_bar: bool) -> Iterator[str]:
    yield from _daemon(status)
    if status.first is not None:
        yield from _campaign(status.first, status.left, has_bar)
    for lane in status.lanes:
        yield from _lane(lane)


def _tail(status: Status, width: int) -> Iterator[str]:
    if status.next_run is not None:
        yield _row("then", _next(status.next_run))
    for place, campaign in enumerate(status.campaigns[1:4]):
        reason = f" ({campaign.reason})" if campaign.reason else ""
        state = f"{campaign.status}{reason}{_behind(campaign)}"
        yield _row("" if place else "next", f"{campaign.label}: {state}, {campaign.left} runs to go")
    if len(status.campaigns) > 4:
        yield _row("", f"and {len(status.campaigns) - 4} more: `lemctl campaign list`")
    for one in status.scheduled[:3]:
        yield _row("scheduled", f"{one.name}: begins {one.begins}" + (f", by {one.cron}" if one.cron else ""))
    if status.last:
        yield ""
        yield _last(status.last, width)
    if status.faults and status.first is not None:
        yield ""
        for place, fault in enumerate(status.faults[:3]):
            yield _row("" if place else "failed", f"{plural(fault.count, 'run')} {fault.fault}: {fault.message}")
            yield _row("", f"see `lemctl logs {fault.newest_run}`, {page(fault.fault)}")
        yield _row("", f"again with `lemctl campaign retry {status.first.label} --failed`")


def _gpu(gpu: GpuNow) -> str:
    if gpu.age_s > STALE_S:
        return f"{gpu.name}: last read {duration(gpu.age_s)} ago"
    cooled = f" ({gpu.cooling})" if gpu.cooling else ""
    parts = [
        None if gpu.power_w is None else f"{gpu.power_w:.0f} W",
        None if gpu.temp_c is None else f"{gpu.temp_c:.0f} C{cooled}",
        None if gpu.busy_pct is None else f"busy {gpu.busy_pct:.0f} %",
        None if gpu.sm_clock_mhz is None else f"{gpu.sm_clock_mhz:.0f} MHz",
        gpu.held or "not throttled",
    ]
    return f"{gpu.name}: {', '.join(part for part in parts if part)}"


def _next(line: QueueLine) -> str:
    """The run whose turn is next, and why it is that one."""
    axes = {key: value for key, value in line.axes.items() if key != "backend"}
    what = f"run {line.run}: {line.backend}{' ' + axes_line(axes) if axes else ''} cycle {line.cycle}"
    return f"{what}, {'again: ' + line.why if line.why else f'next in the order of cycle {line.cycle}'}"


def _daemon(status: Status) -> Iterator[str]:
    daemon = status.daemon
    if daemon.health == "not running":
        needed = any(campaign.status in ("Active", "Waiting") for campaign in status.campaigns if campaign.is_open)
        yield _row("daemon", "not running" + ("; runs are waiting: `lemctl daemon start`" if needed else ""))
        return
    age = "" if daemon.heartbeat_age_s is None else f", heartbeat {duration(daemon.heartbeat_age_s)} ago"
    yield _row("daemon", f"{daemon.health}, pid {daemon.pid}{age}")
    if daemon.health == "hung":
        yield _row("", f"nothing is lost by `kill -9 {daemon.pid}; lemctl daemon start`")
    if daemon.waits_for:
        yield _row("", f"waits for {daemon.waits_for}")


def _campaign(campaign: CampaignRow, left: LeftNow | None, has_bar: bool) -> Iterator[str]:
    counts = campaign.counts
    parts = [f"{counts['Done']} of {campaign.total} done"]
    parts += [f"{counts[status]} {status.lower()}" for status in ("Failed", "Skipped", "Cancelled") if counts[status]]
    if campaign.left:
        parts.append(f"{campaign.left} to go")
    simulated = " (SIMULATED)" if campaign.executor == "simulate" else ""
    state = f"{campaign.status}{_behind(campaign)}"
    yield _row("campaign", f"{campaign.label}{simulated}: {state}, {', '.join(parts)}")
    if campaign.reason:
        yield _row("", campaign.reason)
    if campaign.is_open and left is not None:
        yield from _left(left)
    if campaign.status == "Paused" and campaign.until_utc:
        yield _row("", f"goes on by itself at {campaign.until_utc[:16].replace('T', ' ')} UTC")
    if campaign.status in ("Paused", "Stopped"):
        yield _row("", f"go on with `lemctl campaign resume {campaign.label}`")
    if campaign.total and campaign.is_open:
        share = (campaign.total - campaign.left) / campaign.total
        filled = int(share * _BAR)
        bar = f"{'#' * filled}{'-' * (_BAR - filled)} " if has_bar else ""
        yield _row("", f"{bar}{share:.0%}")
    elif not campaign.is_open:
        yield _row("", f"`lemctl report {campaign.label}` shows its figures")


def _left(left: LeftNow) -> Iterator[str]:
    """How long it takes yet, on what ground, and how many of its nights that is."""
    yield _row("", f"about {duration(left.p50_s)} left, at most {duration(left.p90_s)} ({GROUNDS[left.ground]})")
    if left.nights_p50 is not None:
        more = f" to {left.nights_p90}" if left.nights_p90 not in (None, left.nights_p50) else ""
        yield _row("", f"{left.nights_p50}{more} of its nights, ends about {left.ends}")
    if left.hours is not None:
        for line in wrap(f"hours {left.hours}", WIDTH - _LEAD):
            yield _row("", line)
    if left.too_long:
        yield _row("", f"{plural(left.too_long, 'experiment')} longer than any of its hours: not run in them")


def _behind(campaign: CampaignRow) -> str:
    """What a waiting campaign was put after: where that one stands still, this is why nothing runs."""
    return f" after {campaign.after}" if campaign.after and campaign.status == "Waiting" else ""


def _lane(lane: LaneState) -> Iterator[str]:
    body = lane.document
    what = _what(lane.run) if lane.run else f"cycle {body.get('cycle')}"
    retried = f", attempt {lane.run.attempt}" if lane.run and (lane.run.attempt or 1) > 1 else ""
    yield _row("now", f"run {body.get('run')} on {lane.name}: {what}{retried}")
    since = f" for {duration(lane.since_s)}" if lane.since_s is not None else ""
    work = f", batches done {body['batches']}, tokens out {body.get('tokens_out', 0)}" if body.get("batches") else ""
    yield _row("", f"{body.get('phase', 'starting')}{since}{work}")
    if body.get("waits_for"):
        yield _row("", f"waits for {body['waits_for']}")


def _last(lines: Sequence[RunLine], width: int) -> str:
    columns = [column for column in RUN_COLUMNS if any(line.figures.get(column.metric) is not None for line in lines)]
    header = ["run", "what", "took", *(column.header for column in columns), "verdict"]
    rows = [
        [
            str(line.run),
            _what(line),
            duration(line.took_s) if line.took_s is not None else ABSENT,
            *(column.show(line.figures.get(column.metric)) for column in columns),
            line.verdict or line.fault or line.outcome or line.status,
        ]
        for line in lines
    ]
    return table(header, narrowed(header, rows, 1, width), right=(0, *range(2, len(header) - 1)))


def _what(line: RunLine) -> str:
    axes = {key: value for key, value in line.axes.items() if key != "backend"}
    return f"{line.backend}{' ' + axes_line(axes) if axes else ''} cycle {line.cycle}"


def _row(lead: str, text: str) -> str:
    return f"{lead:<{_LEAD}}{clipped(text, WIDTH - _LEAD)}"
