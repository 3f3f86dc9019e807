"""The HTML report on paper: whole tables, every plot, nothing that only a screen can use."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_page import many, opened

from lemctl.paths import Home
from lemctl.report.gather import gather_story
from lemctl.report.page.build import html_page
from lemctl.report.page.library import Library
from lemctl.store.database import Store

pytestmark = pytest.mark.browser

COPIES = 6
ON_SCREEN = 50
#: What is of use on a screen alone.
SCREEN_ONLY = ("nav", "#filters", "#by-axes", ".controls", "button.save", ".zooms", ".more", "details.rows")


@pytest.fixture(scope="module")
def long_page(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 72 experiments and 36 refused pairs: more rows than a screen is given at first."""
    with Store.open(home) as store:
        story = gather_story(store, None)
    longer = many(story, COPIES)
    pairs = [replace(pair, differences=("dtype",), contrasts={}) for pair in longer.report.comparisons]
    longer = replace(longer, report=replace(longer.report, comparisons=pairs))
    path = tmp_path_factory.mktemp("long") / "report.html"
    path.write_text(html_page(longer, Library(home.drawing)), "utf-8")
    return path


def print_faults(tab: Any) -> list[str]:
    """What is wrong with the page on paper. Its rows are counted in the PDF's structure, which names each table row."""
    screen = tab.locator("#experiments tbody tr").count()
    pdf = tab.pdf(tagged=True, format="A4", landscape=True)
    printed = len(re.findall(rb"/S ?/TR\b", pdf))
    faults = [] if screen == ON_SCREEN else [f"{screen} rows on the screen"]
    heads = 2
    wanted = 12 * COPIES + 6 * COPIES + heads
    if printed != wanted:
        faults.append(f"{printed} rows in the PDF, not {wanted}")
    if len(re.findall(rb"/Type ?/Page\b", pdf)) < 3:
        faults.append("less than three sheets")
    tab.emulate_media(media="print")
    faults += [f"{one} is there" for one in SCREEN_ONLY if any(found.is_visible() for found in tab.locator(one).all())]
    faults += [
        f"plot {number} is not there"
        for number, plot in enumerate(tab.locator(".plot:not(:has(.absent))").all())
        if not plot.locator("svg, canvas").is_visible()
    ]
    if tab.evaluate(
        "[...document.querySelectorAll('main .scroll')].some(one => getComputedStyle(one).overflowX !== 'visible')"
    ):
        faults.append("a table is cut off at the edge")
    return faults


def test_it_prints_every_row_and_every_plot(browser: Any, long_page: Path) -> None:
    with opened(browser, long_page) as (tab, wrong):
        assert print_faults(tab) == []
        assert wrong == []


@pytest.mark.parametrize(
    ("part", "lost", "fault"),
    [
        ("@media print {", "@media (max-width: 1px) {", "nav is there"),
        ("@media print {", "@media (max-width: 1px) {", "a table is cut off at the edge"),
        (
            'addEventListener("beforeprint"',
            'addEventListener("never"',
            f"{ON_SCREEN + 10 + 2} rows in the PDF, not 110",
        ),
    ],
    ids=["what a screen alone can use", "the edge", "the rows that a screen leaves out"],
)
def test_without_what_is_done_for_paper_it_would_not(
    browser: Any, long_page: Path, tmp_path: Path, part: str, lost: str, fault: str
) -> None:
    text = long_page.read_text("utf-8")
    assert text.count(part) == 1
    bare = tmp_path / "bare.html"
    # Its policy knows the scripts as they were.
    bare.write_text(text.replace(part, lost).replace('"Content-Security-Policy"', '"x-none"'), "utf-8")
    with opened(browser, bare) as (tab, _):
        assert fault in print_faults(tab)
