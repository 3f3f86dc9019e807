"""The live screen: what `lemctl status` says, two minutes of sensors, the queue, the log; steering after a question.

`q` leaves the screen; the daemon goes on.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, TabbedContent, TabPane

from lemctl.cli.ask import ask_daemon
from lemctl.cli.watch.picture import Picture, Reader
from lemctl.cli.watch.question import Question
from lemctl.cli.watch.queue import Queue
from lemctl.cli.watch.traces import Traces
from lemctl.cli.watch.words import Words
from lemctl.clock import Clock, SystemClock
from lemctl.errors import LemctlError
from lemctl.paths import Home
from lemctl.report.status import headline, tail
from lemctl.store.commands import Verb
from lemctl.store.queries import CampaignRow

LOOK_EVERY_S = 2.0
#: The head shrinks when it was shorter for so many looks: a screen whose lines jump with every phase of a run cannot be
#: read, and laying it out anew is most of what it costs.
SHRINKS_AFTER = 30


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

    def __init__(self, home: Home, clock: Clock | None = None):
        super().__init__()
        self._home = home
        self._reader = Reader(home, clock or SystemClock())
        self._picture: Picture | None = None
        self._heights: deque[int] = deque(maxlen=SHRINKS_AFTER)

    def compose(self) -> ComposeResult:
        """The screen, from top to bottom."""
        yield Words(id="head")
        yield Traces()
        with TabbedContent():
            yield Queue(self._reader.runs)
            with TabPane("Last runs", id="last-tab"), VerticalScroll():
                yield Words(id="last")
            with TabPane("Log", id="log-tab"), VerticalScroll(id="log-scroll"):
                yield Words(id="log")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Look at once, then every two seconds."""
        self._look()
        self.set_interval(LOOK_EVERY_S, self._look)

    def on_unmount(self) -> None:
        """Give the database back."""
        self._reader.close()

    def _look(self) -> None:
        if not self.is_running:  # a timer may ring once more while the widgets are taken down
            return
        try:
            self._picture = self._reader.look()
        except LemctlError as error:
            self._say_above(str(error))
            return
        self._say_above(headline(self._picture.status))
        shown = self.query_one(TabbedContent).active
        if shown == "last-tab":
            self.query_one("#last", Words).say(tail(self._picture.status))
        elif shown == "log-tab":
            self.query_one("#log", Words).say(self._picture.log)
        self.query_one(Traces).show(self._picture)
        if self._picture.has_moved:
            self.query_one(Queue).show()

    def _say_above(self, text: str) -> None:
        """The head, as high as it was of late."""
        height = text.count("\n")
        self._heights.append(height)
        self.query_one("#head", Words).say(text + "\n" * (max(self._heights) - height))

    def on_tabbed_content_tab_activated(self) -> None:
        """What was not shown was not kept up to date."""
        if self._picture is not None:
            self._look()

    def action_filter(self) -> None:
        """Open the filter of the queue."""
        self.query_one(TabbedContent).active = "queue-tab"
        self.query_one(Queue).open_filter()

    def action_close_filter(self) -> None:
        """Forget the filter."""
        self.query_one(Queue).close_filter()

    def action_next_gpu(self) -> None:
        """Show the next GPU's sensors."""
        self.query_one(Traces).show_next()

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
        if (run := self.query_one(Queue).chosen) is not None:
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


def watch(home: Home) -> None:
    """Show it until the person leaves."""
    Watch(home).run()
