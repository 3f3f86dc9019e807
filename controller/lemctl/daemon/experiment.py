"""One run, one page: open the engine, wait until the device is cool, measure, judge, save.

Whatever happens on the way ends the attempt with an outcome and the run with a status, in one transaction; only what
keeps the daemon from writing its state (`CannotGoOn`) passes through, and then the next start finds the attempt.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lem_runner.protocol import steady_file
from lemctl.cancel import Cancel
from lemctl.clock import ClockMark
from lemctl.daemon.deep_idle import open_campaign
from lemctl.daemon.disk import is_disk_full
from lemctl.daemon.gpu_loss import lose_gpus
from lemctl.daemon.instruments import (
    HOST_TAIL_S,
    BaselineKind,
    BaselineRecord,
    GateRecord,
    GateSpec,
    MetersFailed,
    Watched,
    host_energies,
)
from lemctl.daemon.judging import Judged, judge_attempt, meters_of
from lemctl.daemon.lanes import EngineNeed, Lane, OpenSession, engine_parts
from lemctl.daemon.retries import after_failure, after_interruption
from lemctl.daemon.specs import Located, configuration, reported, resolved, run_spec
from lemctl.daemon.tale import Tale
from lemctl.engines.backends import BACKENDS
from lemctl.engines.entrusted import touch_entrusted
from lemctl.engines.events import Finished
from lemctl.engines.executor import Executor
from lemctl.engines.session import RunnerDied
from lemctl.engines.watchdogs import Limits
from lemctl.errors import (
    CancelledByPerson,
    CannotGoOn,
    DiskFull,
    FaultKind,
    Interrupted,
    Locked,
    PersonsMistake,
    RunFailed,
)
from lemctl.store import moves, read_runs, sessions, works
from lemctl.store.campaigns import skip_cycles
from lemctl.store.moves import Attempt
from lemctl.store.queue import QueuedRun
from lemctl.store.status import Cancelled, Skipped

#: Failures by verdict: the engine is in good order and its figures are kept, flagged.
JUDGED: tuple[FaultKind, ...] = ("invalid", "contaminated")
#: What a full disk looks like from here: a runner that cannot write its events, a container that does not start.
STARVED: tuple[FaultKind, ...] = ("infra", "bad_result")


@dataclass(frozen=True)
class World:
    """What an experiment needs beside its lane: the runner's hash, where models and prompts lie, what the host is."""

    runner_hash: str
    locate: Callable[[dict[str, Any]], Located]
    model_config: Callable[[dict[str, Any]], dict[str, Any] | None]
    environments: Callable[[OpenSession], list[tuple[str, str, str]]]
    back_off_scale: float = 1.0
    #: Which disk has no room for a run, in words.
    disk_lack: Callable[[Executor], str | None] = lambda executor: None  # noqa: ARG005 - as Host gives it
    #: A folder of the model folder, by its name.
    folder_of: Callable[[str], Path] = Path


