"""Random sequences of everything that can happen to a daemon, against the real store and the daemon's own logic.

At every step: no two attempts on a lane, a run is done exactly when a result stands, pause and hours are respected
(`check_begin`), the transition log replays to the state. In the end every attempt has ended and nothing is lost.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lemctl.campaign.plan import Plan
from lemctl.errors import FAULT_KINDS, FaultKind, NotFound, UsageMistake
from lemctl.store.status import CAMPAIGN_OPEN, RUN_ENDED
from small_hours import Host, planned

#: In CI; more by hand. An example has `LENGTH` of them at most, so they are counted.
STEPS = int(os.environ.get("LEM_MODEL_STEPS", "10000"))
LENGTH = 50

_LINES = [
    "",
    'hours: {from: "22:00", to: "07:00", tz: Europe/Berlin}',
    'hours: {from: "02:15", to: "02:45", tz: Europe/Berlin}',
    'hours: [{from: "22:00", to: "02:30", tz: Europe/Berlin}, {from: "02:15", to: "04:00", tz: Europe/Berlin},'
    ' {from: "00:00", to: "24:00", days: [sun], tz: Europe/Berlin}]',
    'hours: {from: "20:00", to: "23:30", days: fri-sun, tz: UTC}\nschedule: "30 2 * * *"',
    "on_failure: pause",
    "retry: {max: 0}\nbreaker: {consecutive: 2, probe: 10m}",
]
#: Each is planned once. A second start attaches or begins anew; it is refused while the campaign was extended.
PLANS: list[Plan] = [
    planned(more, f"night-{n}", experiments=1 + n % 2, cycles=2 + n % 3) for n, more in enumerate(_LINES)
]
#: The same with a cycle more, or with an experiment more: what a campaign of that name may be extended by.
LONGER: list[Plan] = [
    planned(more, f"night-{n}", experiments=1 + n % 2 + wider, cycles=3 + n % 3 - wider)
    for wider in (0, 1)
    for n, more in enumerate(_LINES)
]
NAMES = st.sampled_from([made.name for made in PLANS])
DURATIONS_S = st.sampled_from([0.2, 5.0, 31.0, 600.0, 3600.0, 9 * 3600.0])
FAULTS: st.SearchStrategy[FaultKind] = st.sampled_from(FAULT_KINDS)


def _die_now(host: Host) -> None:
    host.store.die()


#: What happens inside a run, at its loading or in its window; then the main thread ticks.
HAPPENINGS: dict[str, Callable[[Host], None]] = {
    "nothing": lambda _: None,
    "kill": _die_now,
    "terminate": Host.terminate_under_a_run,
    "cancel": lambda host: _ask_all(host, "cancel"),
    "pause": lambda host: _ask_all(host, "pause"),
    "stop": lambda host: _ask_all(host, "stop"),
    "silence": lambda host: host.faults.insert(0, "silent"),
    "clock forward": lambda host: host.clock.set_wall(3600),
    "clock back": lambda host: host.clock.set_wall(-3600),
    "suspend": lambda host: host.clock.suspend(1800),
    "engine away": lambda host: setattr(host, "engine_is_away", True),
    "disk full": lambda host: setattr(host.store, "is_full", True),
    "long": lambda host: host.clock.advance(4 * 3600),
}


def _ask_all(host: Host, verb: Any) -> None:
    for (name,) in host.rows("SELECT name FROM campaigns WHERE status = 'Active'"):
        host.ask_only(verb, campaign=name)


class Nights(RuleBasedStateMachine):
    """One host and what happens to it."""

    template: Path
    #: After each of them, and once before the first of an example, it is seen whether all is sound.
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).steps -= 1
        self.folder = Path(tempfile.mkdtemp(prefix="model-", dir=self.template.parent))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        self.host = Host(self.folder)

    @rule(chosen=st.lists(st.sampled_from(PLANS), min_size=1, max_size=3, unique_by=lambda made: made.name))
    def start(self, chosen: list[Plan]) -> None:
        for made in chosen:
            try:
                self.host.add(made)
            except UsageMistake:
                campaign = self.host.campaign(made.name)
                assert campaign.plan_hash != made.hash, f"{campaign.label} has this plan, and it is refused"

    @rule(which=st.integers(0, 6), by=st.integers(0, 2))
    def extend(self, which: int, by: int) -> None:
        """What is done stays done, and everything that the plan has is there."""
        names = self.host.rows("SELECT name FROM campaigns GROUP BY name ORDER BY max(id) DESC")
        name = names[which % len(names)][0] if names else PLANS[0].name
        made = [made for made in [*PLANS, *LONGER] if made.name == name][by]
        done = self.host.rows("SELECT id FROM runs WHERE status = 'Done'")
        try:
            added = self.host.extend(made)
        except NotFound:
            assert self.host.rows("SELECT 1 FROM campaigns WHERE name = ?", made.name) == []
            return
        except UsageMistake:  # two of that name are open
            assert self.host.rows("SELECT 1 FROM campaigns WHERE name = ? AND ended_utc IS NULL", made.name)
            return
        assert self.host.rows("SELECT id FROM runs WHERE status = 'Done'") == done
        assert not added.new_runs or added.campaign.status.kind in CAMPAIGN_OPEN
        has = {
            (experiment, cycle)
            for experiment, cycle in self.host.rows(
                "SELECT experiment, cycle FROM runs WHERE campaign_id = ?", self.host.campaign(made.name).id
            )
        }
        assert has >= {(made.experiments[run.experiment].hash, run.cycle) for run in made.runs}
        self.host.tick()

    @rule(which=st.integers(0, 6), priority=st.integers(-1, 2), after=st.one_of(st.none(), NAMES))
    def prioritise(self, which: int, priority: int, after: str | None) -> None:
        """Of what waits, the newest first. `Host` sees to it that the line goes by it."""
        waiting = self.host.rows(
            "SELECT name || '#' || number FROM campaigns WHERE status = 'Waiting' ORDER BY id DESC"
        )
        if waiting:
            (label,) = waiting[which % len(waiting)]
            self.host.ask_only("prioritise", campaign=label, priority=priority, after=after)
        self.host.tick()

    @rule(times=st.integers(1, 3), happens=st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=2))
    def tick(self, times: int, happens: list[str]) -> None:
        self.host.script = [HAPPENINGS[name] for name in happens]
        self.host.tick(times)
        self.host.script.clear()

    @rule(seconds=DURATIONS_S)
    def wait(self, seconds: float) -> None:
        self.host.clock.advance(seconds)
        self.host.tick()

    @rule()
    def wait_for_the_alarm(self) -> None:
        self.host.pass_time()
        self.host.tick()

    @rule(faults=st.lists(FAULTS, min_size=1, max_size=3))
    def make_runs_fail(self, faults: list[FaultKind]) -> None:
        self.host.faults = faults
        self.host.tick()

    @rule(run_s=DURATIONS_S)
    def make_runs_last(self, run_s: float) -> None:
        self.host.run_s = run_s

    @rule(name=NAMES, verb=st.sampled_from(["resume", "stop", "cancel", "pause"]))
    def ask(self, name: str, verb: Any) -> None:
        self.host.ask_only(verb, campaign=name)
        self.host.tick()

    @rule(name=NAMES, for_s=DURATIONS_S)
    def pause_for(self, name: str, for_s: float) -> None:
        self.host.ask_only("pause", campaign=name, for_s=for_s)
        self.host.tick()

    @rule(name=NAMES, kind=st.one_of(st.none(), FAULTS))
    def retry(self, name: str, kind: str | None) -> None:
        self.host.ask_only("retry", campaign=name, where={"kind": kind} if kind else None)
        self.host.tick()

    @rule(run=st.integers(1, 12))
    def skip(self, run: int) -> None:
        self.host.ask_only("skip", run=run)
        self.host.tick()

    @rule()
    def kill(self) -> None:
        self.host.kill()

    @rule(is_asked=st.booleans())
    def end_orderly(self, is_asked: bool) -> None:
        """SIGTERM, or `daemon stop`; `Host` holds the daemon to what it may leave behind."""
        if is_asked:
            self.host.ask_only("shutdown")
            self.host.tick()
        else:
            self.host.terminate()

    @rule(commits=st.integers(1, 8), after=st.booleans())
    def die_at_a_commit(self, commits: int, after: bool) -> None:
        self.host.store.dies_in, self.host.store.dies_after_it = commits, after
        self.host.tick(2)
        self.host.store.dies_in = None

    @rule(seconds=st.sampled_from([0.0, 60.0, 8 * 3600.0]))
    def reboot(self, seconds: float) -> None:
        self.host.reboot(seconds)

    @rule(seconds=st.sampled_from([-7200.0, -3600.0, 3600.0, 7200.0]))
    def set_the_clock(self, seconds: float) -> None:
        self.host.clock.set_wall(seconds)
        self.host.tick()

    @rule(seconds=DURATIONS_S)
    def suspend(self, seconds: float) -> None:
        self.host.clock.suspend(seconds)
        self.host.tick()

    @rule(is_away=st.booleans())
    def container_engine(self, is_away: bool) -> None:
        self.host.engine_is_away = is_away
        self.host.tick()

    @rule(is_full=st.booleans())
    def disk(self, is_full: bool) -> None:
        self.host.disk_is_full = is_full
        self.host.tick()

    @invariant()
    def is_sound(self) -> None:
        self.host.audit()
        type(self).steps += 1

    def teardown(self) -> None:
        try:
            self._end_well()
        finally:
            self.host.store.close()
            shutil.rmtree(self.folder)

    def _end_well(self) -> None:
        """Nothing more happens, and a person lets everything go on: then everything ends."""
        host = self.host
        host.engine_is_away = host.disk_is_full = False
        host.faults, host.run_s, host.script = [], 1.0, []
        host.tick(3)
        host.rows("SELECT 1")
        with host.store.transaction() as tx:
            tx.execute("UPDATE schedules SET ended_utc = '2030-01-01' WHERE ended_utc IS NULL")
        for _ in range(4_000):
            for label, status in host.rows("SELECT name || '#' || number, status FROM campaigns"):
                if status in ("Paused", "Stopped"):
                    host.ask("resume", campaign=label)
            if not host.rows("SELECT 1 FROM campaigns WHERE status NOT IN ('Finished', 'Cancelled')"):
                break
            host.tick()
            if not self._only_too_long():
                host.pass_time()
            else:
                break
        else:
            raise AssertionError(f"not all campaigns end; the daemon waits for {host.daemon.waits_for}")
        host.tick(2)
        host.audit_rest()
        assert host.rows("SELECT 1 FROM attempts WHERE outcome IS NULL") == []
        left = host.rows(
            "SELECT DISTINCT r.status FROM runs r JOIN campaigns c ON c.id = r.campaign_id"
            " WHERE c.status IN ('Finished', 'Cancelled')"
        )
        assert {status for (status,) in left} <= RUN_ENDED

    def _only_too_long(self) -> bool:
        """What is left is longer than its hours, and was said to be, or waits for such a one."""
        reasons = self.host.rows(
            "SELECT json_extract(status_data, '$.reason') FROM campaigns"
            " WHERE status NOT IN ('Finished', 'Cancelled') AND id NOT IN (SELECT id FROM temp.held_back)"
        )
        return bool(reasons) and all(reason and "longer than its hours" in reason for (reason,) in reasons)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_happens_the_state_stays_sound_and_everything_ends(tmp_path: Path) -> None:
    """10,000 steps, counted."""
    Nights.template = tmp_path / "template"
    Host(Nights.template).store.close()
    # Hypothesis' own profile for CI would give every round the same examples.
    how = settings(
        max_examples=40, stateful_step_count=LENGTH, derandomize=False, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    Nights.steps = 0
    while Nights.steps < STEPS:
        run_state_machine_as_test(Nights, settings=how)
