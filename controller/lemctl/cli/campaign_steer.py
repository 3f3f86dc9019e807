"""`campaign pause|resume|stop|cancel|retry|skip|wait`: asked of the daemon; each returns when it has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lemctl.cli.options import Campaign, NamedCampaign, Where, full_keys, pairs
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
) -> int:
    """Start nothing new until `resume`.

    The run under way ends as usual.
    """
    return obeyed(home(), "pause", {"campaign": name, "reason": reason})


def resume(name: NamedCampaign) -> int:
    """Go on with a paused or stopped campaign."""
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
    """Put failed runs back in the queue."""
    from lemctl.errors import UsageMistake
    from lemctl.store.queries import axis_keys, find_campaign

    if not failed and run is None and not where:
        raise UsageMistake("say which runs: --failed, --where KEY=VALUE or --run NUMBER")
    conditions = None
    if where:
        with open_store() as store:
            known = axis_keys(store.connection, find_campaign(store.connection, name).id)
        conditions = full_keys(pairs(where, "--where"), known, "--where")
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