def run_experiment(run: QueuedRun, lane: Lane, world: World, cancel: Cancel) -> None:
    """One attempt at a run, from Starting to its end."""
    try:
        with lane.store.transaction() as tx:
            attempt = moves.begin_attempt(tx, run.id, lane.name, lane.clock, lane.boot_id, lane.store.host_id())
    except moves.IllegalMove:
        return  # skipped or cancelled by a person since it was chosen
    tale = Tale(lane, run, attempt)
    try:
        judged = _attempt(run, lane, world, cancel, attempt, tale)
        if judged.verdict == "INVALID":
            raise _refused(judged)
        lane.store.with_room(_save, lane, attempt, judged, tale)
    except DiskFull as full:
        _end_for_disk(run, lane, attempt, str(full), tale)
    except (CannotGoOn, Locked):
        lane.end_session("failed", "the daemon cannot go on")
        raise
    except (Interrupted, CancelledByPerson) as end:
        lane.end_session("failed", str(end) or type(end).__name__)
        lane.store.with_room(_end_without_fault, run, lane, attempt, end, tale)
    except RunFailed as found:
        fault = lane.instruments.explained(found, attempt.started_mono_ns)
        if fault.kind not in JUDGED:
            lane.end_session("failed", f"{fault.kind}: {fault.message}")
        if isinstance(found, MetersFailed) or fault.kind == "gpu_lost":
            lane.close(f"{fault.kind}: {fault.message}")
        if fault.kind in STARVED and (lack := world.disk_lack(lane.executor)) is not None:
            _end_for_disk(run, lane, attempt, f"{lack} ({fault.message})", tale)
        else:
            lane.store.with_room(_end_failed, run, lane, world, attempt, fault, tale)
    except Exception as error:  # noqa: BLE001 - the one place: whatever it was, it is recorded and the campaign goes on
        if is_disk_full(error):
            _end_for_disk(run, lane, attempt, str(error), tale)
            return
        lane.end_session("failed", f"internal error: {error}")
        message = (
            str(error) if isinstance(error, PersonsMistake) else f"internal error: {type(error).__name__}: {error}"
        )
        failed = RunFailed("infra", message, traceback.format_exc())
        lane.store.with_room(_end_failed, run, lane, world, attempt, failed, tale)
    finally:
        lane.store.with_room(tale.end)


def _attempt(run: QueuedRun, lane: Lane, world: World, cancel: Cancel, attempt: Attempt, tale: Tale) -> Judged:
    document, spec = run.campaign.document, run.spec

    tale.phase("starting")
    parameters = resolved(spec, document)
    need = engine_need(run, lane, world)
    unloaded = open_campaign(run, lane, cancel, tale.waits_for)
    opened = lane.engine(need, cancel)
    tale.engine(opened)
    with lane.store.transaction() as tx:
        sessions.attach(tx, attempt.id, opened.row)
        for kind, digest, text in world.environments(opened):
            sessions.add_environment(tx, attempt.id, kind, digest, text, lane.clock)

    context = _context(spec, GateSpec(**document["gate"]), opened, attempt, lane, cancel, tale)

    tale.phase("loading")
    asked = configuration(spec, parameters)
    tale.note({"configuration": asked})
    located = world.locate(spec)
    tale.note({"sources": dict(located.sources)})
    runner_spec = run_spec(
        spec, parameters, located, lane.executor.path_of, need.key, lane.instruments.watches_warmup, world.folder_of
    )
    loaded = opened.session.load(attempt.uuid, runner_spec, cancel, tale.on_event)
    opened.is_loaded = True

    with lane.store.transaction() as tx:
        moves.to_cooling(tx, attempt, lane.clock)
    tale.phase("cooling")
    gate = _gate(document, opened, lane, cancel, tale)
    tale.phase("baseline")
    before = _baseline("B2_before", spec, opened, lane, cancel, tale)

    with lane.store.transaction() as tx:
        moves.to_running(tx, attempt, lane.clock)
    tale.phase("warmup")
    mark = ClockMark.now(lane.clock)
    lane.instruments.begin_attempt(attempt.id)
    steady = opened.folder / steady_file(attempt.uuid)
    lane.instruments.watch_warmup(lambda: touch_entrusted(steady), spec["measure"]["warmup"]["max_s"])
    finished = opened.session.go(attempt.uuid, cancel, tale.on_event)
    watched = lane.instruments.end_attempt(finished.result.windows)
    host = {**_host_evidence(mark, lane), "baseline_shift": unloaded.shift}
    tale.phase("baseline")
    after = _baseline("B2_after", spec, opened, lane, cancel, tale)
    lane.instruments.rest()
    watched = _with_host_energy(watched, finished, opened, lane, cancel)

    tale.phase("judging")
    asked["reported"] = reported(finished.result.effective)
    tale.note(_facts(opened, loaded, finished, gate) | {"meters": meters_of(watched)})
    baselines = [unloaded, context, before, after]
    _keep_baselines(lane, attempt, baselines)
    peaks = lane.instruments.peaks(str(finished.result.effective.get("dtype", "")))
    watched = replace(watched, quantities={**peaks, **watched.quantities})
    targets_s = document.get("targets_s")
    judged = judge_attempt(
        spec, located, world.model_config(spec), finished, gate, baselines, watched, host, asked, targets_s
    )
    tale.judged = judged
    tale.note({"latency": judged.latency})
    return judged


