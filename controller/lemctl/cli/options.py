"""Options that several commands share, and the reading of `key=value` pairs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from lemctl.campaign.keys import listed
from lemctl.clock import SystemClock
from lemctl.errors import UsageMistake
from lemctl.report.figures import axis_value

Json = Annotated[bool, typer.Option("--json", help="Print JSON, with the version of its schema.")]
Campaign = Annotated[str | None, typer.Argument(metavar="NAME", help="NAME or NAME#NUMBER; default the newest.")]
NamedCampaign = Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME#NUMBER for an older one.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a dotted key of the file. Repeatable.")
]
Preset = Annotated[str | None, typer.Option(help="Preset to use instead of the file's.")]
Executor = Annotated[str | None, typer.Option(metavar="docker|local", help="Where engines run; default the settings'.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only where a swept key has a value. Repeatable."),
]


def new_app(help_text: str) -> typer.Typer:
    """A Typer app as every noun has it: no markup, no decorated tracebacks."""
    return typer.Typer(
        help=help_text,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )


def moment(text: str, option: str, tz: str | None = None) -> datetime:
    """The moment that a person typed, UTC; a time without an offset is of the zone `tz`, else the host's. Raises
    `UsageMistake`."""
    from lemctl.campaign.hours import zone_of
    from lemctl.campaign.moments import read_moment

    try:
        return read_moment(text, SystemClock().utc(), zone_of(tz))
    except ValueError as error:
        raise UsageMistake(f"{option} {text}: {error}") from None


def pairs(words: list[str] | None, option: str) -> dict[str, str]:
    """`["a.b=1"]` -> `{"a.b": "1"}`; raises `UsageMistake`."""
    found: dict[str, str] = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageMistake(f"{option} takes KEY=VALUE, found {word!r}")
        if key in found:
            raise UsageMistake(f"{option} {key} is given twice")
        found[key] = value
    return found


def full_keys(
    where: dict[str, str],
    known: Sequence[str],
    option: str,
    *,
    may_mean_several: bool = False,
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """The conditions with whole dotted keys, each of which may be given by its last parts, and values as YAML reads
    them; `also` names further keys that every run has. Raises `UsageMistake` for a key that no run is told apart by,
    or that may mean two."""
    words: dict[str, Any] = {"true": True, "false": False, "null": None}
    found: dict[str, Any] = {}
    for key, value in where.items():
        names = (*known, "backend", *also)
        meant = [key] if key in names else [name for name in names if name.endswith("." + key)]
        if not meant or (len(set(meant)) > 1 and not may_mean_several):
            what = (
                f"may mean {' or '.join(meant)}" if meant else f"is not swept; swept are {listed(known) or 'no keys'}"
            )
            raise UsageMistake(f"{option} {key} {what}")
        found[meant[0]] = words.get(value, value)
    return found


def matches(axes: dict[str, Any], backend: str, where: dict[str, str]) -> bool:
    """Whether a run's swept values satisfy every condition; a key may be given by its last part alone."""
    for key, wanted in where.items():
        if key == "backend":
            if backend != wanted:
                return False
            continue
        found = [value for name, value in axes.items() if name == key or name.endswith("." + key)]
        if not any(axis_value(value) == wanted for value in found):
            return False
    return True
