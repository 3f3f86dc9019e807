"""From an exception to what the person sees: one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from typer import Abort, Exit
from typer.exceptions import TyperException

from lemctl.errors import CannotGoOn, LemctlError, PersonsMistake, page
from lemctl.paths import default_home
from lemctl.redact import redact


def explain(error: Exception, is_verbose: bool) -> int:
    """Print what went wrong; returns the exit code."""
    if isinstance(error, PersonsMistake | CannotGoOn):
        _print(str(error) + (f" ({page(error.anchor)})" if error.anchor else ""))
        return error.exit_code
    if isinstance(error, LemctlError):
        _print(str(error))
        return 1
    if isinstance(error, Exit):
        return error.exit_code
    if isinstance(error, Abort):
        _print("interrupted")
        return 130
    if isinstance(error, TyperException):
        _print(_usage_line(error))
        return error.exit_code
    if is_verbose:
        traceback.print_exception(error)
    place = _keep_traceback(error)
    summary = (str(error).splitlines() or [""])[0]
    _print(f"internal error: {type(error).__name__}: {summary}; the traceback is in {place} ({page('exit-1')})")
    return 1


def _usage_line(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    return f"{message} (see `{context.command_path} --help`)" if context is not None else message


def _print(line: str) -> None:
    print(f"lemctl: {redact(line)}", file=sys.stderr)


def _keep_traceback(error: Exception) -> Path:
    """Append it to a file in the state folder, or in the temporary folder where there is none."""
    logs = default_home() / "logs"
    place = (logs if logs.is_dir() else Path(tempfile.gettempdir())) / "lemctl-errors.log"
    try:
        fd = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "a") as file:
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(redact(f"{stamp} {' '.join(sys.argv)}\n{''.join(traceback.format_exception(error))}\n"))
    except OSError:
        traceback.print_exception(error)
    return place
