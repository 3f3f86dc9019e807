"""Many short lives of the daemon, each of which may kill itself at one of its commits.

`Lives` holds a process that has everything imported and forks a real daemon for each, so that a life costs what it does
and not what Python's start costs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from lemctl.daemon.process import main
from lemctl.store.database import Store
from night import Night

#: Counted are the commits that change a run, a campaign, an attempt or a session; what only tells how far things are
#: (`live`) decides nothing.
_STATE = """SELECT (SELECT max(id) FROM transitions), (SELECT count(*) FROM attempts),
  (SELECT count(*) FROM attempts WHERE outcome IS NULL), (SELECT count(*) FROM sessions),
  (SELECT count(*) FROM sessions WHERE ended_utc IS NULL), (SELECT count(*) FROM sessions WHERE hello IS NULL)"""


class Lives:
    """Use it in a `with`. One life at a time."""

    def __init__(self, night: Night):
        self._night = night
        night.home.create()
        environment = {**os.environ, **night.variables(), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, __file__]
        log = (night.home.logs / "daemon.out").open("ab")
        self._source = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
        self.pid = 0

    def __enter__(self) -> Lives:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.pid:
            self.kill()
        self._source.communicate(timeout=10)

    def begin(self, moment: str = "never", number: int = 0) -> None:
        """A new life, which ends `before` or `after` its `number`th commit."""
        self.pid = self._ask([moment, number])

    def wait(self) -> int:
        """The end of this life: its exit code, negative for a signal."""
        try:
            return self._ask(None)
        finally:
            self.pid = 0

    def kill(self) -> None:
        """SIGKILL, now."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def _ask(self, what: object) -> int:
        assert self._source.stdin is not None
        assert self._source.stdout is not None
        print(json.dumps(what), file=self._source.stdin, flush=True)
        return int(self._source.stdout.readline())


def die_at(moment: str, number: int) -> None:
    """From now on the `number`th such commit is the last thing that happens, or the first that does not."""
    whole = Store.transaction
    seen = 0

    @contextmanager
    def transaction(self: Store) -> Iterator[Any]:
        nonlocal seen
        is_last = False
        with whole(self) as tx:
            before = tuple(tx.execute(_STATE).fetchone())
            yield tx
            if tuple(tx.execute(_STATE).fetchone()) != before:
                seen += 1
                is_last = seen == number
            if is_last and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    Store.transaction = transaction  # type: ignore[assignment,method-assign]


def be_a_source_of_lives() -> None:
    """Fork a daemon for each order, or tell how the last one ended."""
    import lemctl.daemon.recovery
    import lemctl.daemon.serve
    import lemctl.daemon.world  # noqa: F401

    pid = 0
    for line in sys.stdin:
        order = json.loads(line)
        if order is None:
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
        elif (pid := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            if order[0] != "never":
                die_at(*order)
            os._exit(main())
        else:
            print(pid, flush=True)


if __name__ == "__main__":
    be_a_source_of_lives()
