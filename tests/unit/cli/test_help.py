"""`--help` is the manual: each command of the whole tree says what it does, and of every option what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from command_line import Lemctl

from lemctl.cli.main import EXIT_CODES
from lemctl.cli.nouns import NOUNS
from lemctl.cli.whole import noun_app


def tree(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command and all below it, groups included."""
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from tree(f"{name} {child}", inner)


#: As they are typed: every noun is an app of its own.
EVERY: dict[str, Any] = dict(pair for noun in NOUNS for pair in tree(noun, typer.main.get_command(noun_app(noun))))


def squeezed(text: str) -> str:
    """Without the line breaks and columns of a terminal."""
    return " ".join(text.split())


def test_the_tree_is_whole() -> None:
    assert set(NOUNS) <= set(EVERY)
    assert {"campaign start", "results bundle", "config settings", "images prefetch", "db backup"} <= set(EVERY)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_command_shows_its_description_and_every_option_with_its_meaning(
    name: str, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = EVERY[name]
    said = lemctl(*name.split(), "--help")
    assert said.code == 0
    shown = squeezed(said.out)
    assert f"Usage: lemctl {name} " in shown
    assert command.help
    assert command.help.rstrip().endswith((".", ")"))
    assert squeezed(command.help.partition("\f")[0]) in shown
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        assert not parameter.hidden, f"{name}: {parameter.name} is hidden"
        assert squeezed(parameter.help) in shown, f"{name}: {parameter.name}"
        if parameter.param_type_name == "option":
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert f"{option} " in shown or f"{option}," in shown, f"{name}: {option}"
        else:
            assert parameter.metavar in shown, f"{name}: {parameter.name}"


@pytest.mark.parametrize("name", sorted(NOUNS))
def test_the_overview_says_of_a_noun_what_the_noun_says_of_itself(name: str, lemctl: Lemctl) -> None:
    assert f"  {NOUNS[name].help}\n" in lemctl("--help").out
    app = noun_app(name)
    if app.info.help and len(app.registered_commands) > 1:
        assert app.info.help == NOUNS[name].help


def test_the_overview_has_every_exit_code(lemctl: Lemctl) -> None:
    shown = squeezed(lemctl("--help").out)
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in shown
