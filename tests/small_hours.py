"""Nights in one process: the real store and the daemon's own tick on a clock that the test moves, and a host on which
everything that can happen does when it is told to: kills, reboots, full disks, an engine that is away, runs that fail.

What happens while a run is under way happens inside its engine: there the main thread's ticks go on, as they do beside
a real worker. A kill leaves nothing behind but what was committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faulty_engine import FaultyExecutor, Nowhere
from lemctl.campaign.file import loads
from lemctl.campaign.hours import zone_name
from lemctl.campaign.plan import Plan, plan
from lemctl.clock import SimulatedClock
from lemctl.daemon.experiment import World
from lemctl.daemon.instruments import NoSensors
from lemctl.daemon.lanes import Lane
from lemctl.daemon.recovery import recover
from lemctl.daemon.serve import Daemon
from lemctl.errors import DiskFull, FaultKind
from lemctl.paths import Home, data_folder
from lemctl.store import campaigns, schedules
from lemctl.store.campaigns import Added
from lemctl.store.commands import Answer, Verb, answer_of, ask
from lemctl.store.database import Store
from night import audit_attempts, audit_log

BEGIN = datetime(2026, 3, 27, 20, 0, tzinfo=UTC)  # the Friday before clocks are set forward in Europe
NO_SENSORS = "no sensors here"


#: What no daemon leaves behind that had the time to end.
_LEFT_BY_NONE = {
    "an attempt": "SELECT 1 FROM attempts WHERE outcome IS NULL",
    "a run": "SELECT 1 FROM runs WHERE status IN ('Starting', 'Cooling', 'Running')",
    "a session": "SELECT 1 FROM sessions WHERE ended_utc IS NULL",
    "a command that it had taken": "SELECT 1 FROM commands WHERE taken_utc IS NOT NULL AND answered_utc IS NULL",
    "a word of what it does": "SELECT 1 FROM live WHERE topic = 'daemon'",
}


#: Seen at the very moment at which a campaign gets its turn, by the daemon's own connection: it waits for nobody, and
#: nobody waits who comes before it in the line.
_WATCH_TURNS = """
CREATE TEMP VIEW held_back AS SELECT c.id FROM main.campaigns c WHERE
  EXISTS (SELECT 1 FROM main.campaigns a WHERE a.id = c.after_id AND a.status NOT IN ('Finished', 'Cancelled'))
  OR EXISTS (SELECT 1 FROM main.schedules s WHERE s.campaign_id = c.id AND s.ended_utc IS NULL
             AND NOT EXISTS (SELECT 1 FROM main.firings f WHERE f.schedule_id = s.id));
CREATE TEMP TABLE wrong_turns (what TEXT NOT NULL);
CREATE TEMP TRIGGER watch_turns AFTER UPDATE OF status ON main.campaigns WHEN new.status = 'Active' BEGIN
  INSERT INTO wrong_turns SELECT 'campaign ' || new.id || ' has its turn and is held back'
    WHERE new.id IN (SELECT id FROM held_back);
  INSERT INTO wrong_turns SELECT 'campaign ' || new.id || ' has its turn before ' || c.id FROM main.campaigns c
    WHERE c.status = 'Waiting' AND (c.priority > new.priority OR c.priority = new.priority AND c.id < new.id)
    AND c.id NOT IN (SELECT id FROM held_back);
END;
"""


class Killed(BaseException):
    """The daemon's process is gone: no handler of its own sees this."""


class MortalStore(Store):
    """A store whose process may die before or after a commit, and whose disk may be full."""

    is_dead = False
    is_full = False
    #: Commits until the death, and whether the last of them still succeeds.
    dies_in: int | None = None
    dies_after_it = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """As the store's, until it is over."""
        self._live()
        is_last = False
        if self.dies_in is not None:
            self.dies_in -= 1
            is_last = self.dies_in <= 0
        with super().transaction() as tx:
            yield tx
            if self.is_full:
                raise DiskFull("no space left on device")
            if is_last and not self.dies_after_it:
                self.die()
        if is_last:
            self.die()

    def data_version(self) -> int:
        """As the store's."""
        self._live()
        return super().data_version()

    def die(self) -> None:
        """Now."""
        self.is_dead = True
        raise Killed

    def _live(self) -> None:
        if self.is_dead:
            raise Killed


