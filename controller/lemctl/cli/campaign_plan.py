"""`campaign plan`: what a campaign will do, take and need, before anything is started."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli.options import Executor, Json, Preset, Set
from lemctl.cli.terminal import out, out_json, warn

if TYPE_CHECKING:
    from lemctl.campaign.estimate import Estimate
    from lemctl.campaign.expected import Left
    from lemctl.campaign.plan import Plan
    from lemctl.campaign.vram import VramNeed
    from lemctl.paths import Home
    from lemctl.report.plan import HoursNow
    from lemctl.settings import Settings
    from lemctl.store.read_history import PastRun

NVIDIA_DEVICE = Path("/dev/nvidiactl")


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Campaign file.", show_default=False)],
    json: Json = False,
    every: Annotated[bool, typer.Option("--all", help="List every experiment.")] = False,
    executor: Executor = None,
    sets: Set = None,
    preset: Preset = None,
) -> None:
    """What a campaign runs, takes and lacks. Starts nothing."""
    from lemctl.cli.campaign_file import executor_for, prefetch_words, read_plan
    from lemctl.cli.positions import too_long
    from lemctl.engines.prepared import missing
    from lemctl.report.plan import PlanView, plan_text
    from lemctl.settings import load_settings

    settings = load_settings()
    planned = read_plan(file, sets, preset, settings)
    where = executor_for(planned.plan, executor, settings)
    vram, axes = most_vram(planned.plan, settings)
    has_sensors = NVIDIA_DEVICE.exists()
    past = past_of(settings.paths)
    estimate = estimate_from_history(planned.plan, past, has_sensors)
    view = PlanView(
        plan=planned.plan,
        executor=where,
        estimate=estimate,
        left=left_of(planned.plan, estimate, past),
        hours=hours_now(planned.plan.document),
        has_sensors=has_sensors,
        vram=vram,
        vram_axes=axes,
        gaps=missing(planned.plan, settings, where),
        free_bytes=_free_bytes(settings.paths.root),
        file=prefetch_words(str(file), where, settings),
    )
    if json:
        out_json("plan", **view.to_json(), experiment_list=_experiments(planned.plan) if every else None)
        return
    for warning in planned.plan.warnings:
        warn(warning)
    if (trouble := too_long(planned.plan, settings)) is not None:
        warn(f"it would be refused: {trouble}")
    out(plan_text(view, every=every))


def hours_now(document: dict[str, Any]) -> HoursNow | None:
    """Whether the hours of a campaign are open, and until or from when; None where it has none."""
    from lemctl.campaign.hours import describe, local_text, read_hours
    from lemctl.clock import SystemClock
    from lemctl.report.plan import HoursNow

    hours = read_hours(document)
    if hours is None:
        return None
    now = SystemClock().utc()
    window = hours.window_at(now)
    is_open = window.opens <= now
    changes = None if hours.never_close else local_text(window.closes if is_open else window.opens, hours.zone)
    return HoursNow(describe(hours), is_open, changes)


def left_of(plan: Plan, estimate: Estimate, past: list[PastRun]) -> Left:
    """How long the plan is expected to take from now on, in its hours."""
    from lemctl.campaign.estimate import expected_runs
    from lemctl.campaign.expected import what_is_left
    from lemctl.campaign.hours import read_hours
    from lemctl.clock import SystemClock
    from lemctl.store.read_history import durations

    runs = expected_runs(plan, estimate, durations(past))
    return what_is_left(runs, read_hours(plan.document), SystemClock().utc())


def past_of(home: Home) -> list[PastRun]:
    """The past runs of this database; none before the first campaign."""
    from lemctl.errors import NotFound
    from lemctl.store.database import Store
    from lemctl.store.read_history import past_runs

    try:
        with Store.open(home, "read") as store:
            return past_runs(store.connection)
    except NotFound:
        return []


def estimate_from_history(plan: Plan, past: list[PastRun], has_sensors: bool) -> Estimate:
    """The estimate, resting on past runs where there are any."""
    from lemctl.campaign.estimate import Phases, estimate

    history: dict[str, list[Phases]] = {}
    like: dict[tuple[str, str], list[Phases]] = {}
    for run in past:
        seconds = run.phases_s
        phases = Phases(
            measuring_s=seconds.get("measuring_s") or 0.0,
            cooling_s=seconds.get("cooling_s") or 0.0,
            baseline_s=seconds.get("baseline_s") or 0.0,
            warmup_s=seconds.get("warmup_s") or 0.0,
            loading_s=seconds.get("loading_s"),
        )
        history.setdefault(run.experiment, []).append(phases)
        like.setdefault((run.backend, run.model), []).append(phases)
    return estimate(plan, history, like, has_sensors)


def most_vram(plan: Plan, settings: Settings) -> tuple[VramNeed, dict[str, Any]]:
    """The largest need of any experiment with its axes; a need that is not known comes before all others."""
    from lemctl.campaign.vram import VramNeed, vram_needed
    from lemctl.engines.prepared import model_config

    configs: dict[int, dict[str, Any] | None] = {}
    most, axes = VramNeed(), dict[str, Any]()
    for experiment in plan.experiments:
        model = experiment.spec["model"]
        if id(model) not in configs:
            configs[id(model)] = model_config(model, settings)
        need = vram_needed(experiment.spec, configs[id(model)])
        if need.total_bytes is None:
            return need, {}
        if need.total_bytes > (most.total_bytes or -1):
            most, axes = need, experiment.axes
    return most, axes


def _experiments(plan: Plan) -> list[dict[str, Any]]:
    return [
        {"experiment": one.hash, "backend": one.backend, "model": one.model, "axes": one.axes}
        for one in plan.experiments
    ]


def _free_bytes(folder: Path) -> int:
    """Of the disk that the state folder lies on, or will."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
