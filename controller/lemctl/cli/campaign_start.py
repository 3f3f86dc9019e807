"""`campaign start` and `campaign extend`: from a file to runs in the queue and a daemon that carries them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.campaign.cron import read_cron
from lemctl.cli.options import Executor, Preset, Set, moment
from lemctl.cli.terminal import say, warn
from lemctl.errors import UsageMistake

if TYPE_CHECKING:
    from lemctl.cli.campaign_file import Planned
    from lemctl.clock import SystemClock
    from lemctl.settings import Settings
    from lemctl.store.campaigns import Added
    from lemctl.store.database import Transaction

File = Annotated[Path, typer.Argument(metavar="FILE", help="Campaign file.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait", help="Show progress until it ends; exit with the campaign's code.")]
Prefetch = Annotated[bool, typer.Option("--prefetch", help="Fetch missing models and prepare missing prompts first.")]


def start(
    file: File,
    wait: Wait = False,
    prefetch: Prefetch = False,
    priority: Annotated[int | None, typer.Option(help="Place in the line: higher goes first. [default: 0]")] = None,
    after: Annotated[str | None, typer.Option(metavar="NAME", help="Start once that campaign has ended.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="Begin at 22:00, or 2026-11-27T22:00.")] = None,
    executor: Executor = None,
    sets: Set = None,
    preset: Preset = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="No engine: events on a fast clock, kept apart.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulation. [default: 0]")] = None,
    faults: Annotated[bool, typer.Option("--faults", help="Let the simulation fail now and then.")] = False,
) -> int:
    """Start a campaign, or attach to the same one under way."""
    from lemctl.cli.campaign_file import executor_for, read_plan
    from lemctl.settings import load_settings

    settings = load_settings()
    planned = read_plan(file, sets, preset, settings)
    if simulate:
        return _simulate(planned, settings, seed or 0, faults)
    if seed is not None or faults:
        raise UsageMistake("--seed and --faults belong to --simulate; a campaign's own seed is --set seed=N")
    return run_planned(
        planned,
        settings,
        executor_for(planned.plan, executor, settings),
        file=str(file),
        prefetch=prefetch,
        wait=wait,
        priority=priority,
        after=after,
        at=at,
    )


def extend(
    file: File,
    wait: Wait = False,
    prefetch: Prefetch = False,
    sets: Set = None,
    preset: Preset = None,
) -> int:
    """Add what is new in the file; finished runs are kept."""
    from lemctl.cli.campaign_file import read_plan, refuse_isolation
    from lemctl.clock import SystemClock
    from lemctl.settings import load_settings
    from lemctl.store.campaigns import extend_campaign, find
    from lemctl.store.database import Store

    settings = load_settings()
    planned = read_plan(file, sets, preset, settings)
    with Store.open(settings.paths, "write") as store:
        executor = find(store.connection, planned.plan.name).executor
        refuse_isolation(planned.plan, executor)
        _preflight(planned, settings, executor, str(file), prefetch)
        with store.transaction() as tx:
            added = extend_campaign(tx, planned.plan, planned.source, SystemClock())
    _print_warnings(planned)
    if not added.new_runs:
        say(f"campaign {added.campaign.label} has all of these runs already")
    else:
        say(f"campaign {added.campaign.label}: {_runs(added.new_runs)} added")
    if added.campaign.status.kind in ("Paused", "Stopped"):
        kind = added.campaign.status.kind.lower()
        say(f"it is {kind}, and stays so until `lemctl campaign resume {added.campaign.label}`")
    return _carry_out(added, settings, wait)


def run_planned(
    planned: Planned,
    settings: Settings,
    executor: str,
    *,
    file: str,
    prefetch: bool,
    wait: bool,
    priority: int | None = None,
    after: str | None = None,
    at: str | None = None,
) -> int:
    """Preflight, queue, daemon; returns the exit code. Raises `PreflightRefused` with the command that mends it."""
    _preflight(planned, settings, executor, file, prefetch)
    _print_warnings(planned)
    _say_hours(planned, settings)
    added = _enqueue(planned, settings, executor, priority, after, at)
    label = added.campaign.label
    if not added.attached:
        say(f"campaign {label} is in the queue: {_runs(added.new_runs)}, executor {executor}")
    else:
        say(f"campaign {label} {_standing(added)} with this plan: attached to it")
        if priority is not None or after is not None:
            code = _move_in_line(settings, label, priority, after)
            if code:
                return code
    return _carry_out(added, settings, wait)


def _standing(added: Added) -> str:
    """What the campaign that was attached to is doing; a paused one stays so until somebody resumes it."""
    status = added.campaign.status
    if status.kind == "Paused":
        return f"is paused ({status.reason}; `lemctl campaign resume {added.campaign.label}` goes on)"
    if status.kind == "Stopped":
        return "was stopped, and goes on"
    return "waits in the line already" if status.kind == "Waiting" else "is under way already"


def _preflight(planned: Planned, settings: Settings, executor: str, file: str, prefetch: bool) -> None:
    from lemctl.cli.campaign_file import prefetch_words
    from lemctl.cli.checks import Use, refuse_unfit
    from lemctl.cli.gpu_memory import check_memory
    from lemctl.cli.positions import too_long
    from lemctl.engines.prefetch import missing
    from lemctl.errors import PreflightRefused

    backends = dict.fromkeys(experiment.backend for experiment in planned.plan.experiments)
    refuse_unfit(settings, Use(executor, tuple(backends), _gpus(planned, executor)))
    if notify := planned.plan.document.get("notify"):
        from lemctl.daemon.addresses import addresses_named

        addresses_named(notify["urls_from"], settings.paths)
    gaps = missing(planned.plan, settings, executor)
    if gaps and prefetch:
        from lemctl.cli.images import prefetch_plan

        prefetch_plan(planned.plan, settings, executor)
        gaps = missing(planned.plan, settings, executor)
    check_memory(planned.plan, settings)
    if (trouble := too_long(planned.plan, settings)) is not None:
        raise PreflightRefused(trouble)
    if gaps:
        names = ", ".join(f"{gap.what} {gap.name}" for gap in gaps[:4]) + (" and others" if len(gaps) > 4 else "")
        asked = prefetch_words(file, executor, settings)
        mends = dict.fromkeys(gap.fix or f"lemctl images prefetch {asked}" for gap in gaps)
        raise PreflightRefused(f"missing: {names}; next: " + " and ".join(f"`{mend}`" for mend in mends))


def _gpus(planned: Planned, executor: str) -> tuple[str, ...]:
    """UUIDs of the campaign's GPUs, asked for where they matter before its start: named, needed, or to be given to
    containers. Raises `PreflightRefused` where one is not here, or they are too few for an experiment."""
    from lemctl.daemon.gpu_choice import choose_gpus, gpus_here, must_know_gpus, refuse_too_few

    specs = [experiment.spec for experiment in planned.plan.experiments]
    named = planned.plan.document["gpus"]
    is_for_containers = executor == "docker" and named is None
    if not (named or must_know_gpus(specs) or is_for_containers):
        return ()
    here, why_none = gpus_here()
    chosen = choose_gpus(named, here, why_none)
    refuse_too_few(specs, chosen, why_none)
    return chosen


def _enqueue(
    planned: Planned, settings: Settings, executor: str, priority: int | None, after: str | None, at: str | None
) -> Added:
    from lemctl.cli.campaign_plan import NVIDIA_DEVICE
    from lemctl.clock import SystemClock
    from lemctl.store.campaigns import add_campaign, find, reopen
    from lemctl.store.database import Store

    clock = SystemClock()
    with Store.open(settings.paths, "write") as store:
        host = store.host_id()
        with store.transaction() as tx:
            behind = find(tx, after) if after is not None else None
            added = add_campaign(
                tx, planned.plan, planned.source, executor, clock, host, priority or 0, behind, NVIDIA_DEVICE.exists()
            )
            _schedule(tx, added, planned.plan.document, at, clock)
            if added.attached and added.campaign.status.kind == "Stopped":
                reopen(tx, added.campaign, clock, "person")
    return added


def _schedule(tx: Transaction, added: Added, document: dict[str, Any], at: str | None, clock: SystemClock) -> None:
    """Hold the campaign back until its hour. Raises `UsageMistake` where it is under way already."""
    from lemctl.campaign.hours import local_text, zone_name, zone_of
    from lemctl.clock import utc_text
    from lemctl.store import schedules

    campaign, tz = added.campaign, zone_name(document)
    is_new = not added.attached or schedules.is_awaited(tx, campaign.id)
    if at is not None:
        if document["schedule"] is not None:
            raise UsageMistake(f"--at {at}: the file begins by its own schedule {document['schedule']}; take one out")
        begins = moment(at, "--at", tz)
        if not is_new:
            raise UsageMistake(f"--at {at}: {campaign.label} has begun already; `lemctl campaign pause` holds it")
        schedules.add(tx, campaign.id, campaign.name, clock, at_utc=utc_text(begins), tz=tz)
        say(f"it begins {local_text(begins, zone_of(tz))}")
    elif document["schedule"] is not None and is_new:
        schedules.add(tx, campaign.id, campaign.name, clock, cron=document["schedule"], tz=tz)
        begins = read_cron(document["schedule"]).next(clock.utc(), zone_of(tz))
        say(f"it begins {local_text(begins, zone_of(tz))}, by its schedule {document['schedule']}")
    elif is_new:
        schedules.end(tx, campaign.name, clock)


def _move_in_line(settings: Settings, label: str, priority: int | None, after: str | None) -> int:
    from lemctl.cli.campaign_steer import obeyed

    return obeyed(settings.paths, "prioritise", {"campaign": label, "priority": priority, "after": after})


def _carry_out(added: Added, settings: Settings, wait: bool) -> int:
    from lemctl.cli.state import daemon_pid
    from lemctl.daemon.process import spawn

    before = daemon_pid(settings.paths)
    # Also where one runs: one that is leaving is waited out, and followed by another.
    if (pid := spawn(settings)) != before:
        say(f"daemon started, pid {pid}")
    if not wait:
        say(f"`lemctl status` shows how it goes, `lemctl campaign wait {added.campaign.label}` waits for its end")
        return 0
    from lemctl.cli.progress import wait_for_end

    return wait_for_end(settings.paths, added.campaign.id)


def _simulate(planned: Planned, settings: Settings, seed: int, faults: bool) -> int:
    from lemctl.cli.describe import counts_text
    from lemctl.cli.long_work import long_work
    from lemctl.paths import Home
    from lemctl.simulate import run_campaign
    from lemctl.store.database import Store
    from lemctl.store.queries import find_campaign

    home = Home(settings.paths.root / "simulated")
    with long_work("simulating") as tell:
        code = run_campaign(planned.plan, planned.source, home, seed, faults, tell=tell)
    with Store.open(home, "read") as store:
        campaign = find_campaign(store.connection, planned.plan.name)
    say(f"simulated: campaign {campaign.label} {campaign.status.lower()}, {counts_text(campaign)}")
    say(f"`lemctl --home {home.root} report {campaign.label}` shows its figures")
    return code


def _say_hours(planned: Planned, settings: Settings) -> None:
    """When it opens, how many nights it needs, and what fits none of them."""
    from lemctl.cli.campaign_plan import NVIDIA_DEVICE, estimate_from_history, hours_now, left_of, past_of

    hours = hours_now(planned.plan.document)
    if hours is None:
        return
    from lemctl.report.plan import nights_text

    say(f"hours {hours.text}: {hours.now}")
    past = past_of(settings.paths)
    left = left_of(planned.plan, estimate_from_history(planned.plan, past, NVIDIA_DEVICE.exists()), past)
    if nights := nights_text(left):
        say(nights)
    if left.too_long:
        warn(
            f"{len(left.too_long)} of its experiments are expected to be longer than any of its hours, and would not "
            "run: `lemctl campaign plan` names them"
        )


def _print_warnings(planned: Planned) -> None:
    for warning in planned.plan.warnings:
        warn(warning)


def _runs(count: int) -> str:
    from lemctl.lines import plural

    return plural(count, "run")
