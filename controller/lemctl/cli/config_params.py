"""`lemctl config params`: what the engines can be set to, what is portable, whether the catalogue still holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lemctl.cli.options import Executor, Json
from lemctl.cli.terminal import out, out_json

if TYPE_CHECKING:
    from lemctl.campaign.catalogue import Catalogue


def params(
    backend: Annotated[
        str | None,
        typer.Argument(metavar="[BACKEND]", help="A backend; without one: what is portable."),
    ] = None,
    search: Annotated[str, typer.Option("--search", metavar="WORD", help="Only where name or meaning has it.")] = "",
    diff: Annotated[
        bool, typer.Option("--diff", help="Only where the installed engine says otherwise than the catalogue.")
    ] = False,
    executor: Executor = None,
    as_json: Json = False,
) -> None:
    """Show the parameters that a backend's engine takes, for BACKEND.engine.NAME and BACKEND.sampling.NAME.

    Without BACKEND: the portable ones, and what each engine calls them. With --diff the installed engine is asked.
    """
    from lemctl.campaign.parameter_table import HEADER, catalogue_rows
    from lemctl.errors import UsageMistake
    from lemctl.report.table import table

    if backend is None:
        if diff:
            raise UsageMistake("--diff compares one engine with its catalogue: name the BACKEND")
        _show_portable(search, as_json)
        return
    catalogue = _catalogue(backend)
    if diff:
        _show_diff(catalogue, search, executor, as_json)
        return
    if as_json:
        keys = [row[0] for row in catalogue_rows(catalogue, search)]
        own = {f"{backend}.{each.group}.{each.name}": each for each in catalogue.parameters.values()}
        found = [each for name, each in own.items() if any(f"{key}.".startswith(f"{name}.") for key in keys)]
        rows = [each.to_json() for each in found]
        out_json("config.params", backend=backend, engine_version=catalogue.engine_version, parameters=rows)
        return
    out(table(HEADER, catalogue_rows(catalogue, search)))


def _catalogue(backend: str) -> Catalogue:
    from lemctl.campaign.catalogue import load_catalogue
    from lemctl.campaign.keys import nearest
    from lemctl.errors import NotFound
    from lemctl.paths import data_folder

    is_name = backend.replace("_", "").replace("-", "").isalnum()
    try:
        found = load_catalogue(data_folder() / "images", backend) if is_name else None
    except ValueError as error:
        raise NotFound(str(error)) from None
    if found is None:
        known = sorted(path.parent.name for path in (data_folder() / "images").glob("*/params.json"))
        raise NotFound(f"no catalogue of a backend {backend!r}{nearest(backend, known)} (there are {', '.join(known)})")
    return found


def _show_portable(search: str, as_json: bool) -> None:
    from lemctl.campaign.parameter_table import PORTABLE_HEADER, portable_rows
    from lemctl.report.table import table

    rows = [row for row in portable_rows() if search.lower() in " ".join(row).lower()]
    if as_json:
        out_json("config.params.portable", parameters=[dict(zip(PORTABLE_HEADER, row, strict=True)) for row in rows])
        return
    # Four columns of sentences are wider than any terminal: one line for each engine reads better.
    lines = [(row[0] if not n else "", name, row[n + 1]) for row in rows for n, name in enumerate(PORTABLE_HEADER[1:])]
    out(table(("key", "engine", "sets"), lines))


def _show_diff(catalogue: Catalogue, search: str, executor: str | None, as_json: bool) -> None:
    from lemctl.campaign.catalogue import drift, read_catalogue
    from lemctl.engines.backends import BACKENDS
    from lemctl.engines.describing import describe
    from lemctl.errors import PreflightRefused
    from lemctl.report.table import table
    from lemctl.settings import load_settings

    settings = load_settings()
    where = executor or settings.executor
    said = describe(BACKENDS[catalogue.backend], settings, where, _gpus() if where == "docker" else ())
    try:
        installed = read_catalogue(said, catalogue.backend)
    except (ValueError, KeyError, TypeError) as error:
        raise PreflightRefused(f"{catalogue.backend} described itself unreadably: {error!r}") from None
    found = [each for each in drift(catalogue, installed) if search.lower() in each.name.lower()]
    if as_json:
        versions = {"catalogue": catalogue.engine_version, "installed": installed.engine_version}
        out_json("config.params.diff", backend=catalogue.backend, **versions, differences=[asdict(d) for d in found])
        return
    if not found:
        out(f"{installed.engine}: as the catalogue has it ({catalogue.engine})")
        return
    rows = [(f"{catalogue.backend}.{d.group}.{d.name}", d.what, d.catalogue, d.engine) for d in found]
    out(table(("key", "", f"catalogue {catalogue.engine_version}", f"installed {installed.engine_version}"), rows))


def _gpus() -> tuple[str, ...]:
    """The first GPU of this host: some engines cannot be imported without one."""
    from lemctl.measure.inventory import find_gpus
    from lemctl.measure.readings import NvmlUnavailableError

    try:
        return tuple(facts.uuid for facts in find_gpus()[:1])
    except NvmlUnavailableError:
        return ()
