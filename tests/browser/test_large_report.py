"""A campaign of 2,000 experiments still opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_page import many, opened

from lemctl.paths import Home
from lemctl.report.gather import gather_story
from lemctl.report.page.build import html_page
from lemctl.report.page.library import Library
from lemctl.store.database import Store

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COPIES = 170


def test_two_thousand_experiments_still_open(browser: Any, home: Home, tmp_path: Path) -> None:
    library = Library()
    with Store.open(home) as store:
        story = many(gather_story(store, None), COPIES)
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
