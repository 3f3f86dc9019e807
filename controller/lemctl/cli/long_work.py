"""What a person sees of a command that works for long, on stderr: a bar on a terminal, now and then a line elsewhere,
nothing with `-q`. What is over soon shows nothing, and costs no import."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from lemctl.cli import terminal
from lemctl.lines import duration
from lemctl.steps import Step, Tell, unheard

if TYPE_CHECKING:
    from rich.progress import Progress

#: A bar for less than this would only flicker.
BAR_AFTER_S = 0.5
BAR_EVERY_S = 0.1
PLAIN_AFTER_S = 5.0
PLAIN_EVERY_S = 30.0


@contextmanager
def long_work(what: str) -> Iterator[Tell]:
    """Show what is under way until the block ends: `what`, then each step that the block tells."""
    if terminal.is_quiet:
        yield unheard
        return
    drawing: _Drawing = _Bar() if terminal.is_terminal(sys.stderr) else _Lines()
    shown, is_over = _Shown(Step(what)), threading.Event()
    thread = threading.Thread(target=_draw, args=(drawing, shown, is_over), daemon=True)
    thread.start()
    try:
        yield shown.tell
    finally:
        is_over.set()
        thread.join()


class _Shown:
    """The step that was told last."""

    def __init__(self, step: Step) -> None:
        self.step = step

    def tell(self, step: Step) -> None:
        self.step = step


class _Drawing(Protocol):
    after_s: float
    every_s: float

    def draw(self, step: Step, elapsed_s: float) -> None: ...

    def end(self) -> None: ...


def _draw(drawing: _Drawing, shown: _Shown, is_over: threading.Event) -> None:
    begun_s, wait_s = time.monotonic(), drawing.after_s
    # Whoever closed our stderr does not look any more; the work goes on.
    with contextlib.suppress(OSError, ValueError):
        try:
            while not is_over.wait(wait_s):
                drawing.draw(shown.step, time.monotonic() - begun_s)
                wait_s = drawing.every_s
        finally:
            drawing.end()


class _Lines:
    """For a log: few of them, no control characters."""

    def __init__(self) -> None:
        self.after_s, self.every_s = PLAIN_AFTER_S, PLAIN_EVERY_S

    def draw(self, step: Step, elapsed_s: float) -> None:
        known = [step.amount, duration(elapsed_s)]
        print(f"{step.what} ({', '.join(filter(None, known))})", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Nothing stays open."""


class _Bar:
    """A line that is redrawn, and erased in the end; what is printed meanwhile stands above it."""

    def __init__(self) -> None:
        self.after_s, self.every_s = BAR_AFTER_S, BAR_EVERY_S
        self._progress: Progress | None = None

    def draw(self, step: Step, elapsed_s: float) -> None:
        if self._progress is None:
            self._progress = _rich_progress()
            self._progress.add_task("", amount="", elapsed="")
            self._progress.start()
        (task,) = self._progress.tasks
        task.description, task.total, task.completed = step.what, step.total, step.done or 0
        task.fields.update(amount=step.amount, elapsed=duration(elapsed_s))
        self._progress.refresh()

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _rich_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.table import Column

    what = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(20),
        TextColumn("{task.fields[elapsed]}", markup=False, table_column=Column(no_wrap=True)),
        TextColumn("{task.description}", markup=False, table_column=what),
    )
    # Results that go into a file or a pipe go there as they are.
    return Progress(
        *columns,
        console=Console(stderr=True, highlight=False),
        auto_refresh=False,
        transient=True,
        expand=True,
        redirect_stdout=terminal.is_terminal(),
    )
