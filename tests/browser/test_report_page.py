"""The HTML report in a real browser: it opens without a complaint, shows the database's figures, and fits."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_page import HOSTILE, opened

from lemctl.paths import Home

pytestmark = pytest.mark.browser

FIRST_VIEW_MS = 2000
#: Machines that are busy with other tests.
SLACK = 5


def test_it_opens_soon_without_a_complaint_and_without_the_network(browser: Any, written: Path) -> None:
    with opened(browser, written) as (tab, wrong):
        first_ms = tab.evaluate("performance.getEntriesByName('first-view')[0].startTime")
        assert wrong == []
        assert first_ms < FIRST_VIEW_MS * SLACK
        assert tab.locator(".plot svg, .plot canvas").count() >= 6
        assert tab.locator(".simulated").inner_text().startswith("SIMULATED")


def test_every_figure_of_the_table_is_the_databases(browser: Any, written: Path, home: Home) -> None:
    with sqlite3.connect(home.database) as connection:
        rows = connection.execute(
            "SELECT r.experiment, m.name, count(m.value), avg(m.value) FROM runs r JOIN attempts a ON a.run_id = r.id"
            " AND a.verdict = 'VALID' JOIN metrics m ON m.attempt_id = a.id WHERE r.status = 'Done' GROUP BY 1, 2"
        ).fetchall()
        planned = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    stored = {(experiment, name): (count, mean) for experiment, name, count, mean in rows}
    with opened(browser, written) as (tab, _):
        cells = tab.locator("#experiments td[data-mean]").evaluate_all("cells => cells.map(c => ({...c.dataset}))")
        tiles = tab.locator("#summary .tiles").inner_text()
        shown = tab.evaluate("JSON.parse(document.getElementById('data').textContent)")
    assert len(cells) == 12 * len({cell["metric"] for cell in cells})
    assert {"energy_per_output_token", "output_tokens_per_s", "ttft_p50"} < {cell["metric"] for cell in cells}
    for cell in cells:
        count, mean = stored[cell["experiment"], cell["metric"]]
        assert int(cell["n"]) == count
        assert float(cell["mean"]) == pytest.approx(mean, rel=1e-8)
    for one in shown["cells"]:
        for number, (n, mean, _) in one["figures"].items():
            assert (n, mean) == pytest.approx(
                stored[one["experiment"], shown["metrics"][int(number)]["name"]], rel=1e-8
            )
    assert f"{planned} / {planned}" in tiles


def test_tables_by_any_axes_hold_the_same_figures(browser: Any, written: Path) -> None:
    with opened(browser, written) as (tab, _):
        place = tab.locator("#by-axes")
        place.get_by_role("checkbox", name="max_new_tokens").check()
        place.get_by_label("figure", exact=True).select_option(label="tokens/s")
        cells = place.locator("td[data-mean]")
        assert cells.count() == 12
        means = tab.evaluate(
            "[...document.querySelectorAll('#experiments td[data-metric=output_tokens_per_s]')]"
            ".map(cell => cell.dataset.mean)"
        )
        assert sorted(cells.evaluate_all("found => found.map(c => c.dataset.mean)")) == sorted(means)
        assert "3/3" in cells.first.inner_text()
        place.get_by_role("checkbox", name="max_new_tokens").uncheck()
        assert "2 experiments (6/6)" in place.locator("tbody").inner_text()


def test_a_filter_and_a_pick_reach_every_part(browser: Any, written: Path) -> None:
    with opened(browser, written) as (tab, wrong):
        tab.locator("#filters").get_by_label("backend", exact=True).select_option("replay")
        assert tab.locator("#experiments tbody tr").count() == 6
        tab.locator("#experiments .pick").first.click()
        dialog = tab.locator("dialog#picked")
        assert "backend=replay" in dialog.inner_text()
        assert "energy_per_output_token" in dialog.inner_text()
        dialog.get_by_role("button", name="show").first.click()
        tab.wait_for_function("document.querySelector('#windows figcaption').textContent.includes('backend=replay')")
        assert wrong == []


def test_the_trace_marks_its_window_and_its_throttling(browser: Any, written: Path, home: Home) -> None:
    with sqlite3.connect(home.database) as connection:
        ((peak_mw,),) = connection.execute(
            "SELECT max(s.reading->>'power_mw') FROM attempts a JOIN samples s ON s.boot_id = a.boot_id AND"
            " s.series = 'power' AND s.t_mono_ns BETWEEN a.started_mono_ns AND a.ended_mono_ns WHERE a.id = 1"
        ).fetchall()
    with opened(browser, written) as (tab, _):
        traces = tab.evaluate("JSON.parse(document.getElementById('traces').textContent)")
        (trace,) = [one for one in traces if one["attempt"] == 1]
        assert len(traces) == 37
        assert max(trace["high"]) == pytest.approx(peak_mw / 100, abs=0.6)  # extremes outlive the thinning
        assert {name for name, _, _ in trace["phases"]} >= {"loading", "cooling", "baseline", "warmup", "window"}
        begin, end = trace["windows"][0]
        assert trace["throttled"]
        assert all(begin - 10 <= trace["t"][place] <= (begin + end) / 2 for place in trace["throttled"])
        tab.evaluate("document.querySelector('#windows').scrollIntoView()")
        assert "THROTTLED" in tab.locator("#windows figcaption").inner_text()


def test_a_discarded_window_has_its_trace_and_why_it_was_discarded(browser: Any, written: Path, home: Home) -> None:
    with sqlite3.connect(home.database) as connection:
        ((run, cycle, outcome, verdict, text),) = connection.execute(
            "SELECT r.id, r.cycle, a.outcome, a.verdict, f.text FROM attempts a JOIN runs r ON r.id = a.run_id"
            " JOIN findings f ON f.attempt_id = a.id AND f.severity = 'INVALID' WHERE a.id = 1"
        ).fetchall()
    assert (outcome, verdict) == ("failed", "INVALID")
    with opened(browser, written) as (tab, wrong):
        caption = tab.locator("#windows figcaption")
        tab.locator("#windows").get_by_role("button", name="later").click()
        caption.get_by_text("VALID; GPU").wait_for()
        tab.locator("#windows").get_by_label("windows", exact=True).select_option(label="discarded (1)")
        caption.get_by_text("discarded").wait_for()
        assert f"run {run}, cycle {cycle}, attempt 1, INVALID, discarded: {text}; GPU" in caption.inner_text()
        assert "slowdown" in text
        assert f"{cycle} (run {run}, attempt 1 INVALID)" in tab.locator("#windows .controls").inner_text()
        assert wrong == []


#: Words of a plot that reach beyond it.
CUT_OFF = """() => [...document.querySelectorAll(".plot")].flatMap(plot => {
  const edge = plot.getBoundingClientRect();
  const words = [...plot.querySelectorAll("svg text")].filter(one => one.textContent);
  return words.filter(one => {
    const box = one.getBoundingClientRect();
    return box.width && (box.left < edge.left - 2 || box.right > edge.right + 2);
  }).map(one => one.textContent);
})"""


@pytest.mark.parametrize("width", [360, 412])
def test_a_telephone_need_not_scroll_sideways(browser: Any, written: Path, width: int) -> None:
    phone = {"viewport": {"width": width, "height": 800}, "is_mobile": True, "has_touch": True}
    with opened(browser, written, **phone) as (tab, wrong):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(CUT_OFF) == []
        assert wrong == []


#: How far the ticks of a plot reach, of both axes together.
REACH = """id => {
  const labels = [...document.querySelectorAll(`#${id} .plot .role-axis-label text`)];
  const ticks = labels.map(one => Number(one.textContent.replaceAll(",", ""))).filter(Number.isFinite);
  return Math.max(...ticks) - Math.min(...ticks);
}"""


def test_a_telephone_zooms_by_buttons_that_have_names(browser: Any, written: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 800}, "is_mobile": True, "has_touch": True}
    with opened(browser, written, **phone) as (tab, wrong):
        for part in ("parameters", "latencies", "windows"):
            tab.evaluate("id => document.getElementById(id).scrollIntoView()", part)
            tab.wait_for_selector(f"#{part} .plot svg")
            group = tab.locator(f"#{part}").get_by_role("group", name="zoom: ")
            for name, is_so in (("zoom in", "<"), ("zoom out", ">")):
                before = tab.evaluate(REACH, part)
                group.get_by_role("button", name=name).tap()
                tab.wait_for_function(f"([id, before]) => ({REACH})(id) {is_so} before", arg=[part, before])
        assert not tab.locator("#backends").get_by_role("button", name="zoom in").is_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        assert wrong == []


def test_dark_mode_keeps_words_readable(browser: Any, written: Path) -> None:
    with opened(browser, written, color_scheme="dark") as (tab, wrong):
        paper, ink = tab.evaluate(
            "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
            ".map(colour => colour.match(/[0-9]+/g).map(Number))"
        )
        label = tab.locator("#parameters svg text").first.evaluate("text => getComputedStyle(text).fill")
        assert sum(paper) < 150 < 600 < sum(ink)
        assert sum(map(int, re.findall(r"\d+", label))) > 350
        assert wrong == []


def test_every_plot_has_a_name_and_the_same_as_a_table(browser: Any, written: Path) -> None:
    with opened(browser, written) as (tab, _):
        drawn = tab.locator(".plot:not(:has(.absent))")
        names = drawn.evaluate_all("found => found.map(one => one.ariaLabel)")
        assert len(names) == 7
        assert len(set(names)) == 7
        assert all(len(name) > 40 for name in names)
        for summary in tab.locator("details.rows:not([hidden]) > summary").all():
            summary.click()
            rows = summary.locator("xpath=..").locator("tbody tr")
            rows.first.wait_for()
            assert rows.count() >= 2
        unnamed = "select, button, input"
        for control in tab.locator(unnamed).all():
            assert control.evaluate("one => one.ariaLabel || one.textContent.trim() || one.labels?.length")


def test_words_of_a_campaign_are_never_markup(browser: Any, hostile_home: Home, write: Callable[[Home], Path]) -> None:
    page = write(hostile_home)
    with opened(browser, page) as (tab, wrong):
        assert wrong == []
        assert tab.locator("img").count() == 0
        assert tab.locator("script").count() == 5
        assert HOSTILE in tab.locator("#summary").inner_text()
        assert HOSTILE in tab.locator("#experiments").inner_text()
        tab.locator("#experiments .pick").first.click()
        assert HOSTILE in tab.locator("#picked").inner_text()
        assert wrong == []


def test_the_policy_lets_nothing_in(browser: Any, written: Path) -> None:
    with opened(browser, written) as (tab, wrong):
        for element in (
            "Object.assign(document.createElement('script'), {textContent: 'window.in = 1'})",
            "Object.assign(new Image(), {src: 'https://example.org/x.png'})",
        ):
            with tab.expect_console_message(lambda message: "Content Security Policy" in message.text):
                tab.evaluate(f"document.body.append({element})")
        assert tab.evaluate("window.in") is None
        assert len([text for text in wrong if "Content Security Policy" in text]) == 2
        assert tab.evaluate("document.querySelector('body > img').naturalWidth") == 0


def test_what_was_not_measured_is_said_in_place_of_a_plot(
    browser: Any, home: Home, tmp_path: Path, write: Callable[[Home], Path]
) -> None:
    bare = Home(tmp_path / "bare")
    bare.root.mkdir()
    with sqlite3.connect(home.database) as connection:
        target = sqlite3.connect(bare.database)
        connection.backup(target)
        target.close()
    with sqlite3.connect(bare.database) as connection:
        connection.execute("DELETE FROM samples")
        connection.execute("UPDATE attempts SET facts = '{}'")
        connection.execute(
            "UPDATE metrics SET value = NULL, uncertainty = NULL, reason = 'no GPU: no meter ran'"
            " WHERE name LIKE 'energy%'"
        )
    with opened(browser, write(bare)) as (tab, wrong):
        assert wrong == []
        assert "no samples" in tab.locator("#windows .absent").inner_text()
        assert "no GPU: no meter ran" in tab.locator("#pareto .absent").inner_text()
        assert "no distribution" in tab.locator("#latencies .absent").inner_text()
        assert "tokens/s" in tab.locator("#parameters figcaption").inner_text()
        figures = json.loads(tab.locator("#data").evaluate("one => one.textContent"))["main"]
        assert figures
