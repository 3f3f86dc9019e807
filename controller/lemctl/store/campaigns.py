"""Campaigns: adding, extending, and the line in which they wait for their turn."""

from __future__ import annotations

import json
import sqlite3
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lemctl.clock import Clock, utc_text
from lemctl.errors import NotFound, UsageMistake
from lemctl.lines import duration, plural
from lemctl.store import outbox, schedules
from lemctl.store.moves import log_created, move
from lemctl.store.status import (
    CAMPAIGN_OPEN,
    RUN_ACTIVE,
    CampaignActive,
    CampaignFinished,
    CampaignStatus,
    CampaignWaiting,
    Cancelled,
    Queued,
    RunStatus,
    Skipped,
    campaign_status,
    dump,
)

if TYPE_CHECKING:
    from lemctl.campaign.plan import Plan

_QUEUED = dump(Queued())


@dataclass(frozen=True)
class Campaign:
    """One row of `campaigns`."""

    id: int
    uuid: str
    name: str
    number: int
    plan_hash: str
    document: dict[str, Any]
    executor: str
    priority: int
    after_id: int | None
    status: CampaignStatus
    created_utc: str
    ended_utc: str | None

    @property
    def label(self) -> str:
        """`name` or `name#2`: what a person types."""
        return self.name if self.number == 1 else f"{self.name}#{self.number}"


@dataclass(frozen=True)
class Added:
    """What `add` or `extend` did."""

    campaign: Campaign
    attached: bool
    new_runs: int


def add_campaign(
    tx: sqlite3.Connection,
    plan: Plan,
    source: str,
    executor: str,
    clock: Clock,
    host: str,
    priority: int = 0,
    after: Campaign | None = None,
    sensors: bool = True,
) -> Added:
    """Add a campaign at its place in the line, or attach to the unfinished one of the same name and plan: what the file
    says of hours, notification and failures holds for it from now on. `sensors`: whether the host has GPU sensors, for
    the guess of how long runs take.

    Raises `UsageMistake` when another plan of that name is unfinished.
    """
    same = [c for c in _by_name(tx, plan.name) if c.status.kind in CAMPAIGN_OPEN]
    if same:
        if same[0].plan_hash == plan.hash:
            _set_document(tx, same[0].id, plan, source)
            return Added(by_id(tx, same[0].id), attached=True, new_runs=0)
        raise UsageMistake(
            f"campaign {same[0].label} is {same[0].status.kind.lower()} with another plan: give this one another name, "
            f"add to it with `lemctl campaign extend`, or end it with `lemctl campaign cancel {same[0].label}`"
        )
    at_utc = utc_text(clock.utc())
    status = CampaignWaiting()
    cursor = tx.execute(
        "INSERT INTO campaigns (uuid, host, name, number, plan_hash, document, source, executor, priority, after_id,"
        " status, status_data, created_utc)"
        " SELECT ?, ?, ?, coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM campaigns WHERE name = ?",
        (
            uuid.uuid4().hex,
            host,
            plan.name,
            plan.hash,
            json.dumps(plan.document),
            source,
            executor,
            priority,
            after.id if after else None,
            status.kind,
            dump(status),
            at_utc,
            plan.name,
        ),
    )
    assert cursor.lastrowid is not None
    log_created(tx, "campaign", [cursor.lastrowid], status.kind, dump(status), at_utc, "person")
    new_runs = _add_runs(tx, cursor.lastrowid, plan, 0, at_utc, sensors)
    return Added(by_id(tx, cursor.lastrowid), attached=False, new_runs=new_runs)


def extend_campaign(tx: sqlite3.Connection, plan: Plan, source: str, clock: Clock, sensors: bool = True) -> Added:
    """Add what the plan has and the newest campaign of that name has not; what is done stays done. What the file says
    of hours, retries and limits holds from now on.

    Raises `NotFound`, and `UsageMistake` where its latency targets are others.
    """
    campaign = find(tx, plan.name)
    if plan.document.get("targets_s") != campaign.document.get("targets_s"):
        raise UsageMistake(f"campaign {campaign.label} has other targets: give this one another name, or the same")
    at_utc = utc_text(clock.utc())
    last = tx.execute("SELECT coalesce(max(position), -1) FROM runs WHERE campaign_id = ?", (campaign.id,)).fetchone()[
        0
    ]
    new_runs = _add_runs(tx, campaign.id, plan, last + 1, at_utc, sensors)
    _set_document(tx, campaign.id, plan, source)
    if new_runs and campaign.status.kind in ("Finished", "Cancelled"):
        reopen(tx, campaign, clock, "person")
    return Added(by_id(tx, campaign.id), attached=False, new_runs=new_runs)


