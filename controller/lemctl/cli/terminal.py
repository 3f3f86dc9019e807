"""Printing: results, chatter that `-q` silences, JSON with a schema version, colour only on a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, Literal, TextIO

JSON_SCHEMA = 1

#: Set once by the entry point.
is_quiet = False

Style = Literal["bold", "dim", "red", "green", "yellow"]
_CODES: dict[Style, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def out(text: str = "") -> None:
    """A result: always printed."""
    print(text)


def say(text: str) -> None:
    """Chatter about what happens."""
    if not is_quiet:
        print(text, flush=True)


def warn(text: str) -> None:
    """Something that the person should know, beside the result."""
    print(f"lemctl: {text}", file=sys.stderr, flush=True)


def out_json(kind: str, **body: Any) -> None:
    """One JSON document: `schema` counts incompatible changes of its form, `kind` names what it is."""
    print(json.dumps({"schema": JSON_SCHEMA, "kind": kind, **body}, indent=2, ensure_ascii=False))


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person looks at the stream (default stdout), on something that can move its cursor."""
    stream = stream or sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none, and nothing need be left out."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def styled(text: str, style: Style | None) -> str:
    """The text in a style, where stdout is a terminal and NO_COLOR is not set."""
    if style is None or not text or os.environ.get("NO_COLOR") or not is_terminal():
        return text
    return f"\033[{_CODES[style]}m{text}\033[0m"
