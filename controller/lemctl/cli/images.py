"""`lemctl images build|list|prefetch`: what engines need before a night."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli.options import Executor, Json, Preset, Set, new_app
from lemctl.cli.terminal import out, out_json, say
from lemctl.errors import NotFound, PreflightRefused, UsageMistake
from lemctl.steps import Step, Tell

if TYPE_CHECKING:
    from lemctl.campaign.plan import Plan
    from lemctl.engines.backends import Backend
    from lemctl.settings import Settings

#: As BuildKit (`#7 [wheels 3/9] RUN ...`) and the classic builder (`Step 3/9 : RUN ...`) number them.
_BUILD_STEP = re.compile(r"(?:#\d+ \[(?:\S+ )?|Step )(\d+)/(\d+)(?:\]| :) (.*)")

app = new_app("Build images; fetch models and prepare prompts.")


@app.command("build")
def build(
    backends: Annotated[list[str] | None, typer.Argument(metavar="BACKEND", help="Default: all that can be.")] = None,
) -> None:
    """Build the images of backends. Build arguments come from the environment."""
    import os

    from lemctl.cli import terminal
    from lemctl.cli.long_work import long_work
    from lemctl.engines.backends import BUILD_FILE
    from lemctl.engines.containers import Containers
    from lemctl.engines.errors import ContainerFault

    chosen = [_backend(name) for name in backends] if backends else [row for row in _backends() if row.can_build]
    for row in chosen:
        if not row.can_build:
            raise NotFound(f"{row.name} needs no build: it uses {row.image_ref} as it is; get it with `docker pull`")
        say(f"building {row.image_ref}")
        variables = {f"LEM_IMAGE_{row.name.upper()}": row.image_ref, "VARIANT": row.variant}
        arguments = ("BASE_IMAGE", "WHEELS_IMAGE", "PIP_OPTS", "VARIANT", "LEM_BUILD_INPUTS")
        variables |= {name: os.environ[name] for name in arguments if name in os.environ}
        try:
            with long_work(f"building {row.image_ref}") as tell:
                Containers().build(row.build_context / BUILD_FILE, variables, _log_of(row.image_ref, tell))
        except ContainerFault as fault:
            # With -q the build's own words have not been seen yet; else they stand above.
            last = "\n".join(fault.detail.splitlines()[-10:]) if terminal.is_quiet else ""
            raise PreflightRefused(fault.message + (f"\n{last}" if last else "")) from fault
        say(f"{row.image_ref} is built")


def _log_of(image: str, tell: Tell) -> Callable[[str], None]:
    """Prints a build's lines, and tells its steps where they are numbered."""

    def line(text: str) -> None:
        say(text)
        if found := _BUILD_STEP.match(text):
            tell(Step(f"building {image}: {found[3]}", int(found[1]) - 1, int(found[2]), "steps"))

    return line


@app.command("list")
def list_(json: Json = False) -> None:
    """The image of each backend, and whether it is here."""
    from lemctl.engines.containers import Containers
    from lemctl.engines.errors import ContainerFault
    from lemctl.lines import size
    from lemctl.report.table import table

    rows: list[dict[str, Any]] = []
    for row in _backends():
        body: dict[str, Any] = {"backend": row.name, "image": row.image_ref}
        body |= {"id": None, "size_bytes": None, "note": None}
        try:
            facts = Containers().image_facts(row.image_ref)
        except ContainerFault as fault:
            body["note"] = fault.message
        else:
            if facts is not None:
                body |= {"id": facts.id, "size_bytes": facts.size_bytes, "digests": list(facts.digests)}
            elif row.can_build:
                body["note"] = f"not here: `lemctl images build {row.name}`"
            else:
                body["note"] = f"not here: `docker pull {row.image_ref}`"
        rows.append(body)
    if json:
        out_json("images", images=rows)
        return
    cells = [
        [
            body["backend"],
            _short(body["image"]),
            body["id"].removeprefix("sha256:")[:12] if body["id"] else "-",
            size(body["size_bytes"]) if body["size_bytes"] else "-",
        ]
        for body in rows
    ]
    out(table(["backend", "image", "id", "size"], cells, right=(3,)))
    for body in rows:
        if body["note"]:
            out(f"{body['backend']}: {body['note']}")


def _short(image: str) -> str:
    """Without most of a digest: the whole one is in the command that fetches it, and in `--json`."""
    name, at, digest = image.partition("@sha256:")
    return f"{name}{at}{digest[:12]}"


@app.command("prefetch")
def prefetch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Campaign file.", show_default=False)],
    executor: Executor = None,
    sets: Set = None,
    preset: Preset = None,
) -> None:
    """Fetch a campaign's models and prepare its prompts."""
    from lemctl.cli.campaign_file import executor_named, read_plan
    from lemctl.engines.prepared import missing
    from lemctl.settings import load_settings

    settings = load_settings()
    planned = read_plan(file, sets, preset, settings)
    where = executor_named(executor, settings)
    prefetch_plan(planned.plan, settings, where)
    gaps = missing(planned.plan, settings, where)
    if gaps:
        first = gaps[0]
        raise PreflightRefused(f"still missing: {first.what} {first.name}" + (f"; `{first.fix}`" if first.fix else ""))
    say(f"{planned.plan.name}: models and prompts are ready")


def prefetch_plan(plan: Plan, settings: Settings, executor: str) -> None:
    """Prefetch, with each step printed once and what grows in it shown."""
    from lemctl.cli.long_work import long_work
    from lemctl.engines.prefetch import prefetch

    said = ""
    with long_work("prefetch") as tell:

        def show(step: Step) -> None:
            nonlocal said
            if step.what != said:
                said = step.what
                say(said)
            tell(step)

        prefetch(plan, settings, executor, show)


def _backends() -> list[Backend]:
    from lemctl.engines.backends import BACKENDS

    return list(BACKENDS.values())


def _backend(name: str) -> Backend:
    from lemctl.campaign.keys import nearest
    from lemctl.engines.backends import BACKENDS

    if name not in BACKENDS:
        raise UsageMistake(f"no backend {name!r} (known: {', '.join(BACKENDS)}){nearest(name, BACKENDS)}")
    return BACKENDS[name]
