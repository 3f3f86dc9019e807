"""The live screen: what `lemctl status` says, two minutes of sensors, the queue, the log; steering after a question.

`q` leaves the screen; the daemon goes on.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import DataTable, Footer, Input, Sparkline, Static, TabbedContent, TabPane

from lemctl.cli.ask import ask_daemon
from lemctl.cli.watch.picture import HISTORY_S, TRACES, History, Picture, Reader
from lemctl.cli.watch.question import Question
from lemctl.errors import LemctlError
from lemctl.paths import Home
from lemctl.report.figures import axes_line
from lemctl.report.status import headline, tail
from lemctl.store.commands import Verb
from lemctl.store.queries import CampaignRow
from lemctl.store.read_status import QueueLine
from lemctl.store.status import RUN_ACTIVE

LOOK_EVERY_S = 2.0
#: The head shrinks when it was shorter for so many looks: a screen whose lines jump with every phase of a run cannot be
#: read, and laying it out anew is most of what it costs.
SHRINKS_AFTER = 30
NO_SENSORS = "no GPU readings in the last two minutes"


class Watch(App[None]):
    """`lemctl status --watch` on a terminal."""

    CSS_PATH = "style.tcss"
    TITLE = "lemctl"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "pause"),
        Binding("s", "stop", "stop"),
        Binding("c", "cancel", "cancel"),
        Binding("x", "skip", "skip"),
        Binding("r", "retry", "retry"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("g", "next_gpu", "GPU"),
        Binding("q", "quit", "leave"),
        Binding("escape", "close_filter", "", show=False),
    ]

    def __init__(self, home: Home):
        super().__init__()
        self._home = home
        self._reader = Reader(home)
        self._picture: Picture | None = None
        self._queue: list[QueueLine] = []
        self._gpu = 0
        self._said: dict[str, str] = {}
        self._heights: deque[int] = deque(maxlen=SHRINKS_AFTER)

    def compose(self) -> ComposeResult:
        """The screen, from top to bottom."""
        yield Static(id="head", markup=False)
        with Container(id="traces"):
            for name in TRACES:
                with Container(classes="trace", id=f"trace-{list(TRACES).index(name)}"):
                    yield Static(name, markup=False)
                    yield Sparkline([], summary_function=max)
            yield Static(NO_SENSORS, id="no-sensors", markup=False)
        with TabbedContent():
            with TabPane("Queue", id="queue-tab"):
                yield Input(placeholder="words that a run must have", id="filter")
                yield DataTable(id="queue", cursor_type="row", zebra_stripes=True)
            with TabPane("Last runs", id="last-tab"), VerticalScroll():
                yield Static(id="last", markup=False)
            with TabPane("Log", id="log-tab"), VerticalScroll(id="log-scroll"):
                yield Static(id="log", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Look at once, then every two seconds."""
        table = self.query_one("#queue", DataTable)
        table.add_columns("run", "state", "what", "cycle")
        table.focus()
        self._look()
        self.set_interval(LOOK_EVERY_S, self._look)

    def on_unmount(self) -> None:
        """Give the database back."""
        self._reader.close()

    def _look(self) -> None:
        try:
            self._picture = self._reader.look()
        except LemctlError as error:
            self._say_above(str(error))
            return
        self._say_above(headline(self._picture.status))
        shown = self.query_one(TabbedContent).active
        if shown == "last-tab":
            self._say("#last", tail(self._picture.status))
        elif shown == "log-tab":
            self._say("#log", self._picture.log)
        self._show_traces(list(self._picture.histories))
        if self._picture.queue is not None:
            self._queue = list(self._picture.queue)
            self._show_queue()

    def _say_above(self, text: str) -> None:
        """The head, as high as it was of late."""
        height = text.count("\n")
        self._heights.append(height)
        self._say("#head", text + "\n" * (max(self._heights) - height))

    def _say(self, selector: str, text: str) -> None:
        """Put a text into its place; where everything lies is only worked out anew when its number of lines changes."""
        before = self._said.get(selector)
        if text != before:
            self._said[selector] = text
            is_longer = before is None or before.count("\n") != text.count("\n")
            self.query_one(selector, Static).update(text, layout=is_longer)

    def on_tabbed_content_tab_activated(self) -> None:
        """What was not shown was not kept up to date."""
        if self._picture is not None:
            self._look()

    def _show_traces(self, histories: list[History]) -> None:
        is_blind = not any(history.seconds for history in histories)
        self.query_one("#traces").set_class(is_blind, "none")
        self.query_one("#no-sensors").display = is_blind
        for index, (name, (_, _, unit)) in enumerate(TRACES.items()):
            box = self.query_one(f"#trace-{index}")
            box.display = not is_blind
            if is_blind:
                continue
            history = histories[self._gpu % len(histories)]
            now = history.now(name)
            told = "—" if now is None else f"{now:.0f} {unit}"
            box.query_one(Static).update(f"{name:<12}{told}", layout=False)
            # Held where nothing was told: a gap must not look like a fall to 0.
            box.query_one(Sparkline).data = _held(list(history.values[name]))

    def _show_queue(self) -> None:
        words = self.query_one("#filter", Input).value.lower().split()
        rows = {str(line.run): _cells(line) for line in self._queue}
        wanted = {run: cells for run, cells in rows.items() if all(word in " ".join(cells).lower() for word in words)}
        table = self.query_one("#queue", DataTable)
        shown = [str(key.value) for key in table.rows]
        if [run for run in shown if run in wanted] != list(wanted):
            at = table.cursor_row
            table.clear()
            for run, cells in wanted.items():
                table.add_row(*cells, key=run)
            if table.row_count:
                table.move_cursor(row=min(at, table.row_count - 1))
            return
        # As a rule runs only leave: a table of some hundred rows is not made anew for that.
        for run in shown:
            if run not in wanted:
                table.remove_row(run)
            elif wanted[run][1] != table.get_row(run)[1]:
                for column, cell in zip(table.columns, wanted[run], strict=True):
                    table.update_cell(run, column, cell)

    def on_input_changed(self) -> None:
        """The filter works as it is typed."""
        self._show_queue()

    def on_input_submitted(self) -> None:
        """Back to the table, the filter kept."""
        self.query_one("#queue", DataTable).focus()

    def action_filter(self) -> None:
        """Open the filter of the queue."""
        self.query_one(TabbedContent).active = "queue-tab"
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def action_close_filter(self) -> None:
        """Forget the filter."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("open")
        self.query_one("#queue", DataTable).focus()

    def action_next_gpu(self) -> None:
        """Show the next GPU's sensors."""
        self._gpu += 1
        if self._picture is not None:
            self._show_traces(list(self._picture.histories))

    def action_pause(self) -> None:
        """Pause the first campaign, or let it go on."""
        if (campaign := self._campaign()) is None:
            return
        if campaign.status in ("Paused", "Stopped"):
            self._ask(f"Go on with {campaign.label}?", "resume", {"campaign": campaign.label})
        else:
            text = f"Pause {campaign.label}? The run under way goes on to its end."
            self._ask(text, "pause", {"campaign": campaign.label, "reason": "paused by a person"})

    def action_stop(self) -> None:
        """Stop the first campaign after its run."""
        if (campaign := self._campaign()) is not None:
            self._ask(f"Stop {campaign.label} after the run under way?", "stop", {"campaign": campaign.label})

    def action_cancel(self) -> None:
        """Cancel the first campaign."""
        if (campaign := self._campaign()) is not None:
            text = f"Cancel {campaign.label}, its {campaign.left} runs left and the one under way? Results stay."
            self._ask(text, "cancel", {"campaign": campaign.label})

    def action_retry(self) -> None:
        """Try the first campaign's failed runs again."""
        if (campaign := self._campaign()) is not None:
            failed = campaign.counts.get("Failed", 0)
            arguments: dict[str, Any] = {"campaign": campaign.label, "failed": True, "where": None, "run": None}
            self._ask(f"Try the {failed} failed runs of {campaign.label} again?", "retry", arguments)

    def action_skip(self) -> None:
        """Skip the run that the cursor is on."""
        table = self.query_one("#queue", DataTable)
        if table.row_count:
            run = int(table.get_row_at(table.cursor_row)[0])
            self._ask(f"Skip run {run}?", "skip", {"run": run})

    def _campaign(self) -> CampaignRow | None:
        campaign = None if self._picture is None else self._picture.status.first
        if campaign is None:
            self.notify("there is no campaign")
        return campaign

    def _ask(self, text: str, verb: Verb, arguments: dict[str, Any]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(lambda: self._carry_out(verb, arguments), thread=True)

        self.push_screen(Question(text), answered)

    def _carry_out(self, verb: Verb, arguments: dict[str, Any]) -> None:
        """On a thread of its own: the daemon answers when it has happened."""
        try:
            answer = ask_daemon(self._home, verb, arguments)
        except LemctlError as error:
            self.call_from_thread(self.notify, str(error), severity="error", markup=False)
            return
        severity = "error" if answer.exit_code else "information"
        self.call_from_thread(self.notify, answer.text, severity=severity, markup=False)


def _cells(line: QueueLine) -> tuple[str, str, str, str]:
    axes = {key: value for key, value in line.axes.items() if key != "backend"}
    what = f"{line.backend} {axes_line(axes)}{f', {line.why}' if line.why else ''}"
    # Which phase it is in stands above: a table of sixty lines is not drawn anew for that.
    state = "under way" if line.status in RUN_ACTIVE else line.status
    return str(line.run), state, what, str(line.cycle)


def _held(values: list[float | None]) -> list[float]:
    held: list[float] = []
    for value in values[-HISTORY_S:]:
        if value is not None:
            held.append(value)
        elif held:
            held.append(held[-1])
    return held


def watch(home: Home) -> None:
    """Show it until the person leaves."""
    Watch(home).run()
