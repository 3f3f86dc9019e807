"""`lemctl config ...`: campaign files, presets, parameters and settings, looked at without a daemon."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli import config_params
from lemctl.cli.options import Json, Preset, Set, new_app
from lemctl.cli.terminal import out, out_json, warn

if TYPE_CHECKING:
    from lemctl.cli.campaign_file import Planned

app = new_app("Check campaign files; show presets, parameters, settings.")

CampaignPath = Annotated[Path, typer.Argument(metavar="FILE", help="A campaign file.")]

#: What `grid --vary` stands on without a file: a shape of no weight, so that only what varies matters.
_STAND_IN = """\
name: grid
model: {random: {model_type: llama}}
backend: pytorch
workload: {dataset: random, random: {input_len: 512}, prompts: 1000000}
cycles: 1
"""


@app.command("validate")
def validate(
    file: CampaignPath,
    sets: Set = None,
    preset: Preset = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every value and where it came from.")] = False,
    as_json: Json = False,
) -> None:
    """Check a campaign file; say what it expands to. Exit 2 where something is wrong with it."""
    from lemctl.campaign.file import explained
    from lemctl.cli.campaign_file import read_plan
    from lemctl.lines import plural
    from lemctl.report.plan import cycles_text
    from lemctl.settings import load_settings

    planned = read_plan(file, sets, preset, load_settings())
    plan = planned.plan
    if as_json:
        out_json(
            "config.validate",
            ok=True,
            name=plan.name,
            experiments=len(plan.experiments),
            runs=len(plan.runs),
            plan=plan.hash,
            warnings=list(plan.warnings),
            values=[
                {"key": key, "value": value, "origin": origin} for key, value, origin in explained(planned.campaign)
            ],
        )
        return
    _print_warnings(planned)
    if explain:
        from lemctl.report.table import table

        rows = [(key, _shown(value), origin) for key, value, origin in explained(planned.campaign)]
        out(table(("key", "value", "from"), rows))
    cycles = cycles_text(plan.document)
    out(f"{file}: OK: {plural(len(plan.experiments), 'experiment')} x {cycles} = {plural(len(plan.runs), 'run')}")


@app.command("grid")
def grid(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A campaign file; without one, only --vary.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="KEY=V1,V2", help="A further axis; its last part is enough for a key. Repeatable."
        ),
    ] = None,
    sets: Set = None,
    preset: Preset = None,
    as_json: Json = False,
) -> None:
    """Show the experiments that a sweep makes."""
    from lemctl.cli.campaign_file import plan_text, read_plan, surroundings
    from lemctl.cli.options import pairs
    from lemctl.errors import UsageMistake
    from lemctl.settings import load_settings

    if file is None and not vary:
        raise UsageMistake("give a campaign file, or --vary KEY=V1,V2")
    settings = load_settings()
    axes = _vary(vary, surroundings(settings)["backends"])
    if file is not None:
        planned = read_plan(
            file, [*(sets or ()), *(f"{key}={values}" for key, values in axes.items())], preset, settings
        )
    else:
        planned = plan_text(_STAND_IN, "--vary", {**pairs(sets, "--set"), **axes}, preset, settings)
    experiments = planned.plan.experiments
    if as_json:
        rows = [
            {"hash": each.hash, "backend": each.backend, "model": each.model, "axes": each.axes} for each in experiments
        ]
        out_json("config.grid", name=planned.plan.name, experiments=rows, warnings=list(planned.plan.warnings))
        return
    from lemctl.report.table import table

    _print_warnings(planned)
    keys = list(dict.fromkeys(key for each in experiments for key in each.axes if key != "backend"))
    lines = [(each.hash, each.backend, *(_shown(each.axes.get(key, "")) for key in keys)) for each in experiments]
    out(table(("experiment", "backend", *keys), lines))


@app.command("schema")
def schema(as_json: Json = False) -> None:
    """Print the JSON schema of a campaign file, for editors."""
    from lemctl.campaign.docs import json_schema

    if as_json:
        out_json("config.schema", json_schema=json_schema())
    else:
        out(json.dumps(json_schema(), indent=2))


@app.command("presets")
def presets(as_json: Json = False) -> None:
    """Show what each preset sets."""
    from lemctl.campaign.presets import PRESETS, preset_table
    from lemctl.report.table import table

    if as_json:
        out_json("config.presets", presets={name: dict(values) for name, values in PRESETS.items()})
        return
    names, rows = preset_table()
    out(
        table(("key", *names), [(key, *("" if value is None else _shown(value) for value in row)) for key, row in rows])
    )


app.command("params")(config_params.params)


@app.command("settings")
def settings(as_json: Json = False) -> None:
    """Show this host's settings and the variables that set them."""
    from lemctl.report.table import table
    from lemctl.settings import Settings, load_settings

    current = load_settings()
    rows = [
        {
            "name": name,
            "value": _plain(getattr(current, name)),
            "variable": f"LEM_{name.upper()}",
            "origin": _setting_origin(name, name in current.model_fields_set),
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ] + _backend_settings()
    if as_json:
        out_json("config.settings", settings=rows)
        return
    header = ("name", "value", "variable", "origin", "meaning")
    out(table(header, [tuple(_shown(row[column]) for column in header) for row in rows]))


def _backend_settings() -> list[dict[str, Any]]:
    """The images and interpreters, which the table of backends knows."""
    import os

    from lemctl.engines.backends import BACKENDS

    rows = []
    for backend in BACKENDS.values():
        for kind, value, meaning in (
            ("image", backend.image_ref, f"Image of the {backend.name} containers."),
            ("python", backend.local_interpreter, f"Interpreter of {backend.name} for the local executor."),
        ):
            variable = f"LEM_{kind.upper()}_{backend.name.upper()}"
            origin = "environment" if os.environ.get(variable) else "default"
            name = f"{kind}_{backend.name}"
            rows.append({"name": name, "value": value, "variable": variable, "origin": origin, "meaning": meaning})
    return rows


def _vary(words: list[str] | None, backends: Collection[str]) -> dict[str, str]:
    """`["batch_size=1,2"]` -> `{"sweep.workload.load.batch_size": "[1,2]"}`; raises `UsageMistake`."""
    from lemctl.campaign.values import full_key
    from lemctl.cli.options import pairs
    from lemctl.errors import UsageMistake

    try:
        return {f"sweep.{full_key(key, backends)}": f"[{values}]" for key, values in pairs(words, "--vary").items()}
    except ValueError as error:
        raise UsageMistake(f"--vary: {error}") from None


def _print_warnings(planned: Planned) -> None:
    for warning in planned.plan.warnings:
        warn(warning)


def _setting_origin(name: str, is_set: bool) -> str:
    import os

    if os.environ.get(f"LEM_{name.upper()}"):
        return "environment"
    return "settings.yaml" if is_set else "default"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    """A value as the campaign file would write it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
