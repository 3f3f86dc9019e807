"""A page opened in a browser, and what went wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lemctl.report.comparison import Pair
from lemctl.report.story import Story

READY_MS = 60_000
#: What a page must never take for markup.
HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script> & \"quoted\" 'words' <!--"


@contextmanager
def opened(browser: Any, page: Path, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """The page when all of it is drawn, and what went wrong: complaints, dialogs, requests."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    tab, wrong = context.new_page(), list[str]()
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-ready=all]", timeout=READY_MS)
    yield tab, wrong
    context.close()


def many(story: Story, count: int) -> Story:
    """The same campaign with one more axis, so that each experiment is there many times."""
    copies = range(count)

    def run_of(number: int, run: Any) -> Any:
        attempt = replace(
            run.attempt,
            run=run.attempt.run + 1000 * number,
            attempt=run.attempt.attempt + 1000 * number,
            experiment=f"{number}-{run.attempt.experiment}",
        )
        if not hasattr(run, "result"):
            return replace(run, attempt=attempt)
        result = replace(run.result, run=attempt.run, experiment=attempt.experiment)
        return replace(run, result=result, attempt=attempt)

    def pair_of(number: int, pair: Pair) -> Pair:
        first, second = (
            replace(side, results=[replace(one, experiment=f"{number}-{one.experiment}") for one in side.results])
            for side in (pair.first, pair.second)
        )
        return replace(pair, first=first, second=second)

    cells = [
        replace(cell, experiment=f"{number}-{cell.experiment}", axes={**cell.axes, "engine.copy": number})
        for number in copies
        for cell in story.report.cells
    ]
    pairs = [pair_of(number, pair) for number in copies for pair in story.report.comparisons]
    return replace(
        story,
        report=replace(story.report, cells=cells, comparisons=pairs, lengths=[], work={}),
        runs=[run_of(number, run) for number in copies for run in story.runs],
        traces=[run_of(number, one) for number in copies for one in story.traces],
        discarded=[],
        distributions=[
            replace(one, experiment=f"{number}-{one.experiment}") for number in copies for one in story.distributions
        ],
        covariates=[
            replace(
                one, points={f"{number}-{name}": points for number in copies for name, points in one.points.items()}
            )
            for one in story.covariates
        ],
    )
