"""The console entry: finds the noun, loads its module alone, and turns every error into one line and an exit code.

`lemctl`, `--help`, `--version` and plain `status` are answered without the command-line library: they are typed most
often, and its import costs more than everything else in them.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from lemctl.cli.nouns import NOUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPLETION_VARIABLE = "_LEMCTL_COMPLETE"
_COMPLETION_OPTIONS = ("--install-completion", "--show-completion")

EXIT_CODES = {
    0: "done",
    1: "internal error",
    2: "the file or the call is wrong",
    3: "ended with failed runs",
    4: "preflight refused, or the state cannot be used",
    5: "locked by another process",
    6: "no daemon",
    7: "not found",
    75: "outside its hours",
    130: "interrupted",
}


def main() -> None:
    """Entry point of the console script."""
    # Most commands live for a moment: collecting garbage and looking for plugins would cost them a tenth of a second.
    gc.set_threshold(100_000)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Prints errors, never raises them."""
    words, is_verbose = _take_global_options(list(arguments))
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has seen enough (`| head`). What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost edge: everything becomes a line and a code
        from lemctl.cli.mishap import explain

        return explain(error, is_verbose)


def _dispatch(words: list[str]) -> int:
    if os.environ.get(COMPLETION_VARIABLE) or (words and words[0] in _COMPLETION_OPTIONS):
        return _run_whole(words)
    if words and words[0] in ("--help", "-h", "help"):
        print(overview())
        return 0
    if words and words[0] in ("--version", "version"):
        print(version_line())
        return 0
    noun, rest = (words[0], words[1:]) if words and not words[0].startswith("-") else ("status", words)
    if noun not in NOUNS:
        from lemctl.campaign.keys import nearest
        from lemctl.errors import UsageMistake

        raise UsageMistake(f"no command {noun!r}{nearest(noun, NOUNS)}; `lemctl --help` lists all")
    if noun == "status" and rest in ([], ["--json"]):
        from lemctl.cli.status_view import show_status

        show_status(json=bool(rest))
        return 0
    return _run_noun(noun, rest)


def _run_noun(noun: str, rest: list[str]) -> int:
    import importlib

    import typer

    command = typer.main.get_command(importlib.import_module(NOUNS[noun].module).app)
    if not rest and isinstance(command, typer.core.TyperGroup):
        # A noun alone is a question, not a mistake: its verbs, over as many lines as they take.
        rest = ["--help"]
    # Without the library's own handling of errors and broken pipes: that is `run`'s business.
    try:
        with command.make_context(f"lemctl {noun}", rest) as context:
            code = command.invoke(context)
    except typer.Exit as end:
        code = end.exit_code
    return code if isinstance(code, int) else 0


def _run_whole(words: list[str]) -> int:
    import typer

    from lemctl.cli.whole import whole_app

    app = typer.main.get_command(whole_app())
    return int(app.main(args=words, prog_name="lemctl", standalone_mode=False) or 0)


def _take_global_options(words: list[str]) -> tuple[list[str], bool]:
    """Take `-q`, `-v` (anywhere) and `--home DIR` (before the noun) out of the words. Returns (words, is verbose)."""
    from lemctl.cli import terminal

    while words and (words[0] == "--home" or words[0].startswith("--home=")):
        first = words.pop(0)
        value = first.partition("=")[2] if "=" in first else (words.pop(0) if words else "")
        os.environ["LEM_HOME"] = value or os.environ.get("LEM_HOME", "")
    end = words.index("--") if "--" in words else len(words)
    options, kept = words[:end], words[end:]
    terminal.is_quiet = any(word in ("-q", "--quiet") for word in options)
    is_verbose = any(word in ("-v", "--verbose") for word in options)
    return [word for word in options if word not in ("-q", "--quiet", "-v", "--verbose")] + kept, is_verbose


def overview() -> str:
    """The text of `lemctl --help`."""
    width = max(map(len, NOUNS))
    lines = [
        "Usage: lemctl [--home DIR] COMMAND [ARGS]...",
        "",
        "  Runs campaigns of LLM inference experiments unattended and measures them.",
        "  `lemctl` alone is `lemctl status`.",
        "",
        "Commands (each has its own --help):",
        *(f"  {name:<{width}}  {noun.help}" for name, noun in NOUNS.items()),
        "",
        "Options:",
        "  --home DIR            State folder, before the command. [default: $LEM_HOME]",
        "  -q, --quiet           Print results and errors only. Anywhere on the line.",
        "  -v, --verbose         Show tracebacks of internal errors. Anywhere on the line.",
        "  --version             Version, and the commit that it is of.",
        "  --show-completion     Shell completion to copy; --install-completion installs it.",
        "  -h, --help            This text.",
        "",
        "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in list(EXIT_CODES.items())[:4]) + ",",
        "  " + ", ".join(f"{code} {meaning}" for code, meaning in list(EXIT_CODES.items())[4:8]) + ",",
        "  " + ", ".join(f"{code} {meaning}" for code, meaning in list(EXIT_CODES.items())[8:]),
    ]
    return "\n".join(lines)


def version_line() -> str:
    """`lemctl 0.1.0`, with its commit, and `modified` where files differed from it."""
    from lemctl import __version__
    from lemctl.cli.checkout import commit

    found = commit()
    return f"lemctl {__version__}" + (f" ({found})" if found else "")


if __name__ == "__main__":
    main()
