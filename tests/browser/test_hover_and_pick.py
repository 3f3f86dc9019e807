"""The plots under a real mouse: what hovering tells, and what a click, a legend, a wheel and a chooser change."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_page import opened

from lemctl.paths import Home

pytestmark = pytest.mark.browser

#: The middle of a plot's nth point, in the window; the plot is scrolled into sight first.
POINT = """([section, nth]) => {
  const plot = document.querySelector(`#${section} .plot`);
  plot.scrollIntoView({ block: "center", behavior: "instant" });
  const box = plot.querySelectorAll("svg .mark-symbol.role-mark path")[nth].getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}"""
#: A place at a share of the trace's width, far from its line: low in the part that shows the power.
IN_THE_TRACE = """share => {
  const plot = document.querySelector("#windows .plot");
  plot.scrollIntoView({ block: "center", behavior: "instant" });
  const line = plot.querySelector("svg .mark-line.role-mark path").getBoundingClientRect();
  return [line.left + share * line.width, line.bottom - 2];
}"""
TIP = "#hover:not([hidden])"
PATHS = (
    "section => [...document.querySelectorAll(`#${section} .plot svg .role-mark path`)].map(p => p.getAttribute('d'))"
)


@pytest.fixture
def tab(browser: Any, written: Path) -> Iterator[Any]:
    """The page of the simulated campaign; nothing that is done to it may make it complain."""
    with opened(browser, written) as (found, wrong):
        yield found
        assert wrong == []


def hover(tab: Any, section: str, nth: int = 0) -> list[str]:
    """The lines of what is told of a point under the mouse."""
    x, y = tab.evaluate(POINT, [section, nth])
    tab.mouse.move(x - 4, y - 4)
    tab.mouse.move(x, y, steps=4)
    tab.locator(TIP).wait_for()
    lines: list[str] = tab.locator(f"{TIP} > div").all_inner_texts()
    return lines


def means(home: Home, metric: str) -> dict[str, float]:
    """Setting as the page writes it -> the database's mean of a metric over its results."""
    with sqlite3.connect(home.database) as connection:
        rows = connection.execute(
            "SELECT r.axes->>'backend', r.axes->>'$.\"workload.load.batch_size\"',"
            " r.axes->>'$.\"workload.max_new_tokens\"', avg(m.value) FROM runs r JOIN attempts a ON a.run_id = r.id AND"
            " a.outcome = 'ok' JOIN metrics m ON m.attempt_id = a.id AND m.name = ? GROUP BY r.experiment",
            (metric,),
        ).fetchall()
    return {f"backend={one} batch_size={size} max_new_tokens={length}": mean for one, size, length, mean in rows}