def _set_document(tx: sqlite3.Connection, campaign_id: int, plan: Plan, source: str) -> None:
    tx.execute(
        "UPDATE campaigns SET plan_hash = ?, document = ?, source = ? WHERE id = ?",
        (plan.hash, json.dumps(plan.document), source, campaign_id),
    )


def is_name_open(tx: sqlite3.Connection, name: str) -> bool:
    """Whether a campaign of that name is unfinished, whichever number it has."""
    return any(campaign.status.kind in CAMPAIGN_OPEN for campaign in _by_name(tx, name))


def begin_again(tx: sqlite3.Connection, campaign: Campaign, clock: Clock) -> Campaign:
    """The same plan once more, as the next campaign of that name: every run anew. None of that name may be open."""
    at_utc, status = utc_text(clock.utc()), CampaignWaiting()
    cursor = tx.execute(
        "INSERT INTO campaigns (uuid, host, name, number, plan_hash, document, source, executor, priority,"
        " status, status_data, created_utc)"
        " SELECT ?, host, name, (SELECT max(number) + 1 FROM campaigns n WHERE n.name = c.name), plan_hash, document,"
        " source, executor, priority, ?, ?, ? FROM campaigns c WHERE id = ?",
        (uuid.uuid4().hex, status.kind, dump(status), at_utc, campaign.id),
    )
    assert cursor.lastrowid is not None
    log_created(tx, "campaign", [cursor.lastrowid], status.kind, dump(status), at_utc, "daemon")
    before = tx.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0]
    tx.execute(
        "INSERT INTO runs (campaign_id, experiment, cycle, position, axes, status, status_data, guess_s, is_load)"
        " SELECT ?, experiment, cycle, position, axes, 'Queued', ?, guess_s, is_load FROM runs WHERE campaign_id = ?",
        (cursor.lastrowid, _QUEUED, campaign.id),
    )
    _log_new_runs(tx, cursor.lastrowid, before, at_utc, "daemon")
    return by_id(tx, cursor.lastrowid)


def find(tx: sqlite3.Connection, label: str) -> Campaign:
    """The campaign `name#number`, or the newest of `name`. Raises `NotFound` with what there is."""
    name, _, number = label.partition("#")
    found = [c for c in _by_name(tx, name) if not number or str(c.number) == number]
    if found:
        return found[0]
    names = [row[0] for row in tx.execute("SELECT DISTINCT name FROM campaigns ORDER BY id DESC LIMIT 5")]
    raise NotFound(
        f"no campaign {label!r}" + (f"; there are {', '.join(names)}" if names else "; none has been started")
    )


def by_id(tx: sqlite3.Connection, campaign_id: int) -> Campaign:
    """The campaign of this row id, which must exist."""
    row = tx.execute("SELECT * FROM campaigns WHERE id = ?", (campaign_id,)).fetchone()
    return _campaign(row)


def open_campaigns(tx: sqlite3.Connection) -> list[Campaign]:
    """What has not ended, in the order of the line: the active one, then by priority and age."""
    rows = tx.execute(
        "SELECT * FROM campaigns WHERE status IN ('Waiting', 'Active', 'Paused', 'Stopped')"
        " ORDER BY status = 'Active' DESC, priority DESC, id"
    )
    return [_campaign(row) for row in rows]


def alive_since(tx: sqlite3.Connection, since: datetime) -> list[Campaign]:
    """What has not ended, or not before `since`."""
    rows = tx.execute(
        "SELECT * FROM campaigns WHERE ended_utc IS NULL OR ended_utc >= ? ORDER BY id", (utc_text(since),)
    )
    return [_campaign(row) for row in rows]


def front(tx: sqlite3.Connection, clock: Clock) -> Campaign | None:
    """The campaign whose turn it is; makes it Active. A campaign keeps its turn until it ends, pauses or stops."""
    for campaign in open_campaigns(tx):
        if campaign.status.kind == "Active":
            return campaign
        if campaign.status.kind == "Waiting" and not _held_back(tx, campaign):
            move(tx, "campaign", campaign.id, CampaignActive(), utc_text(clock.utc()), "daemon")
            return by_id(tx, campaign.id)
    return None


