"""The daemon's tick. The main thread ticks; a lane's worker thread does one run at a time.

    tick: chores (messages that wait to be sent, ...) -> answer commands -> see what the worker has done
          -> whose turn is it -> is its lane free -> next run -> work -> heartbeat

Signal handlers only set flags. The loop sleeps until somebody writes to the database (seen at 5 Hz, at 2 Hz after a
rest), a worker is done, or the heartbeat is due.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from lemctl import __version__
from lemctl.cancel import Cancel
from lemctl.clock import Clock, utc_text
from lemctl.daemon.adaptive import skip_what_is_precise
from lemctl.daemon.alarm import Alarm, ClockAlarm
from lemctl.daemon.breaker import judge_campaign
from lemctl.daemon.deep_idle import close_campaign, is_closing_due
from lemctl.daemon.disk import Boundless, Disk
from lemctl.daemon.experiment import World, run_experiment
from lemctl.daemon.lanes import Lane
from lemctl.daemon.obey import UnderWay, obey
from lemctl.daemon.obstacles import LaneFor, Obstacles
from lemctl.daemon.recovery import interrupt_all
from lemctl.daemon.schedule import begin_what_is_due
from lemctl.daemon.turn import next_turn
from lemctl.errors import DiskFull, LemctlError
from lemctl.store import campaigns, commands, live
from lemctl.store.commands import Answer, AskedCommand
from lemctl.store.database import Store
from lemctl.store.queue import QueuedRun

POLL_S = 0.2
#: A look costs a cold processor: after a rest of some seconds, in which nobody wrote, there are fewer.
REST_POLL_S, RESTED_S = 0.5, 10.0
HEARTBEAT_S = 5.0
#: Between two tries to write to a disk that is full.
DISK_FULL_PAUSE_S = 2.0
#: An idle lane keeps its session this long, in case a campaign follows that can use it; longer when a run of the
#: active campaign is only held back. Both are well below the runner's lease, which nobody touches meanwhile.
LINGER_S = 2.0
LINGER_HELD_BACK_S = 30.0
#: An alarm oversleeps where the clock was set or the host slept: so often it is looked without one.
LOOK_AGAIN_S = 30.0

#: What a worker does with a run on its lane, until it is told to end.
Task = Callable[[QueuedRun, Lane, Cancel], None]


@dataclass
class Work:
    """A run that a worker has in hand."""

    run: QueuedRun
    cancel: Cancel
    thread: threading.Thread
    failure: BaseException | None = None
    is_done: bool = False


class Flag:
    """Set once, from any thread and from a signal handler: a `threading.Event` takes a lock there that the interrupted
    thread may hold."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """For good."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether anybody did."""
        return self._is_set


class Chore(Protocol):
    """Something that the daemon does beside its runs. Neither method may wait."""

    def tick(self) -> None:
        """One look."""
        ...

    def close(self) -> None:
        """The daemon ends."""
        ...


