"""`python -m lem_runner SESSION_DIR`, `... describe BACKEND`, `... prefetch JOB.json`, `... context`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

USAGE = "usage: python -m lem_runner SESSION_DIR | describe BACKEND | prefetch JOB.json | context"


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) == 2 and arguments[0] == "describe":
        return _describe(arguments[1])
    if len(arguments) == 2 and arguments[0] == "prefetch":
        from lem_runner.prefetch import run_prefetch

        return run_prefetch(Path(arguments[1]))
    if arguments == ["context"]:
        from lem_runner.context import hold_context

        return hold_context()
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        from lem_runner.session import run_session

        code = run_session(Path(arguments[0]))
        sys.stdout.flush()
        sys.stderr.flush()
        # Not by returning: a thread that an engine left behind would keep the process after its bye.
        os._exit(code)
    print(USAGE, file=sys.stderr)
    return 2


def _describe(name: str) -> int:
    from lem_runner.describe import catalogue_text
    from lem_runner.failures import BadRequestError

    try:
        sys.stdout.write(catalogue_text(name))
    except (BadRequestError, ImportError) as error:
        print(f"lem_runner: describe {name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