def has_runs_left(tx: sqlite3.Connection, campaign: Campaign) -> bool:
    """Whether any run has not ended."""
    left = tx.execute(
        "SELECT 1 FROM runs WHERE campaign_id = ? AND status IN ('Queued', 'Starting', 'Cooling', 'Running') LIMIT 1",
        (campaign.id,),
    ).fetchone()
    return left is not None


def settle(tx: sqlite3.Connection, campaign: Campaign, clock: Clock) -> bool:
    """Move a campaign whose every run has ended to Finished; True when it did."""
    if has_runs_left(tx, campaign) or campaign.status.kind not in ("Active", "Paused"):
        return False
    close(tx, campaign, CampaignFinished(), clock, "daemon")
    outbox.tell(tx, campaign, "finished", describe(tx, campaign, clock), clock)
    return True


def close(tx: sqlite3.Connection, campaign: Campaign, to: CampaignStatus, clock: Clock, by: str) -> None:
    """Move a campaign to an end state and stamp it."""
    at_utc = utc_text(clock.utc())
    move(tx, "campaign", campaign.id, to, at_utc, by)
    tx.execute("UPDATE campaigns SET ended_utc = ? WHERE id = ?", (at_utc, campaign.id))


def reopen(tx: sqlite3.Connection, campaign: Campaign, clock: Clock, by: str) -> None:
    """Put a campaign back in the line. Raises `UsageMistake` while another one of its name is unfinished."""
    for other in _by_name(tx, campaign.name):
        if other.id != campaign.id and other.status.kind in CAMPAIGN_OPEN:
            raise UsageMistake(
                f"{campaign.label} cannot go on while {other.label} is {other.status.kind.lower()}: "
                f"let that one end, or `lemctl campaign cancel {other.label}`"
            )
    move(tx, "campaign", campaign.id, CampaignWaiting(), utc_text(clock.utc()), by)
    tx.execute("UPDATE campaigns SET ended_utc = NULL WHERE id = ?", (campaign.id,))


def place_in_line(tx: sqlite3.Connection, campaign: Campaign, priority: int | None, after: Campaign | None) -> None:
    """Move a campaign in the line. Raises `UsageMistake` for a circle."""
    step = after
    while step is not None:
        if step.id == campaign.id:
            raise UsageMistake(f"{campaign.label} would wait for itself")
        step = None if step.after_id is None else by_id(tx, step.after_id)
    tx.execute(
        "UPDATE campaigns SET priority = coalesce(?, priority), after_id = coalesce(?, after_id) WHERE id = ?",
        (priority, after.id if after else None, campaign.id),
    )


def skip_cycles(tx: sqlite3.Connection, campaign: Campaign, experiment: str, to: Skipped, clock: Clock) -> int:
    """Skip the queued cycles of one experiment; how many there were."""
    return _move_queued(tx, campaign, to, clock, "daemon", experiment)


def cancel_queued(tx: sqlite3.Connection, campaign: Campaign, reason: str, clock: Clock, by: str) -> int:
    """Cancel every queued run; how many there were."""
    return _move_queued(tx, campaign, Cancelled(reason=reason), clock, by, None)


def describe_left(tx: sqlite3.Connection, campaign: Campaign) -> str:
    """`12 runs left`, for a message."""
    count = tx.execute(
        "SELECT count(*) FROM runs WHERE campaign_id = ? AND status IN ('Queued', 'Starting', 'Cooling', 'Running')",
        (campaign.id,),
    ).fetchone()[0]
    return f"{plural(count, 'run')} left"


