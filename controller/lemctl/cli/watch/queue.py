"""The queue on the live screen: the runs whose turn comes first, or those that have the words of the filter."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Input, TabPane

from lemctl.cli.watch.runs_left import Found, RunsLeft
from lemctl.cli.watch.words import Words
from lemctl.lines import plural

#: Beyond so many rows that leave at once the table is made anew, which is less work then.
LEAVE_ONE_BY_ONE = 20


class Filter(Input):
    """Words that a run must have. Every letter is one of them, so the keys that steer are the table's."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "keep"),
        Binding("escape", "app.close_filter", "forget"),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="words that a run must have", id="filter")


class Queue(TabPane):
    """A table with a filter above it and, below it, how many runs it does not show."""

    def __init__(self, runs: RunsLeft):
        super().__init__("Queue", id="queue-tab")
        self._runs = runs

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Filter()
        yield DataTable(id="queue", cursor_type="row", zebra_stripes=True)
        yield Words(id="more")

    def on_mount(self) -> None:
        """The table's columns; it has the keys."""
        self._table.add_columns("run", "state", "what", "cycle")
        self._table.focus()

    @property
    def _table(self) -> DataTable[str]:
        return self.query_one("#queue", DataTable)

    @property
    def _filter(self) -> Filter:
        return self.query_one(Filter)

    @property
    def chosen(self) -> tuple[int, str] | None:
        """The run that the cursor is on, and its state in a word or two."""
        if not self._table.row_count:
            return None
        run, state, *_ = self._table.get_row_at(self._table.cursor_row)
        return int(run), state.lower()

    def show(self) -> None:
        """The runs as they are now."""
        words = self._filter.value.lower().split()
        found = self._runs.find(words)
        self._show_rows(found)
        more = self.query_one("#more", Words)
        more.display = found.more > 0 or not found.rows
        more.say(_rest(found, has_words=bool(words)))

    def _show_rows(self, found: Found) -> None:
        table = self._table
        wanted = {str(row.line.run): row.cells for row in found.rows}
        shown = [str(key.value) for key in table.rows]
        gone = [run for run in shown if run not in wanted]
        if len(gone) > LEAVE_ONE_BY_ONE or [run for run in shown if run in wanted] != list(wanted):
            at = table.cursor_row
            table.clear()
            for run, cells in wanted.items():
                table.add_row(*cells, key=run)
            if table.row_count:
                table.move_cursor(row=min(at, table.row_count - 1))
            return
        # As a rule runs only leave: a table of some hundred rows is not made anew for that.
        for run in gone:
            table.remove_row(run)
        for run, cells in wanted.items():
            before = table.get_row(run)
            for place, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
                if before[place] != cell:
                    table.update_cell(run, column, cell)

    def open_filter(self) -> None:
        """Let a person type. The keys are the filter's at once: the first letter of a fast typist steers nothing."""
        self._filter.display = True
        self.screen.set_focus(self._filter)

    def close_filter(self) -> None:
        """Forget the filter."""
        self._filter.value = ""
        self._filter.display = False
        self.screen.set_focus(self._table)

    def on_input_changed(self) -> None:
        """The filter works as it is typed."""
        self.show()

    def on_input_submitted(self) -> None:
        """Back to the table, the filter kept."""
        self._table.focus()


def _rest(found: Found, *, has_words: bool) -> str:
    """What the table does not show."""
    if not found.rows:
        return "no run has all of these words" if has_words else "no run is left"
    if has_words:
        return f"and {plural(found.more, 'more hit')}"
    return f"and {plural(found.more, 'more run')}, which / finds, too"
