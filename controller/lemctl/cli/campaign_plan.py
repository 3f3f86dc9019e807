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
    from lemctl.campaign.plan import Plan
    from lemctl.campaign.vram import VramNeed
    from lemctl.paths import Home
    from lemctl.settings import Settings

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
    from lemctl.engines.prepared import missing
    from lemctl.report.plan import PlanView, plan_text
    from lemctl.settings import load_settings

    settings = load_settings()
    planned = read_plan(file, sets, preset, settings)
    where = executor_for(planned.plan, executor, settings)
    vram, axes = most_vram(planned.plan, settings)
    has_sensors = NVIDIA_DEVICE.exists()
    view = PlanView(
        plan=planned.plan,
        executor=where,
        estimate=estimate_from_history(planned.plan, settings.paths, has_sensors),
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
    out(plan_text(view, every=every))


def estimate_from_history(plan: Plan, home: Home, has_sensors: bool) -> Estimate:
    """The estimate, resting on this database's past runs where there are any."""
    from lemctl.campaign.estimate import Phases, estimate
    from lemctl.errors import NotFound
    from lemctl.store.database import Store
    from lemctl.store.read_history import past_runs

    try:
        with Store.open(home, "read") as store:
            past = past_runs(store.connection)
    except NotFound:
        past = []
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