def describe(tx: sqlite3.Connection, campaign: Campaign, clock: Clock) -> str:
    """How far a campaign is, for a message: `12 of 15 runs done, 1 failed (oom_gpu 1), 2 left; begun 3 h ago`."""
    rows = tx.execute("SELECT status, count(*) FROM runs WHERE campaign_id = ? GROUP BY status", (campaign.id,))
    counts = {row[0]: row[1] for row in rows}
    kinds = tx.execute(
        "SELECT json_extract(status_data, '$.fault'), count(*) FROM runs WHERE campaign_id = ? AND status = 'Failed'"
        " GROUP BY 1 ORDER BY 2 DESC, 1",
        (campaign.id,),
    )
    faults = ", ".join(f"{row[0]} {row[1]}" for row in kinds)
    left = sum(counts.get(status, 0) for status in ("Queued", *RUN_ACTIVE))
    parts = [f"{counts.get('Done', 0)} of {plural(sum(counts.values()), 'run')} done"]
    parts += [f"{counts['Failed']} failed ({faults})"] if faults else []
    parts += [f"{counts[kind]} {kind.lower()}" for kind in ("Skipped", "Cancelled") if kind in counts]
    parts += [f"{left} left"] if left else []
    begun = tx.execute(
        "SELECT min(at_utc) FROM transitions WHERE entity = 'campaign' AND entity_id = ? AND to_status = 'Active'",
        (campaign.id,),
    ).fetchone()[0]
    age_s = (clock.utc() - datetime.fromisoformat(begun or campaign.created_utc)).total_seconds()
    return f"{', '.join(parts)}; {'begun' if begun else 'queued'} {duration(max(0.0, age_s))} ago"


def _move_queued(
    tx: sqlite3.Connection, campaign: Campaign, to: RunStatus, clock: Clock, by: str, experiment: str | None
) -> int:
    rows = tx.execute(
        "SELECT id FROM runs WHERE campaign_id = ? AND status = 'Queued' AND (? IS NULL OR experiment = ?)",
        (campaign.id, experiment, experiment),
    ).fetchall()
    at_utc = utc_text(clock.utc())
    for row in rows:
        move(tx, "run", row[0], to, at_utc, by)
    return len(rows)


def _held_back(tx: sqlite3.Connection, campaign: Campaign) -> bool:
    """True while the campaign that this one was put `--after` has not ended, or its hour has not come."""
    if schedules.is_awaited(tx, campaign.id):
        return True
    if campaign.after_id is None:
        return False
    return by_id(tx, campaign.after_id).status.kind in CAMPAIGN_OPEN


def _add_runs(
    tx: sqlite3.Connection, campaign_id: int, plan: Plan, first_position: int, at_utc: str, sensors: bool
) -> int:
    """Insert the experiments and the runs that are not there yet, and log them."""
    from lemctl.campaign.estimate import guesses_s, loaded_runs

    tx.executemany(
        "INSERT INTO experiments (hash, backend, model, spec) VALUES (?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
        ((e.hash, e.backend, e.model, json.dumps(e.spec)) for e in plan.experiments),
    )
    before = tx.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0]
    axes = [json.dumps(e.axes) for e in plan.experiments]
    guesses = guesses_s(plan, sensors)
    tx.executemany(
        "INSERT INTO runs (campaign_id, experiment, cycle, position, axes, status, status_data, guess_s, is_load)"
        " VALUES (?, ?, ?, ?, ?, 'Queued', ?, ?, ?) ON CONFLICT (campaign_id, experiment, cycle) DO NOTHING",
        (
            (
                campaign_id,
                plan.experiments[run.experiment].hash,
                run.cycle,
                first_position + run.position,
                axes[run.experiment],
                _QUEUED,
                guesses[run.experiment],
                int(is_load),
            )
            for run, is_load in zip(plan.runs, loaded_runs(plan), strict=True)
        ),
    )
    return _log_new_runs(tx, campaign_id, before, at_utc, "person")


def _log_new_runs(tx: sqlite3.Connection, campaign_id: int, after_run: int, at_utc: str, by: str) -> int:
    ids = [
        row[0] for row in tx.execute("SELECT id FROM runs WHERE id > ? AND campaign_id = ?", (after_run, campaign_id))
    ]
    log_created(tx, "run", ids, "Queued", _QUEUED, at_utc, by)
    return len(ids)


def _by_name(tx: sqlite3.Connection, name: str) -> list[Campaign]:
    """Newest first."""
    return [
        _campaign(row) for row in tx.execute("SELECT * FROM campaigns WHERE name = ? ORDER BY number DESC", (name,))
    ]


def _campaign(row: sqlite3.Row) -> Campaign:
    return Campaign(
        id=row["id"],
        uuid=row["uuid"],
        name=row["name"],
        number=row["number"],
        plan_hash=row["plan_hash"],
        document=json.loads(row["document"]),
        executor=row["executor"],
        priority=row["priority"],
        after_id=row["after_id"],
        status=campaign_status(row["status_data"]),
        created_utc=row["created_utc"],
        ended_utc=row["ended_utc"],
    )