@dataclass
class Daemon:
    """State between ticks. All times are the clock's."""

    store: Store
    clock: Clock
    world: World
    lane_for: LaneFor
    pid: int
    disk: Disk = field(default_factory=Boundless)
    #: Why the host's memory does not suffice for another run; a simulation needs none.
    memory_lack: Callable[[], str | None] = lambda: None
    #: Work in the ticking thread: a simulation has one order of events.
    inline: bool = False
    chores: Sequence[Chore] = ()
    wake: threading.Event = field(default_factory=threading.Event)
    leave: Flag = field(default_factory=Flag)
    #: Rings when a schedule, the end of a pause, a retry or an opening hour is due.
    alarm: Alarm | None = None
    lane: Lane | None = None
    work: Work | None = None
    waits_for: str | None = None
    _open: list[AskedCommand] = field(default_factory=list)
    _shutdowns: list[AskedCommand] = field(default_factory=list)
    _started_utc: str = ""
    _beat_ns: int | None = None
    _seen: int = -1
    _idle_since_ns: int | None = None
    #: Nothing can begin and no lane is held: there is nothing to do until somebody writes or the alarm rings.
    _at_rest: bool = False
    #: When there was last something to do, or somebody wrote.
    _busy_ns: int = 0
    _looked_ns: int | None = None
    _told: tuple[str, str | None] = ("", None)
    _obstacles: Obstacles = field(init=False)

    def __post_init__(self) -> None:
        self._obstacles = Obstacles(self.store, self.clock, self.disk, self.memory_lack)

    def serve(self) -> None:
        """Tick until told to leave; then end what is under way, so that it goes back to the queue."""
        self._started_utc = utc_text(self.clock.utc())
        try:
            while not self.leave.is_set():
                self._tick_or_make_room()
                self._sleep()
        finally:
            self._wind_up()

    def _tick_or_make_room(self) -> None:
        """A full disk ends no daemon: what could not be written is written when there is room."""
        try:
            self.tick()
        except DiskFull as full:
            if not self.disk.make_room():
                self.waits_for = str(full)
                self.clock.wait(self.wake, DISK_FULL_PAUSE_S)

    def tick(self) -> None:
        """One look at everything. Raises `CannotGoOn`."""
        for chore in self.chores:
            chore.tick()
        news = self._take_commands()
        is_due = self._begin_what_is_due()
        self._collect()
        self._answer_commands()
        if news or is_due or not self.is_at_rest:
            if self.work is None and not self.leave.is_set():
                self._start_next()
            if news or is_due or self.waits_for is None:
                self._busy_ns = self.clock.monotonic_ns()
        self._beat()

    def _take_commands(self) -> bool:
        """Take what was asked; whether anybody has written since the last look."""
        version = self.store.data_version()
        if version == self._seen:
            return False
        with self.store.transaction() as tx:
            taken = commands.take(tx, self.clock)
        self._seen = version
        self._open += [command for command in taken if command.verb != "shutdown"]
        self._shutdowns += [command for command in taken if command.verb == "shutdown"]
        if self._shutdowns:
            self.leave.set()
        return True

    def _answer_commands(self) -> None:
        """Carry out what is asked; what has not happened yet is kept and asked again at the next tick."""
        kept = []
        for command in self._open:
            with self.store.transaction() as tx:
                answer = obey(tx, command, self.clock, self._under_way())
                if answer is None:
                    kept.append(replace(command, is_begun=True))
                else:
                    commands.answer(tx, command.id, answer, self.clock)
                    if command.verb == "resume":
                        self._obstacles.hurry()
        self._open = kept

    def _under_way(self) -> UnderWay | None:
        if self.work is None:
            return None
        return UnderWay(self.work.run.id, self.work.run.campaign.id, self.work.cancel)

    def _collect(self) -> None:
        """Take back a lane whose worker is done, and judge whether its campaign should go on."""
        if self.work is None or not self.work.is_done:
            return
        if isinstance(self.work.failure, DiskFull):
            self._put_right()
            return
        work = self.work
        self._join(work)
        self._at_rest = False
        if work.failure is not None:
            self.work = None
            raise work.failure
        with self.store.transaction() as tx:
            campaign = campaigns.by_id(tx, work.run.campaign.id)
            judge_campaign(tx, campaign, self.clock)
            skip_what_is_precise(tx, campaign, work.run.cycle, self.clock)
            campaign = campaigns.by_id(tx, campaign.id)
            is_over = not campaigns.has_runs_left(tx, campaign)
            is_closing = is_over and not self.leave.is_set() and is_closing_due(self.lane, campaign)
            if not is_closing:
                campaigns.settle(tx, campaign, self.clock)
        self.work = None
        if is_closing:
            self._begin(work.run, close_campaign)

    def _put_right(self) -> None:
        """Not even the attempt's end could be written. Raises `DiskFull` until it can: then it is tried again."""
        self.disk.make_room()
        if self.lane is not None:
            lane, self.lane = self.lane, None
            lane.close("the disk is full")
        interrupt_all(self.store, self.clock, "the disk is full")
        self.work = None
        self._at_rest = False

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing can begin before somebody writes or the alarm rings."""
        return self._at_rest and self.work is None

    def _begin_what_is_due(self) -> bool:
        """Schedules and ends of pauses, also while a run is under way: what is due then finds its campaign unfinished.
        Whether it was looked."""
        now_ns = self.clock.monotonic_ns()
        is_late = self._looked_ns is None or now_ns - self._looked_ns > LOOK_AGAIN_S * 1e9
        if not self._alarm().has_rung() and not is_late:
            return False
        self._looked_ns = now_ns
        with self.store.transaction() as tx:
            again = begin_what_is_due(tx, self.clock)
        self._alarm().set(again)
        return True

    def _alarm(self) -> Alarm:
        if self.alarm is None:
            self.alarm = ClockAlarm(self.clock)
        return self.alarm

    def _start_next(self) -> None:
        with self.store.transaction() as tx:
            turn = next_turn(tx, self.clock, self.lane)
        if turn.has_moved:
            self.wake.set()
            return
        self._at_rest = turn.run is None and self.lane is None
        self._alarm().set(turn.again)
        if turn.run is None or turn.campaign is None:
            self.waits_for = turn.waits_for
            self._let_go(LINGER_S if turn.campaign is None else LINGER_HELD_BACK_S)
            return
        found = self._obstacles.find(turn.campaign, turn.run.spec, self.lane, self.lane_for)
        self.lane, self.waits_for = found
        if self.waits_for is None:
            self._idle_since_ns = None
            self._begin(turn.run, self._experiment)
        else:
            self._let_go(LINGER_HELD_BACK_S)

    def _experiment(self, run: QueuedRun, lane: Lane, cancel: Cancel) -> None:
        run_experiment(run, lane, self.world, cancel)

    def _begin(self, run: QueuedRun, task: Task) -> None:
        assert self.lane is not None
        lane, cancel = self.lane, Cancel()

        def do() -> None:
            try:
                task(run, lane, cancel)
            except BaseException as error:  # noqa: BLE001 - carried to the main thread, which decides
                work.failure = error
            finally:
                if not self.inline:
                    self.store.leave_thread()
                work.is_done = True
                self.wake.set()

        work = Work(run, cancel, threading.Thread(target=do, name=f"lane-{lane.name}", daemon=True))
        self.work = work
        if self.inline:
            do()
        else:
            work.thread.start()

    def _join(self, work: Work) -> None:
        """Wait for its worker, where it has one of its own."""
        if not self.inline:
            work.thread.join()

    def _let_go(self, linger_s: float) -> None:
        """Nothing to do: after a while the engine is ended and the device given back."""
        now_ns = self.clock.monotonic_ns()
        if self.lane is None:
            return
        if self._idle_since_ns is None:
            self._idle_since_ns = now_ns
        elif now_ns - self._idle_since_ns > linger_s * 1e9:
            self.lane.close("no run can start")
            self.lane = None
            self._idle_since_ns = None

    def _beat(self) -> None:
        """Tell `status` that the daemon lives, and what it waits for."""
        now_ns = self.clock.monotonic_ns()
        state = "running" if self.work else "waiting" if self.waits_for else "idle"
        told = (state, self.waits_for)
        if self._beat_ns is not None and now_ns - self._beat_ns < HEARTBEAT_S * 1e9 and told == self._told:
            return
        self._beat_ns, self._told = now_ns, told
        self._tell(state)

    def _tell(self, state: str) -> None:
        document = {
            "pid": self.pid,
            "version": __version__,
            "started_utc": self._started_utc,
            "heartbeat_utc": utc_text(self.clock.utc()),
            "state": state,
            "waits_for": self.waits_for,
        }
        with self.store.transaction() as tx:
            live.put(tx, "daemon", document, self.clock)

    def _sleep(self) -> None:
        has_rested = self.clock.monotonic_ns() - self._busy_ns > RESTED_S * 1e9
        self.clock.wait(self.wake, REST_POLL_S if has_rested else POLL_S)
        self.wake.clear()

    def _wind_up(self) -> None:
        """End the run under way (it goes back to the queue), the engine, and answer whoever asked for the end."""
        for chore in self.chores:
            chore.close()
        try:
            with suppress(DiskFull):  # only `status` lacks it: what is under way is ended all the same
                self._tell("leaving")
            if self.work is not None:
                self.work.cancel.set("interrupted", "the daemon was asked to end")
                self._join(self.work)
                self.work = None
            if self.lane is not None:
                self.lane.close("the daemon ends")
                self.lane = None
            self._alarm().close()
            with self.store.transaction() as tx:
                for command in [*self._open, *self._shutdowns]:
                    text = "the daemon has ended" if command.verb == "shutdown" else "the daemon was asked to end first"
                    commands.answer(tx, command.id, Answer(0 if command.verb == "shutdown" else 6, text), self.clock)
                live.clear(tx)
        except LemctlError:
            return  # nothing can be written any more; the next start finds what was left
