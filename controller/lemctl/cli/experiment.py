"""`lemctl experiment run`: one experiment from options, carried out like any campaign and waited for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lemctl.cli.options import Executor, Preset, Set, new_app, pairs
from lemctl.errors import UsageMistake

if TYPE_CHECKING:
    from lemctl.cli.campaign_file import Planned
    from lemctl.settings import Settings

app = new_app("Run one experiment given by options.")

MODEL_KINDS = ("hf:", "path:", "random:")
DATASET_KINDS = ("file:", "random")


@app.callback()
def _group() -> None:
    """Run one experiment given by options."""


@app.command("run")
def run(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Campaign file to begin from.")] = None,
    model: Annotated[str | None, typer.Option(help="hf:ORG/NAME (or ORG/NAME), path:NAME, random:{...}.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="file:NAME, or random.")] = None,
    prompts: Annotated[int | None, typer.Option("--prompts", "-n", help="How many prompts.")] = None,
    cycles: Annotated[int | None, typer.Option(help="Repeats.")] = None,
    backend: Annotated[str | None, typer.Option(help="Engine. [default: pytorch, or the file's]")] = None,
    preset: Preset = None,
    sets: Set = None,
    executor: Executor = None,
    prefetch: Annotated[bool, typer.Option("--prefetch/--no-prefetch", help="Fetch what is missing first.")] = True,
) -> int:
    """Run one experiment and wait for it; the report follows."""
    from lemctl.cli.campaign_file import executor_for
    from lemctl.cli.campaign_start import run_planned
    from lemctl.cli.report import print_report
    from lemctl.settings import load_settings

    settings = load_settings()
    given = {
        "model": _model(model),
        "workload.dataset": dataset,
        "workload.prompts": None if prompts is None else str(prompts),
        "cycles": None if cycles is None else str(cycles),
        "backend": backend or (None if file else "pytorch"),
    }
    overrides = {key: value for key, value in given.items() if value is not None} | pairs(sets, "--set")
    planned = _from_file(file, overrides, preset, settings) if file else _from_options(overrides, preset, settings)
    where = executor_for(planned.plan, executor, settings)
    code = run_planned(planned, settings, where, file=str(file or "FILE"), prefetch=prefetch, wait=True)
    if code in (0, 3):
        print_report(planned.plan.name)
    return code


def _model(given: str | None) -> str | None:
    """A bare name is a hub model's."""
    return given if given is None or given.startswith(MODEL_KINDS) else f"hf:{given}"


def _from_file(file: Path, overrides: dict[str, str], preset: str | None, settings: Settings) -> Planned:
    from lemctl.cli.campaign_file import read_plan

    planned = read_plan(file, [f"{key}={value}" for key, value in overrides.items()], preset, settings)
    if len(planned.plan.experiments) > 1:
        raise UsageMistake(
            f"{file} describes {len(planned.plan.experiments)} experiments; pin the swept keys with --set, or use"
            " `lemctl campaign start`"
        )
    return planned


def _from_options(overrides: dict[str, str], preset: str | None, settings: Settings) -> Planned:
    """A campaign file made of nothing but its name, which the options decide: the same options attach or count on."""
    from lemctl.cli.campaign_file import plan_text

    if "model" not in overrides:
        raise UsageMistake("which model? --model hf:ORG/NAME, --model path:NAME, or a campaign file")
    if "workload.dataset" not in overrides:
        raise UsageMistake("which prompts? -d file:NAME, -d gsm8k, or -d random --set workload.random.input_len=512")
    chosen = json.dumps([sorted(overrides.items()), preset])
    name = f"experiment-{hashlib.sha256(chosen.encode()).hexdigest()[:8]}"
    return plan_text(json.dumps({"name": name}), "options", overrides, preset, settings)
