"""From what is typed to a plan: the file, the overrides and this host's folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from lemctl.campaign.file import CampaignFile, load, loads
from lemctl.campaign.plan import Plan, plan
from lemctl.campaign.schema import BACKENDS as FORESEEN
from lemctl.cli.options import pairs
from lemctl.engines.backends import BACKENDS
from lemctl.errors import CampaignFileError, UsageMistake
from lemctl.paths import data_folder

if TYPE_CHECKING:
    from lemctl.settings import Settings


@dataclass(frozen=True)
class Planned:
    """A plan with the campaign it came from and the text as it was written."""

    plan: Plan
    campaign: CampaignFile
    source: str


def read_plan(file: Path, sets: list[str] | None, preset: str | None, settings: Settings) -> Planned:
    """Read, validate and expand. Raises `CampaignFileError` or `UsageMistake`."""
    campaign = load(_existing(file), pairs(sets, "--set"), preset, **surroundings(settings))
    return Planned(_planned(campaign), campaign, file.read_text("utf-8-sig"))


def plan_text(text: str, name: str, sets: dict[str, str], preset: str | None, settings: Settings) -> Planned:
    """As `read_plan`, of a text that lemctl wrote itself; `name` stands in the messages."""
    campaign = loads(text, name, sets, preset, **surroundings(settings))
    return Planned(_planned(campaign), campaign, text)


def _planned(campaign: CampaignFile) -> Plan:
    """The plan, once the metric that its cycles are to settle is known to exist."""
    cycles = campaign.settings.cycles
    if not isinstance(cycles, int):
        from lemctl.campaign.keys import nearest
        from lemctl.judge.metrics import METRICS

        if cycles.until.metric not in METRICS:
            near = nearest(cycles.until.metric, list(METRICS))
            raise campaign.source.error(f"unknown metric {cycles.until.metric!r}{near}", "cycles.until.metric")
    return plan(campaign)


class Surroundings(TypedDict):
    """What of this host a campaign file is checked against."""

    dataset_dirs: Sequence[Path]
    model_dirs: Sequence[Path]
    catalogue_dir: Path
    backends: Sequence[str]
    max_runs: int


def surroundings(settings: Settings) -> Surroundings:
    """The folders, backends and limits of this host."""
    return Surroundings(
        dataset_dirs=settings.dataset_dirs,
        model_dirs=(settings.models,),
        catalogue_dir=data_folder() / "images",
        # Foreseen ones that are not built yet stay known by name, so that they are refused with the reason.
        backends=tuple(dict.fromkeys((*FORESEEN, *BACKENDS))),
        max_runs=settings.max_runs,
    )


def _existing(file: Path) -> Path:
    """The file, or the ready campaign of that name. Raises `CampaignFileError`."""
    if file.is_dir():
        raise UsageMistake(f"{file} is a folder; give a campaign file")
    if not file.exists():
        ready = sorted(path.stem for path in (data_folder() / "campaigns").glob("*.yaml"))
        hint = f"; ready ones are in {data_folder() / 'campaigns'}: {', '.join(ready)}" if ready else ""
        raise CampaignFileError(f"no such file{hint}", file=str(file))
    return file


def executor_named(given: str | None, settings: Settings) -> str:
    """`docker` or `local`; raises `UsageMistake`."""
    if given not in (None, "docker", "local"):
        raise UsageMistake(f"--executor is docker or local, found {given!r}")
    return given or settings.executor


def executor_for(plan: Plan, given: str | None, settings: Settings) -> str:
    """As `executor_named`, refused where the campaign asks for what that executor has not."""
    executor = executor_named(given, settings)
    refuse_isolation(plan, executor)
    return executor


def prefetch_words(file: str, executor: str, settings: Settings) -> str:
    """What stands behind `lemctl images prefetch` so that it prepares for this executor."""
    return file if executor == settings.executor else f"{file} --executor {executor}"


def refuse_isolation(plan: Plan, executor: str) -> None:
    """A container of its own for each run needs containers. Raises `UsageMistake`."""
    if executor != "docker" and plan.document["isolation"] == "container":
        raise UsageMistake(
            f"isolation: container needs the docker executor, this is {executor}; `--executor docker`, or"
            " `--set isolation=process` for a new runner process for each run"
        )