@pytest.mark.parametrize("section", ["parameters", "pareto", "latencies", "effects"])
def test_hovering_over_a_point_tells_its_experiment_and_the_databases_figures(
    tab: Any, home: Home, section: str
) -> None:
    energy, speed = means(home, "energy_per_output_token"), means(home, "output_tokens_per_s")
    assert len(energy) == 12
    setting, n, *figures = hover(tab, section)
    assert n == "n 3 of 3"
    told = dict(line.split(": ", 1) for line in figures if ": " in line)
    for header, mean in (("J/out token", energy[setting]), ("tokens/s", speed[setting])):
        assert float(told[header].split(" ± ")[0].replace(",", "")) == pytest.approx(mean, rel=6e-3)
    tab.mouse.move(2, 2)
    tab.locator("#hover").wait_for(state="hidden")


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_hovering_over_the_trace_tells_the_power_at_that_time(tab: Any, home: Home, share: float) -> None:
    x, y = tab.evaluate(IN_THE_TRACE, share)
    tab.mouse.move(x - 3, y)
    tab.mouse.move(x, y, steps=3)
    tab.locator(TIP).wait_for()
    at, power, temperature, *_ = tab.locator(f"{TIP} > div").all_inner_texts()
    seconds, phase = float(at.split(" s, ")[0]), at.split(" s, ")[1]
    low, high, mean = (float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", power))
    assert low <= mean <= high
    with sqlite3.connect(home.database) as connection:
        around = connection.execute(
            "SELECT s.reading->>'power_mw', s.reading->>'temp_c', (a.ended_mono_ns - a.started_mono_ns) / 1e9"
            " FROM attempts a JOIN samples s ON s.boot_id = a.boot_id AND s.series = 'power' AND s.t_mono_ns BETWEEN"
            " a.started_mono_ns + ?1 - 100000000 AND a.started_mono_ns + ?1 + 30000000000 WHERE a.id = 1"
            " ORDER BY s.t_mono_ns",
            (round(seconds * 1e9),),
        ).fetchall()
        begun_ns, facts = connection.execute("SELECT started_mono_ns, facts FROM attempts WHERE id = 1").fetchone()
    timeline = [(name, (t_ns - begun_ns) / 1e9) for name, t_ns in json.loads(facts)["timeline"]]
    # The page rounds to tenths of a second.
    assert phase in {
        [name for name, since_s in timeline if since_s <= seconds + slack_s][-1] for slack_s in (-0.1, 0, 0.1)
    }
    assert seconds == pytest.approx(share * around[0][2], rel=0.15)
    powers = [power_mw / 1e3 for power_mw, _, _ in around]
    assert min(abs(low - power_w) for power_w in powers[:60]) < 0.06
    assert min(abs(high - power_w) for power_w in powers[:60]) < 0.06
    assert any(temperature == f"{temp} °C" for _, temp, _ in around[:60])


def test_clicking_a_point_picks_its_experiment(tab: Any) -> None:
    setting, *_ = hover(tab, "pareto", 2)
    x, y = tab.evaluate(POINT, ["pareto", 2])
    tab.mouse.click(x, y)
    dialog = tab.locator("dialog#picked[open]")
    dialog.wait_for()
    assert dialog.locator("h3").inner_text() == setting
    assert dialog.get_by_role("button", name="show").count() == 3


OPACITIES = """section => [...document.querySelectorAll(`#${section} .plot svg .mark-symbol.role-mark path`)]
  .map(path => [path.getAttribute("fill"), Number(path.getAttribute("opacity") ?? 1)])"""


def test_a_name_in_the_legend_leaves_its_series_alone_in_full_colour(tab: Any) -> None:
    tab.evaluate(POINT, ["parameters", 0])
    before = tab.evaluate(OPACITIES, "parameters")
    colours = {colour for colour, _ in before}
    assert len(colours) == 2
    assert len({opacity for _, opacity in before}) == 1
    box = tab.locator("#parameters .plot svg .role-legend-label text", has_text="replay").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_function(f"new Set(({OPACITIES})('parameters').map(one => one[1])).size === 2")
    after: dict[str, set[float]] = {}
    for colour, opacity in tab.evaluate(OPACITIES, "parameters"):
        after.setdefault(colour, set()).add(opacity)
    (dim, full) = sorted(after.values(), key=max)
    assert len(dim) == len(full) == 1
    assert max(dim) < 0.2
    assert min(full) == 1


def test_the_wheel_zooms_and_a_double_click_goes_back(tab: Any) -> None:
    x, y = tab.evaluate(POINT, ["effects", 0])
    before = tab.evaluate(PATHS, "effects")
    places = "[...document.querySelectorAll('#effects .plot svg .role-axis-label text')].map(t => t.textContent).join()"
    labels = tab.evaluate(places)
    tab.mouse.move(x, y)
    tab.keyboard.down("Shift")
    tab.mouse.wheel(0, -400)
    tab.keyboard.up("Shift")
    tab.wait_for_function(f"labels => {places} !== labels", arg=labels)
    tab.mouse.dblclick(*tab.evaluate(CORNER, "effects"))
    tab.wait_for_function(f"labels => {places} === labels", arg=labels)
    assert len(tab.evaluate(PATHS, "effects")) == len(before)


#: A place in a plot without a point: a click there picks nothing.
CORNER = """section => {
  const box = document.querySelector(`#${section} .plot svg path.background`).getBoundingClientRect();
  return [box.left + 3, box.top + 3];
}"""


@pytest.mark.parametrize(
    ("section", "chooser", "option", "axis_title"),
    [
        ("parameters", "figure", "tokens/s", "tokens/s"),
        ("parameters", "by", "max_new_tokens", "max_new_tokens"),
        ("pareto", "against", "TTFT p50 (s)", "TTFT p50 (s)"),
    ],
)
def test_a_chooser_changes_what_is_drawn(tab: Any, section: str, chooser: str, option: str, axis_title: str) -> None:
    before = tab.evaluate(PATHS, section)
    tab.locator(f"#{section}").get_by_label(chooser, exact=True).select_option(label=option)
    titles = tab.locator(f"#{section} .plot svg .role-axis-title text", has_text=axis_title)
    titles.first.wait_for()
    assert tab.evaluate(PATHS, section) != before


def test_the_chooser_of_colours_draws_other_series(tab: Any) -> None:
    legend = tab.locator("#parameters .plot svg .role-legend-label text")
    assert legend.all_text_contents() == ["pytorch", "replay"]
    tab.locator("#parameters").get_by_label("colour", exact=True).select_option(label="max_new_tokens")
    tab.wait_for_function(
        "[...document.querySelectorAll('#pareto .plot svg .role-legend-label text')].map(t => t.textContent).join()"
        " === '16,32'"
    )
    assert legend.all_text_contents() == ["16", "32"]


def test_another_window_draws_another_trace(tab: Any, home: Home) -> None:
    windows = tab.locator("#windows")
    windows.scroll_into_view_if_needed()
    before = tab.evaluate(PATHS, "windows")
    caption = windows.locator("figcaption").inner_text()
    option = windows.get_by_label("experiment", exact=True).locator("option").nth(5).inner_text()
    windows.get_by_label("experiment", exact=True).select_option(label=option)
    windows.locator("figcaption", has_text=option).wait_for()
    assert option not in caption
    tab.wait_for_function(f"before => JSON.stringify(({PATHS})('windows')) !== JSON.stringify(before)", arg=before)
    cycle = windows.get_by_label("cycle", exact=True).locator("option").last.inner_text()
    run = re.search(r"\(run (\d+), attempt 1\)", cycle)
    assert run is not None
    windows.get_by_label("cycle", exact=True).select_option(label=cycle)
    windows.locator("figcaption", has_text=f"run {run[1]},").wait_for()
