"""A campaign of 200 experiments with samples is a small page, and one of 2,000 still opens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_page import many, opened

from lemctl.paths import Home
from lemctl.report.gather import gather_story
from lemctl.report.page.build import html_page
from lemctl.report.page.library import Library
from lemctl.report.traces import ALL_BUCKETS, read_traces
from lemctl.store.database import Store
from lemctl.store.queries import find_campaign
from lemctl.store.read_traces import measured_attempts

pytestmark = pytest.mark.browser

COPIES = 170
#: 28 copies of 12 experiments x 3 cycles: 336 experiments and 1,008 traces, which is more of both than 200 x 5 have.
COPIES_OF_200_X_5 = 28
MOST_B = 6_000_000


def test_two_hundred_experiments_by_five_with_samples_are_at_most_six_megabytes(home: Home, tmp_path: Path) -> None:
    with Store.open(home) as store:
        attempts = measured_attempts(store.connection, find_campaign(store.connection, None).id)
        # As many buckets as each of 1,000 traces is given, however many samples lie behind them.
        thinned = read_traces(store, attempts, ALL_BUCKETS // 1000)
        story = gather_story(store, None)
    results = [trace for trace in thinned if trace.attempt.is_result]
    story = many(replace(story, traces=results), COPIES_OF_200_X_5)
    assert len(story.report.cells) >= 200
    assert len(story.traces) >= 1000
    assert len(story.report.comparisons) >= 100
    assert sum(len(trace.buckets) for trace in story.traces) >= 0.9 * ALL_BUCKETS
    size_b = len(html_page(story, Library(home.drawing)).encode())
    assert size_b <= MOST_B


@pytest.mark.slow
def test_two_thousand_experiments_still_open(browser: Any, home: Home, tmp_path: Path) -> None:
    library = Library()
    with Store.open(home) as store:
        story = gather_story(store, None)
    thinned = [replace(trace, buckets=trace.buckets[::8]) for trace in story.traces]
    story = many(replace(story, traces=thinned), COPIES)
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