def engine_need(run: QueuedRun, lane: Lane, world: World) -> EngineNeed:
    """What this run asks of its lane. Raises `RunFailed` where the place cannot be named (no engine, no image)."""
    document, spec = run.campaign.document, run.spec
    backend = BACKENDS[spec["backend"]]
    engine = resolved(spec, document).engine
    key, parts = engine_parts(spec, engine, lane.executor.identity(backend), world.runner_hash, lane.gpus)
    block = run.cycle if document["reload_each_block"] else None
    return EngineNeed(backend, key, parts, document["isolation"], block, Limits(**document["timeouts"]))


def _gate(document: dict[str, Any], opened: OpenSession, lane: Lane, cancel: Cancel, tale: Tale) -> GateRecord:
    spec = GateSpec(**document["gate"], state=opened.uuid)

    def idle(seconds: float) -> None:
        opened.session.idle(cancel, seconds)

    gate = lane.instruments.gate(spec, idle, cancel, tale.waits_for)
    cancel.raise_if_set()
    return gate


def _context(
    spec: dict[str, Any],
    gate: GateSpec,
    opened: OpenSession,
    attempt: Attempt,
    lane: Lane,
    cancel: Cancel,
    tale: Tale,
) -> BaselineRecord:
    """B1, a device context without an engine: taken once per place, in a session that has not loaded yet."""
    place = lane.executor.identity(opened.need.backend)
    key = str(place.get("image_id") or place.get("interpreter"))
    if key in lane.contexts:
        return lane.contexts[key]
    if not lane.instruments.has_sensors or spec["measure"]["baseline_s"] == 0:
        return _baseline("B1", spec, opened, lane, cancel, tale)  # absent, with the reason
    if opened.is_loaded:
        return BaselineRecord("B1", None, None, "the engine was loaded already")
    if gate.kind == "cool":  # right after another engine's work the power is higher by leakage
        lane.instruments.gate(gate, lambda seconds: opened.session.idle(cancel, seconds), cancel, tale.waits_for)
        cancel.raise_if_set()
    obstacle = opened.session.hold_context(attempt.uuid, cancel)
    if obstacle is None:
        tale.phase("baseline")
        lane.contexts[key] = _baseline("B1", spec, opened, lane, cancel, tale)
    else:
        lane.contexts[key] = BaselineRecord("B1", None, None, f"no device context: {obstacle}")
    return lane.contexts[key]


def _baseline(
    kind: BaselineKind, spec: dict[str, Any], opened: OpenSession, lane: Lane, cancel: Cancel, tale: Tale
) -> BaselineRecord:
    seconds: float = spec["measure"]["baseline_s"]
    if seconds == 0:
        return BaselineRecord(kind, None, None, "not asked for")

    def idle(wait_s: float) -> None:
        opened.session.idle(cancel, wait_s)

    try:
        record = lane.instruments.baseline(kind, seconds, idle, tale.waits_for)
    except RunnerDied as death:
        if kind != "B2_after":
            raise
        return BaselineRecord(kind, None, None, f"the engine had ended: {death.message}")
    if kind != "B2_after":  # then the result stands already, and beats a cancel as well as a death
        cancel.raise_if_set()
    return record


def _with_host_energy(watched: Watched, finished: Finished, opened: OpenSession, lane: Lane, cancel: Cancel) -> Watched:
    """CPU and memory beside the device. Their meters are slow: the reading after the window is waited for."""
    meters = lane.host_meters
    if meters is None:
        return watched
    if meters.has_meter:
        with suppress(RunFailed):  # the result stands already, whatever becomes of the runner
            opened.session.idle(cancel, HOST_TAIL_S)
    return replace(watched, energy={**watched.energy, **host_energies(meters, finished.result.windows)})


def _host_evidence(before: ClockMark, lane: Lane) -> dict[str, float]:
    after = ClockMark.now(lane.clock)
    return {"clock_step_s": before.step_s(after), "suspended_s": before.suspended_s(after)}


