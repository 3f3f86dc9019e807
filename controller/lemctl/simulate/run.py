"""Run a plan in simulation, from the store to the verdicts, and return the campaign's exit code."""

from __future__ import annotations

import hashlib
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lem_runner.protocol import canonical_json
from lemctl.campaign.hours import zone_name
from lemctl.clock import SimulatedClock
from lemctl.daemon.alarm import ClockAlarm
from lemctl.daemon.experiment import World
from lemctl.daemon.lanes import Lane
from lemctl.daemon.locks import FileLock
from lemctl.daemon.recovery import recover
from lemctl.daemon.serve import POLL_S, Daemon
from lemctl.engines.sources import sources_of
from lemctl.errors import Locked, RunsFailed
from lemctl.paths import Home
from lemctl.simulate.device import DeviceModel, SimulatedGpu
from lemctl.simulate.engine import PROMPT_TOKENS, SimulatedExecutor
from lemctl.simulate.instruments import SimulatedInstruments
from lemctl.simulate.sampler import FAST_S, GPU, SimulatedSampler
from lemctl.steps import Step, Tell, unheard
from lemctl.store import campaigns, read_runs, schedules
from lemctl.store.campaigns import Added, Campaign
from lemctl.store.database import Store, Transaction
from lemctl.store.status import CampaignCancelled, CampaignPaused

if TYPE_CHECKING:
    from lemctl.campaign.plan import Plan

#: A rehearsal that was ended, or paused by its breaker, is not gone on with: each begins on its own.
ANOTHER = "another simulation was started"


@dataclass(frozen=True)
class _Nowhere:
    """Nothing is read from disk in a simulation; its prompts are named by what would choose them."""

    prompts_sha256: str
    sources: dict[str, Any]
    model_path = None
    tokenizer = None
    trace_sha256 = None

    @property
    def prompts(self) -> Path:
        """A name that tells apart."""
        return Path(f"/simulated/{self.prompts_sha256}.jsonl")

    @property
    def trace(self) -> Path:
        """As the prompts; who plays it has its arrivals."""
        return self.prompts.with_suffix(".txt")


def run_campaign(
    plan: Plan,
    source: str,
    home: Home,
    seed: int = 0,
    faults: bool = False,
    sample_s: float = FAST_S,
    tell: Tell = unheard,
) -> int:
    """Simulate a whole campaign in `home`; 0, or the code of `RunsFailed` when runs failed. `sample_s`: the period of
    the samples while a run is measured."""
    clock = SimulatedClock(datetime.now(UTC).replace(hour=22, minute=0, second=0, microsecond=0))
    rng = random.Random(f"{plan.hash}:{seed}")  # noqa: S311 - repeatable, not secret
    with Store.open(home, "write") as store, _alone(home):
        recover(store, [], clock)
        with store.transaction() as tx:
            for earlier in campaigns.open_campaigns(tx):
                campaigns.cancel_queued(tx, earlier, ANOTHER, clock, "daemon")
                campaigns.close(tx, earlier, CampaignCancelled(reason=ANOTHER), clock, "daemon")
            added = campaigns.add_campaign(tx, plan, source, "simulate", clock, store.host_id())
            _begin_by_schedule(tx, added, clock)
        daemon = _daemon(store, clock, rng, faults, sample_s)
        while not _is_over(store, added.campaign):
            daemon.tick()
            if tell is not unheard:
                tell(_so_far(store, added.campaign))
            pass_time(daemon, clock)
        if daemon.lane is not None:
            daemon.lane.close("the simulation ends")
        failed = read_runs.count_by_status(store.connection, added.campaign).get("Failed", 0)
    return RunsFailed.exit_code if failed else 0


def pass_time(daemon: Daemon, clock: SimulatedClock) -> None:
    """On to the next tick: a poll later, or at once to the alarm, when nothing can begin before it rings."""
    alarm = daemon.alarm
    if daemon.is_at_rest and isinstance(alarm, ClockAlarm) and alarm.at is not None:
        clock.advance((alarm.at - clock.utc()).total_seconds())
    clock.wait(daemon.wake, POLL_S)
    daemon.wake.clear()


def _so_far(store: Store, campaign: Campaign) -> Step:
    counts = read_runs.count_by_status(store.connection, campaign)
    left = sum(counts.get(status, 0) for status in ("Queued", "Starting", "Cooling", "Running"))
    return Step(f"simulating {campaign.label}", sum(counts.values()) - left, sum(counts.values()), "runs")


def _begin_by_schedule(tx: Transaction, added: Added, clock: SimulatedClock) -> None:
    """A campaign with a schedule begins at its first hour in a rehearsal, too."""
    document = added.campaign.document
    if document["schedule"] is not None:
        cron, tz = document["schedule"], zone_name(document)
        schedules.add(tx, added.campaign.id, added.campaign.name, clock, cron=cron, tz=tz)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One simulation at a time in a state folder. Raises `Locked`."""
    try:
        lock = FileLock.take(home.daemon_lock, str(os.getpid()))
    except Locked as locked:
        raise Locked(f"another simulation is under way ({locked}); it takes seconds, then try again") from None
    try:
        yield
    finally:
        lock.release()


def _daemon(store: Store, clock: SimulatedClock, rng: random.Random, faults: bool, sample_s: float) -> Daemon:
    # Each rehearsal's clock begins anew: a boot of its own keeps its samples apart from those of the one before.
    boot_id = f"simulated-{uuid.uuid4().hex}"
    gpu = SimulatedGpu(DeviceModel(), rng, clock.monotonic_ns() / 1e9)
    executor = SimulatedExecutor(clock, gpu, rng, faults)
    instruments = SimulatedInstruments(gpu, clock, SimulatedSampler(gpu, store, boot_id, sample_s))
    lane = Lane("gpu-simulated", (GPU,), store, clock, executor, instruments, boot_id)

    def lane_for(campaign: Campaign, spec: dict[str, Any]) -> Lane:  # noqa: ARG001
        return lane

    def locate(spec: dict[str, Any]) -> _Nowhere:
        workload = spec["workload"]
        names = ("dataset", "prompts", "seed", "template", "select", "lengths")
        chosen = {name: workload[name] for name in names if name in workload}
        found = _Nowhere(
            hashlib.sha256(canonical_json(chosen).encode()).hexdigest(), sources_of(spec, None, None, "no engine ran")
        )
        tokens_in = workload["dataset"].get("input_len") or PROMPT_TOKENS
        executor.inputs[str(found.prompts)] = (tokens_in, _evenly(workload["load"].get("trace")))
        return found

    world = World("simulated", locate, lambda spec: spec["model"]["config"], lambda opened: [])  # noqa: ARG005
    return Daemon(store, clock, world, lane_for, pid=0, inline=True)


def _evenly(trace: dict[str, Any] | None) -> list[float]:
    """As many arrivals as a trace has, over as long a time: its own moments are not read."""
    if trace is None:
        return []
    return [trace["span_s"] * number / (trace["arrivals"] - 1) for number in range(trace["arrivals"])]


def _is_over(store: Store, campaign: Campaign) -> bool:
    """Ended, or paused for good: nobody is there to resume it."""
    status = campaigns.by_id(store.connection, campaign.id).status
    goes_on = isinstance(status, CampaignPaused) and status.until_utc is not None
    return status.kind not in ("Waiting", "Active") and not goes_on
