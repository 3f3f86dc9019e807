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
from lemctl.cli.watch.queue import Filter, Queue
from lemctl.cli.watch.traces import Traces
from lemctl.cli.watch.words import Words
from lemctl.clock import Clock, SystemClock
from lemctl.errors import LemctlError
from lemctl.paths import Home
from lemctl.report.status import headline, tail
from lemctl.store.commands import Verb
from lemctl.store.queries import CampaignRow

LOOK_EVERY_S = 2.0
#: The tabs, each with what has the keys in it.
VIEWS = {"queue-tab": "#queue", "last-tab": "#last-scroll", "log-tab": "#log-scroll"}
#: What the border of a view and its scroll bar take of the width.
BESIDE_TEXT = 4
MIN_WIDTH = 60
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
        # Before any widget sees the keys: what is typed right after it must not go to the table.
        Binding("slash", "filter", "filter", key_display="/", priority=True),
        Binding("v", "next_view", "view"),
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
            with TabPane("Last runs", id="last-tab"), VerticalScroll(id="last-scroll"):
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
            width = max(MIN_WIDTH, self.size.width - BESIDE_TEXT)
            self.query_one("#last", Words).say(tail(self._picture.status, width))
        elif shown == "log-tab":
            self._follow(self._picture.log)
        self.query_one(Traces).show(self._picture)
        if self._picture.has_moved:
            self.query_one(Queue).show()

    def _follow(self, log: str) -> None:
        """The log, at its end unless somebody reads further up."""
        scroll = self.query_one("#log-scroll", VerticalScroll)
        is_at_end = scroll.is_vertical_scroll_end
        self.query_one("#log", Words).say(log)
        if is_at_end:
            scroll.scroll_end(animate=False)

    def _say_above(self, text: str) -> None:
        """The head, as high as it was of late."""
        height = text.count("\n")
        self._heights.append(height)
        self.query_one("#head", Words).say(text + "\n" * (max(self._heights) - height))

    def on_tabbed_content_tab_activated(self) -> None:
        """What was not shown was not kept up to date."""
        if self._picture is not None:
            self._look()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's
        """In the filter, `/` is a letter like any other (`4/s`); a question takes no other key than its own."""
        return action != "filter" or not (isinstance(self.focused, Filter) or isinstance(self.screen, Question))

    def action_filter(self) -> None:
        """Open the filter of the queue."""
        self.query_one(TabbedContent).active = "queue-tab"
        self.query_one(Queue).open_filter()

    def action_close_filter(self) -> None:
        """Forget the filter."""
        self.query_one(Queue).close_filter()

    def action_next_view(self) -> None:
        """The queue, the last runs, the log of the run under way, and the queue again."""
        tabs, names = self.query_one(TabbedContent), list(VIEWS)
        tabs.active = names[(names.index(tabs.active) + 1) % len(names)]
        self.screen.set_focus(self.query_one(VIEWS[tabs.active]))

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
            failed, cancelled = campaign.counts["Failed"], campaign.counts["Cancelled"]
            if not failed + cancelled:
                self.notify(f"no run of {campaign.label} has failed")
                return
            what = f"{failed} failed" + (f" and {cancelled} cancelled" if cancelled else "")
            arguments: dict[str, Any] = {"campaign": campaign.label, "failed": True, "where": None, "run": None}
            self._ask(f"Try the {what} runs of {campaign.label} again?", "retry", arguments)

    def action_skip(self) -> None:
        """Skip the run that the cursor is on."""
        if (chosen := self.query_one(Queue).chosen) is None:
            self.notify("there is no run to skip")
        else:
            run, state = chosen
            self._ask(f"Skip run {run}, which is {state}?", "skip", {"run": run})

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
