"""The runs of a campaign that have not ended, as the queue's table shows them. No widget in here.

A filter searches all of them. Reading ten thousand runs whole takes a tenth of a second of CPU, and at night one
changes its state every few seconds: so what never changes of a run is read once, when a filter first wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lemctl.report.figures import axes_line
from lemctl.store.database import Store
from lemctl.store.read_status import QueueLine, last_transition, queue_length, queue_lines, queue_states
from lemctl.store.status import RUN_ACTIVE

#: So many rows at most: a table of more is slow to draw, and nobody reads it.
SHOWN = 300


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: run, state, what, cycle."""

    line: QueueLine
    cells: tuple[str, str, str, str]

    @classmethod
    def of(cls, line: QueueLine) -> Row:
        """As a person reads it."""
        axes = {key: value for key, value in line.axes.items() if key != "backend"}
        what = f"{line.backend} {axes_line(axes)}{f', {line.why}' if line.why else ''}"
        # Which phase it is in stands above: a table of sixty lines is not drawn anew for that.
        state = "under way" if line.status in RUN_ACTIVE else line.status
        return cls(line, (str(line.run), state, what, str(line.cycle)))

    def has(self, words: Sequence[str]) -> bool:
        """Whether all of the words, in lower case, stand in it."""
        text = " ".join(self.cells).lower()
        return all(word in text for word in words)


@dataclass(frozen=True, slots=True)
class Found:
    """The rows to show in the order of their turn, and how many more runs there are of that kind."""

    rows: Sequence[Row]
    more: int


class RunsLeft:
    """Reads of one campaign at a time what `find` needs. Owned by one thread."""

    def __init__(self, store: Store):
        self._connection = store.connection
        self._seen: tuple[int | None, int] | None = None
        self._campaign: int | None = None
        self._rows: Mapping[int, Row] = {}
        self._whole: Sequence[Row] | None = None

    def look(self, campaign: int | None) -> bool:
        """Whether anything can have changed since the look before; `campaign` is the row id of the one to show."""
        seen = campaign, last_transition(self._connection)
        if seen == self._seen:
            return False
        if campaign != self._campaign:
            self._rows = {}
        self._seen, self._campaign, self._whole = seen, campaign, None
        return True

    def find(self, words: Sequence[str]) -> Found:
        """The runs that have all of the words, which are in lower case; without words all runs."""
        if self._campaign is None:
            return Found((), 0)
        if not words:
            lines = queue_lines(self._connection, self._campaign, SHOWN)
            return Found([Row.of(line) for line in lines], queue_length(self._connection, self._campaign) - len(lines))
        if self._whole is None:
            self._whole = self._read_whole(self._campaign)
        hits = [row for row in self._whole if row.has(words)]
        return Found(hits[:SHOWN], max(0, len(hits) - SHOWN))

    def _read_whole(self, campaign: int) -> Sequence[Row]:
        states = queue_states(self._connection, campaign)
        if any(run not in self._rows for run, _, _ in states):
            self._rows = {line.run: Row.of(line) for line in queue_lines(self._connection, campaign)}
        known = self._rows
        self._rows = {run: _as_of_now(known[run], status, why) for run, status, why in states if run in known}
        return list(self._rows.values())


def _as_of_now(row: Row, status: str, why: str | None) -> Row:
    if (row.line.status, row.line.why) == (status, why):
        return row
    return Row.of(replace(row.line, status=status, why=why))
