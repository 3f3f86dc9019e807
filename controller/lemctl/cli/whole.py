"""All nouns as one Typer app, for what needs every command at once: shell completion, the generated documentation."""

from __future__ import annotations

import importlib

import typer

from lemctl.cli.nouns import NOUNS


def noun_app(name: str) -> typer.Typer:
    """The Typer app of one noun, its module imported."""
    app: typer.Typer = importlib.import_module(NOUNS[name].module).app
    return app


def whole_app() -> typer.Typer:
    """Every noun under one root. A noun whose app has a single command and no group of its own is that command."""
    root = typer.Typer(name="lemctl", rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
    for name, noun in NOUNS.items():
        app = noun_app(name)
        if len(app.registered_commands) == 1 and app.registered_callback is None and not app.registered_groups:
            callback = app.registered_commands[0].callback
            assert callback is not None
            root.command(name, help=noun.help)(callback)
        else:
            root.add_typer(app, name=name, help=noun.help)
    return root