def _refused(judged: Judged) -> RunFailed:
    """An INVALID attempt as a failure: somebody else's work on the device has a kind of its own."""
    reasons = [f for f in judged.findings if f.severity == "INVALID"]
    kind: FaultKind = "contaminated" if any(f.code == "foreign_process" for f in reasons) else "invalid"
    return RunFailed(kind, "; ".join(f.text for f in reasons))


def _facts(opened: OpenSession, loaded: dict[str, Any], finished: Finished, gate: GateRecord) -> dict[str, Any]:
    return {
        "isolation": opened.need.isolation,
        "session": opened.uuid,
        "session_dir": str(opened.folder),
        "engine_reused": bool(loaded.get("reused")),
        "gate": asdict(gate),
        "effective": finished.result.effective,
        "memory": finished.result.memory,
        "warmup": finished.result.warmup,
        "load": finished.result.load,
        "gauges": finished.result.gauges,
    }


def _keep_baselines(lane: Lane, attempt: Attempt, records: list[BaselineRecord]) -> None:
    with lane.store.transaction() as tx:
        for r in records:
            sessions.add_baseline(tx, attempt.id, r.kind, r.power_w, r.uncertainty_w, r.reason, lane.clock)


def _save(lane: Lane, attempt: Attempt, judged: Judged, tale: Tale) -> None:
    assert judged.verdict != "INVALID"
    tale.phase("writing")
    with lane.store.transaction() as tx:
        moves.note_facts(tx, attempt.id, tale.facts())
        works.add_work(tx, attempt.id, judged.work)
        moves.end_ok(tx, attempt, lane.clock, judged.verdict, judged.windows, judged.metrics, judged.findings)


def _end_failed(run: QueuedRun, lane: Lane, world: World, attempt: Attempt, fault: RunFailed, tale: Tale) -> None:
    judged = tale.judged if fault.kind in JUDGED else None
    with lane.store.transaction() as tx:
        past = read_runs.past_attempts(tx, run.id, attempt.id)
        retry_max: int = run.campaign.document["retry"]["max"]
        fate = after_failure(attempt.id, fault.kind, fault.message, past, retry_max, lane.clock, world.back_off_scale)
        moves.note_facts(tx, attempt.id, tale.facts())
        moves.end_failed(
            tx,
            attempt,
            lane.clock,
            fault.kind,
            fault.message,
            fault.detail,
            fate.status,
            judged.windows if judged else (),
            judged.metrics if judged else (),
            judged.findings if judged else (),
        )
        if fault.kind == "gpu_lost":
            lose_gpus(tx, run.campaign, lane.gpus, fault.message, lane.clock)
        if fate.skip_experiment:
            reason = f"cycle {run.cycle} failed twice with {fault.kind}: {fault.message}"
            skip_cycles(tx, run.campaign, run.experiment, Skipped(reason=reason, because="failure"), lane.clock)


def _end_for_disk(run: QueuedRun, lane: Lane, attempt: Attempt, text: str, tale: Tale) -> None:
    """No fault of the run: it goes back to the queue, costs no retry, and no run starts until there is room."""
    lane.end_session("failed", "the disk is full")
    end = Interrupted(f"the disk is full: {text}")
    lane.store.with_room(_end_without_fault, run, lane, attempt, end, tale)


def _end_without_fault(
    run: QueuedRun, lane: Lane, attempt: Attempt, end: Interrupted | CancelledByPerson, tale: Tale
) -> None:
    text = str(end)
    with lane.store.transaction() as tx:
        moves.note_facts(tx, attempt.id, tale.facts())
        if isinstance(end, CancelledByPerson):
            then = Cancelled(reason=text)
            moves.end_without_fault(tx, attempt.id, run.id, lane.clock, "cancelled", text, then, "person")
        else:
            past = read_runs.past_attempts(tx, run.id, attempt.id)
            status = after_interruption(attempt.id, past)
            moves.end_without_fault(tx, attempt.id, run.id, lane.clock, "interrupted", text, status)
