"""A campaign of 2,000 experiments still opens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_page import opened

from lemctl.paths import Home
from lemctl.report.gather import gather_story
from lemctl.report.page.build import html_page
from lemctl.report.page.library import Library
from lemctl.report.story import Story
from lemctl.store.database import Store

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COPIES = 170


def many(story: Story) -> Story:
    """The same campaign with one more axis, so that each experiment is there many times."""
    copies = range(COPIES)

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

    cells = [
        replace(cell, experiment=f"{number}-{cell.experiment}", axes={**cell.axes, "engine.copy": number})
        for number in copies
        for cell in story.report.cells
    ]
    return replace(
        story,
        report=replace(story.report, cells=cells, comparisons=[], lengths=[], work={}),
        runs=[run_of(number, run) for number in copies for run in story.runs],
        traces=[replace(run_of(number, one), buckets=one.buckets[::8]) for number in copies for one in story.traces],
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


def test_two_thousand_experiments_still_open(browser: Any, home: Home, tmp_path: Path) -> None:
    library = Library()
    with Store.open(home) as store:
        story = many(gather_story(store, None))
    assert len(story.report.cells) >= 2000
    page = tmp_path / "large.html"
    page.write_text(html_page(story, library), "utf-8")
    with opened(browser, page) as (tab, wrong):
        assert wrong == []
        assert tab.locator("#experiments tbody tr").count() == 50
        tab.get_by_role("button", name="Show all 2,040 rows").first.click()
        assert tab.locator("#experiments tbody tr").count() == 2040
        tab.locator("#filters").get_by_label("copy", exact=True).select_option("7")
        assert tab.locator("#experiments tbody tr").count() == 12