class Host:
    """A host with one lane. `script` holds what happens in the engine: called once each, at the next load or window."""

    def __init__(self, folder: Path, begin: datetime = BEGIN):
        self.home = Home(folder)
        self.clock = SimulatedClock(begin, boot="boot-1")
        self.boots = 1
        self.engine_is_away = False
        self.disk_is_full = False
        self.run_s = 300.0
        #: What becomes of the next attempts; then they succeed.
        self.faults: list[FaultKind] = []
        self.script: list[Callable[[Host], None]] = []
        #: What began where it must not: the daemon would take a failed assertion for a failed run.
        self.violations: list[str] = []
        self.store: MortalStore
        self.daemon: Daemon
        self.start()

    def start(self) -> None:
        """A new daemon finds what the one before it left."""
        opened = MortalStore.open(self.home, "write")
        assert isinstance(opened, MortalStore)
        self.store = opened
        self.store.connection.executescript(_WATCH_TURNS)
        executor = FaultyExecutor(self)
        lane: Lane | None = None

        def lane_for(campaign: campaigns.Campaign, spec: dict[str, Any]) -> Lane:
            nonlocal lane
            if lane is None or lane.closed:
                sensors = NoSensors(NO_SENSORS, self.clock.monotonic_ns)
                lane = Lane("cpu", (), self.store, self.clock, executor, sensors, self.clock.boot())
            return lane

        world = World("runner", lambda spec: Nowhere(), lambda spec: None, lambda opened: [])  # type: ignore[arg-type]
        self.daemon = Daemon(self.store, self.clock, world, lane_for, pid=self.boots, inline=True)
        while True:
            self.store.is_full = self.disk_is_full
            try:
                recover(self.store, [executor], self.clock)
            except DiskFull:
                self.disk_is_full = False  # a person made room, or it would never have started
                continue
            return

    def tick(self, times: int = 1) -> None:
        """Ticks of 0.2 s; a daemon that dies in one is followed by the next."""
        for _ in range(times):
            self.store.is_full = self.disk_is_full
            with suppress(Killed):
                self.daemon._tick_or_make_room()
                self.clock.wait(self.daemon.wake, 0.2)
                self.daemon.wake.clear()
            if self.store.is_dead:
                self.start_again()
            elif self.daemon.leave.is_set():
                self._leave()
            else:
                self._see_turns()

    def until(self, condition: Callable[[], bool], what: str, ticks: int = 20_000) -> None:
        """Tick on, over the hours in which nothing can begin."""
        for _ in range(ticks):
            if condition():
                return
            self.tick()
            self.pass_time()
        raise AssertionError(f"no {what}; the daemon waits for {self.daemon.waits_for}")

    def pass_time(self, most_s: float = 7 * 86400.0) -> None:
        """To the alarm, where nothing can begin before it."""
        at = getattr(self.daemon.alarm, "at", None)
        if self.daemon.is_at_rest and at is not None:
            self.clock.advance(min(most_s, max(0.0, (at - self.clock.utc()).total_seconds())))

    def kill(self) -> None:
        """SIGKILL, and a new daemon."""
        self.store.is_dead = True
        self.start_again()

    def terminate(self) -> None:
        """SIGTERM between two ticks, and a new daemon."""
        self.daemon.leave.set()
        self._leave()

    def terminate_under_a_run(self) -> None:
        """SIGTERM while a worker has a run in hand: the daemon's main thread first tells it to end, then waits."""
        self.daemon.leave.set()
        assert self.daemon.work is not None
        self.daemon.work.cancel.set("interrupted", "the daemon was asked to end")

    def _leave(self) -> None:
        """The daemon's own end, which leaves nothing for the next one to put right unless the disk is full."""
        with suppress(Killed):
            self.daemon.serve()
        if not (self.store.is_dead or self.store.is_full):
            for what, left in _LEFT_BY_NONE.items():
                if self.rows(left):
                    self.violations.append(f"a daemon that was asked to end left {what}")
        self.start_again()

    def start_again(self) -> None:
        """What the dead one held is gone; what it had committed is there."""
        self._see_turns()
        self.store.close()
        self.script.clear()
        self.start()

    def reboot(self, off_s: float = 60.0) -> None:
        """The host goes down hard and comes up again."""
        self.boots += 1
        self.clock.reboot(f"boot-{self.boots}", off_s)
        self.kill()

    def ask(self, verb: Verb, **arguments: Any) -> Answer:
        """Ask the daemon and tick until it has answered."""
        number = self.ask_only(verb, **arguments)
        for _ in range(200):
            if (answer := answer_of(self.store.connection, number)) is not None:
                return answer
            self.tick()
        raise AssertionError(f"no answer to {verb}")

    def ask_only(self, verb: Verb, **arguments: Any) -> int:
        """Ask the daemon; the command line has a connection of its own."""
        with Store.open(self.home, "write") as store, store.transaction() as tx:
            return ask(tx, verb, arguments, self.clock)

    def add(self, what: Plan | str, at: datetime | None = None) -> Added:
        """Start a campaign, by its schedule where it has one."""
        made = what if isinstance(what, Plan) else planned(what)
        with Store.open(self.home, "write") as store, store.transaction() as tx:
            added = campaigns.add_campaign(tx, made, "", "local", self.clock, "host")
            cron = made.document["schedule"]
            if not added.attached and (cron or at):
                at_utc = None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                tz = zone_name(made.document)
                name = added.campaign.name
                schedules.add(
                    tx, added.campaign.id, name, self.clock, at_utc=at_utc, cron=cron if at is None else None, tz=tz
                )
            return added

    def extend(self, made: Plan) -> Added:
        """Add what the plan has and the newest campaign of its name has not."""
        with Store.open(self.home, "write") as store, store.transaction() as tx:
            return campaigns.extend_campaign(tx, made, "", self.clock)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives."""
        return [tuple(row) for row in self.store.connection.execute(sql, values)]

    def begun_at(self) -> list[datetime]:
        """When each attempt began."""
        return [datetime.fromisoformat(t) for (t,) in self.rows("SELECT started_utc FROM attempts ORDER BY id")]

    def statuses(self, name: str = "night") -> list[str]:
        """Of the runs of the newest campaign of that name."""
        of = "(SELECT max(id) FROM campaigns WHERE name = ?)"
        return [
            row[0] for row in self.rows(f"SELECT status FROM runs WHERE campaign_id = {of} ORDER BY position", name)
        ]

    def campaign(self, name: str = "night") -> campaigns.Campaign:
        """The newest of that name."""
        return campaigns.find(self.store.connection, name)

    def outcomes(self) -> list[tuple[str | None, str | None]]:
        """Outcome and fault of every attempt, in order."""
        return [(o, f) for o, f in self.rows("SELECT outcome, fault FROM attempts ORDER BY id")]

    def _see_turns(self) -> None:
        self.violations += [what for (what,) in self.rows("SELECT what FROM temp.wrong_turns")]

    def audit(self) -> None:
        """What must hold at any moment, whatever has happened."""
        assert self.violations == [], self.violations
        db = self.store.connection
        audit_log(db, "run", "runs")
        audit_log(db, "campaign", "campaigns")
        assert self.rows("SELECT count(*) FROM attempts WHERE outcome IS NULL")[0][0] <= 1
        wrong = (
            "SELECT r.id, r.status FROM runs r WHERE (r.status = 'Done') IS NOT"
            " (EXISTS (SELECT 1 FROM attempts a WHERE a.run_id = r.id AND a.outcome = 'ok'))"
        )
        assert self.rows(wrong) == []
        under_way = "SELECT 1 FROM runs WHERE status IN ('Starting', 'Cooling', 'Running') AND id NOT IN"
        assert self.rows(f"{under_way} (SELECT run_id FROM attempts WHERE outcome IS NULL)") == []
        assert self.rows("PRAGMA foreign_key_check") == []

    def audit_rest(self) -> None:
        """What must hold besides, when nothing is under way."""
        self.audit()
        audit_attempts(self.store.connection)


CAMPAIGN = """
name: {name}
preset: quick-test
model: "random:{{vocab_size: 1000}}"
backend: replay
workload: {{dataset: random, random: {{input_len: 8}}, prompts: 2, max_new_tokens: 4}}
sweep: {{workload.seed: {seeds}}}
cycles: {cycles}
order: as_written
{more}
"""


def planned(more: str = "", name: str = "night", experiments: int = 1, cycles: int = 3) -> Plan:
    """A small plan; `more` holds further lines of its file."""
    text = CAMPAIGN.format(name=name, seeds=list(range(experiments)), cycles=cycles, more=more)
    return plan(loads(text, catalogue_dir=data_folder() / "images"))
