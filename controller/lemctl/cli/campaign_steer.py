"""`campaign pause|resume|stop|cancel|retry|skip|wait`: asked of the daemon; each returns when it has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli.options import Campaign, NamedCampaign, Where, full_keys, moment, pairs
from lemctl.cli.state import home, open_store
from lemctl.cli.terminal import say, warn

if TYPE_CHECKING:
    from lemctl.paths import Home
    from lemctl.store.commands import Verb


def obeyed(at: Home, verb: Verb, arguments: dict[str, Any]) -> int:
    """Ask the daemon; print its answer, return its exit code."""
    from lemctl.cli.ask import ask_daemon

    answer = ask_daemon(at, verb, arguments)
    if answer.exit_code:
        warn(answer.text)
    elif answer.text:
        say(answer.text)
    return answer.exit_code


def pause(
    name: NamedCampaign,
    reason: Annotated[str, typer.Option(help="Shown by `status`.")] = "paused by a person",
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Go on after 30m, 2h, 1d.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Go on at 22:00, or 2026-11-27T22:00.")
    ] = None,
) -> int:
    """Start nothing new until `resume`, or for a while.

    The run under way ends as usual.
    """
    from lemctl.errors import UsageMistake

    if for_ is not None and until is not None:
        raise UsageMistake("a pause ends after a time (--for) or at one (--until), not both")
    arguments: dict[str, Any] = {"campaign": name, "reason": reason}
    if for_ is not None:
        arguments["for_s"] = _seconds(for_)
    if until is not None:
        arguments["until_utc"] = moment(until, "--until").isoformat()
    return obeyed(home(), "pause", arguments)


def _seconds(text: str) -> float:
    from lemctl.campaign.notation import seconds
    from lemctl.errors import UsageMistake

    try:
        found = seconds(text)
    except ValueError as error:
        raise UsageMistake(f"--for {text}: {error}") from None
    if not found:
        raise UsageMistake(f"--for {text}: a pause of no length; `lemctl campaign resume` ends one")
    return found


def resume(name: NamedCampaign) -> int:
    """Go on with a paused or stopped campaign.

    Lets in again the GPUs that were kept out since they were lost, also where the campaign is not paused or has ended.
    """
    return obeyed(home(), "resume", {"campaign": name})


def stop(name: NamedCampaign) -> int:
    """End the campaign after the run that is under way.

    `resume` or `start` goes on with it.
    """
    return obeyed(home(), "stop", {"campaign": name})


def cancel(name: NamedCampaign) -> int:
    """End the campaign, and the run that is under way. Results stay."""
    return obeyed(home(), "cancel", {"campaign": name})


def retry(
    name: NamedCampaign,
    failed: Annotated[bool, typer.Option("--failed", help="Every failed run.")] = False,
    where: Where = None,
    run: Annotated[int | None, typer.Option(help="One run, by its number.")] = None,
) -> int:
    """Put failed runs back in the queue.

    `--where` takes swept keys, `backend`, `model`, and `kind` for the kind of failure, such as kind=infra.
    """
    from lemctl.errors import UsageMistake
    from lemctl.store.queries import axis_keys, find_campaign

    if not failed and run is None and not where:
        raise UsageMistake("say which runs: --failed, --where KEY=VALUE or --run NUMBER")
    conditions = None
    if where:
        with open_store() as store:
            known = axis_keys(store.connection, find_campaign(store.connection, name).id)
        conditions = full_keys(pairs(where, "--where"), known, "--where", also=("kind", "model"))
    arguments = {"campaign": name, "failed": run is None, "where": conditions, "run": run}
    return obeyed(home(), "retry", arguments)


def skip(run: Annotated[int, typer.Argument(metavar="RUN", help="Number of a queued run.")]) -> int:
    """Take a queued run out of its campaign."""
    return obeyed(home(), "skip", {"run": run})


def wait(name: Campaign = None) -> int:
    """Show progress until the campaign ends; exit with its code."""
    from lemctl.cli.progress import wait_for_end
    from lemctl.store.queries import find_campaign

    with open_store() as store:
        campaign = find_campaign(store.connection, name)
    return wait_for_end(home(), campaign.id)
