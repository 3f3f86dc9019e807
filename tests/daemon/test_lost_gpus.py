"""A GPU that is lost is kept out and told of, whenever it is lost; one command lets it in again, whenever it is given.

The daemon's own ticks on a clock that the test moves, with a lane whose device fails when it is told to.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lemctl.daemon.gpu_loss import refuse_kept_out
from lemctl.daemon.instruments import MetersFailed, NoSensors
from lemctl.daemon.lanes import Lane
from lemctl.store import samples
from lemctl.store.campaigns import Campaign
from small_hours import FaultyExecutor, Host, planned

GPU = "GPU-a"
TOLD = "notify: {urls_from: LEM_NOTIFY_T, on: [finished, gpu_lost]}\nretry: {max: 0}"


class GpuHost(Host):
    """A host whose lane has one GPU, with locks and sensors left out."""

    #: What the lane's meters are found to be, at its opening and at each look while no run is under way.
    meters: MetersFailed | None = None
    fails_at_opening = False

    def start(self) -> None:
        super().start()
        self.opened_at_s: list[float] = []
        self.daemon.lane_for = self._lane_for
        self._lane: Lane | None = None

    def _lane_for(self, campaign: Campaign, spec: dict[str, Any]) -> Lane:
        refuse_kept_out(self.store, campaign, (GPU,))
        if self._lane is None or self._lane.closed:
            self.opened_at_s.append(self.clock.monotonic_ns() / 1e9)
            with self.store.transaction() as tx:
                samples.know_device(tx, GPU, {})
            if self.meters is not None and self.fails_at_opening:
                raise self.meters
            sensors = Meters(self)
            self._lane = Lane("gpu", (GPU,), self.store, self.clock, FaultyExecutor(self), sensors, "boot-1")
        return self._lane

    def add_named(self, name: str, cycles: int) -> None:
        """Start a campaign of one experiment whose people want to be told."""
        self.add(planned(TOLD, name, cycles=cycles))

    def kept_out(self) -> list[tuple[Any, ...]]:
        """UUID and reason of the GPUs that are kept out."""
        return self.rows("SELECT uuid, quarantine_reason FROM devices WHERE quarantined_utc IS NOT NULL")

    def told(self) -> list[tuple[Any, ...]]:
        """Events and titles of what people are told."""
        return self.rows("SELECT event, title FROM outbox ORDER BY id")


class Meters(NoSensors):
    """Meters that fail when the host says so."""

    def __init__(self, host: GpuHost):
        super().__init__("a test", host.clock.monotonic_ns)
        self._host = host

    def obstacle(self) -> str | None:
        if self._host.meters is not None:
            raise self._host.meters
        return None


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GpuHost]:
    made = GpuHost(tmp_path)
    yield made
    made.audit()
    made.store.close()


def finish(host: GpuHost, cycles: int = 1) -> None:
    """A campaign that loses its GPU in its last run."""
    host.add_named("night", cycles)
    host.until(lambda: len(host.outcomes()) == cycles - 1, "all runs but the last one")
    host.faults = ["gpu_lost"]
    host.until(lambda: host.campaign().status.kind == "Finished", "the campaign's end")


def test_a_gpu_lost_in_the_last_run_is_told_and_a_finished_campaigns_resume_lets_it_in(host: GpuHost) -> None:
    finish(host, cycles=2)
    assert host.outcomes() == [("ok", None), ("failed", "gpu_lost")]
    assert host.kept_out() == [(GPU, "made to fail with gpu_lost")]
    assert host.told() == [("gpu_lost", "night has lost a GPU"), ("finished", "night has finished")]
    ((body,),) = host.rows("SELECT body FROM outbox WHERE event = 'gpu_lost'")
    assert body.startswith(f"{GPU} is kept out (made to fail with gpu_lost): look after it, then `lemctl campaign")
    assert "`lemctl campaign resume night` lets it in again; 1 of 2 runs done" in body

    answer = host.ask("resume", campaign="night")
    assert (answer.exit_code, host.kept_out()) == (0, [])
    assert answer.text.startswith(f"night is finished; GPU {GPU} is let in again: `lemctl campaign retry night --fai")
    again = host.ask("resume", campaign="night")
    assert again.exit_code == 2, "there was nothing to let in"


def test_a_campaign_that_waits_for_a_kept_out_gpu_begins_at_once_when_it_is_resumed(host: GpuHost) -> None:
    finish(host)
    host.add_named("next", 1)
    host.tick(5)
    assert host.daemon.waits_for is not None
    assert "`lemctl campaign resume next` lets it in" in host.daemon.waits_for
    answer = host.ask("resume", campaign="next")
    assert (answer.exit_code, answer.text) == (0, f"next is not paused; GPU {GPU} is let in again")
    host.tick()
    assert host.statuses("next") == ["Done"]


def test_a_gpu_lost_with_runs_left_pauses_its_campaign_until_a_person_resumes(host: GpuHost) -> None:
    host.add_named("night", 3)
    host.faults = ["gpu_lost"]
    host.until(lambda: host.campaign().status.kind == "Paused", "the pause")
    assert host.told() == [("gpu_lost", "night has lost a GPU")]
    assert host.ask("resume", campaign="night").text == f"night goes on, 2 runs left; GPU {GPU} is let in again"
    host.until(lambda: host.campaign().status.kind == "Finished", "the campaign's end")
    assert host.statuses() == ["Failed", "Done", "Done"]


def test_no_death_of_the_daemon_parts_a_loss_from_its_pause_and_its_message(tmp_path: Path) -> None:
    seen = set()
    for commits in range(12, 24):
        host = GpuHost(tmp_path / str(commits))
        host.add_named("night", 2)
        host.faults = ["gpu_lost"]
        host.store.dies_in, host.store.dies_after_it = commits, True
        host.tick()
        is_lost = ("failed", "gpu_lost") in host.outcomes()
        assert (host.kept_out() != []) == is_lost
        assert (host.told() != []) == is_lost
        assert (host.campaign().status.kind == "Paused") == is_lost
        seen.add(is_lost)
        host.store.close()
    assert seen == {True, False}, "the deaths were all on one side of the loss"


def test_a_gpu_lost_while_a_person_pauses_is_told_all_the_same(host: GpuHost) -> None:
    host.add_named("night", 2)
    host.faults = ["gpu_lost"]
    host.script = [lambda _: None, lambda h: h.ask_only("pause", campaign="night", reason="lunch")]
    host.until(lambda: host.campaign().status.kind == "Paused", "the pause")
    host.tick(3)
    assert host.told() == [("gpu_lost", "night has lost a GPU")]
    assert host.campaign().status.model_dump()["reason"] == "lunch"
    assert host.kept_out() != []


@pytest.mark.parametrize("fails_at_opening", [True, False])
def test_a_gpu_lost_between_runs_is_kept_out_and_told_once(host: GpuHost, fails_at_opening: bool) -> None:
    host.add_named("night", 2)
    host.until(lambda: len(host.outcomes()) == 1, "the first run")
    if fails_at_opening:
        assert host.daemon.lane is not None
        host.daemon.lane.close("as if another lane had been due")
    host.meters = MetersFailed("gpu_lost", "GPU-a is lost (power)", (GPU,))
    host.fails_at_opening = fails_at_opening
    host.tick(600)
    assert host.outcomes() == [("ok", None)], "a run began without its GPU"
    assert host.kept_out() == [(GPU, "GPU-a is lost (power)")]
    assert host.campaign().status.model_dump()["reason"] == "a GPU was lost: look after it, then resume"
    assert host.told() == [("gpu_lost", "night has lost a GPU")]
    assert len(host.opened_at_s) == (2 if fails_at_opening else 1)

    host.meters = None
    assert host.ask("resume", campaign="night").text == f"night goes on, 1 run left; GPU {GPU} is let in again"
    host.until(lambda: host.campaign().status.kind == "Finished", "the campaign's end")
    assert host.statuses() == ["Done", "Done"]


@pytest.mark.parametrize("fails_at_opening", [True, False])
def test_meters_that_end_between_runs_are_tried_again_ever_more_rarely(host: GpuHost, fails_at_opening: bool) -> None:
    host.meters = MetersFailed("infra", "the GPU sampler ended: code -9", (GPU,))
    host.fails_at_opening = fails_at_opening
    host.add_named("night", 1)
    host.tick(1500)  # five minutes
    gaps_s = [later - earlier for earlier, later in pairwise(host.opened_at_s)]
    assert gaps_s == pytest.approx([5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0], abs=0.5)
    assert str(host.daemon.waits_for).startswith("night: infra: the GPU sampler ended: code -9; tried again at ")
    assert (host.outcomes(), host.kept_out(), host.told()) == ([], [], [])

    host.ask("resume", campaign="night")
    host.tick()
    assert host.clock.monotonic_ns() / 1e9 - host.opened_at_s[-1] < 2.0, "a person's resume is not waited with"
    host.meters = None
    host.until(lambda: host.campaign().status.kind == "Finished", "the campaign's end, by itself", 400)
    assert host.statuses() == ["Done"]
