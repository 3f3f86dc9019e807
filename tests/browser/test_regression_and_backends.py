"""The HTML report of a grid of lengths on two backends: the regression, the ratios, and the pairs that are refused."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import pytest
from report_page import opened

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.cli.main import run
from lemctl.paths import Home, data_folder
from lemctl.simulate import run_campaign

pytestmark = pytest.mark.browser

CAMPAIGN = """
name: grid
model: "random:{vocab_size: 1000}"
preset: benchmark
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 32, load: {batch_size: 8}}
sweep:
  backend: [pytorch, replay]
  workload.random.input_len: [16, 112]
  workload.max_new_tokens: [16, 32, 48]
cycles: 3
"""
#: Where one of the backends did other work: that length is refused.
REFUSED_LENGTH = 48


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The state folder of a simulated grid, on which `replay` computed the longest outputs in another precision."""
    home = Home(tmp_path_factory.mktemp("grid"))
    made = plan(loads(CAMPAIGN, catalogue_dir=data_folder() / "images"))
    assert run_campaign(made, CAMPAIGN, home, seed=4, sample_s=5.0) == 0
    with sqlite3.connect(home.database) as connection:
        changed = connection.execute(
            "UPDATE works SET document = json_set(document, '$.dtype', 'float16') WHERE attempt_id IN"
            " (SELECT a.id FROM attempts a JOIN runs r ON r.id = a.run_id WHERE r.axes->>'backend' = 'replay'"
            "  AND r.axes->>'$.\"workload.max_new_tokens\"' = ?)",
            (REFUSED_LENGTH,),
        ).rowcount
        assert changed == 6
        connection.execute(
            "UPDATE works SET document = json_set(document, '$.dtype', 'bfloat16') WHERE document->>'dtype' IS NULL"
        )
    return home


@pytest.fixture(scope="module")
def tab(browser: Any, grid: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Its page."""
    path = tmp_path_factory.mktemp("page") / "grid.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEM_HOME", str(grid.root))
        assert run(["report", "grid", "--html", "-o", str(path)]) == 0
    with opened(browser, path) as (found, wrong):
        yield found
        assert wrong == []


def stored(home: Home, *metrics: str) -> list[dict[str, Any]]:
    """One object a run: its experiment, axes, cycle, and figures by name."""
    with sqlite3.connect(home.database) as connection:
        rows = connection.execute(
            "SELECT r.experiment, r.axes, r.cycle, json_group_object(m.name, m.value) FROM runs r"
            " JOIN attempts a ON a.run_id = r.id AND a.outcome = 'ok' JOIN metrics m ON m.attempt_id = a.id"
            " GROUP BY r.id"
        ).fetchall()
    return [
        {"experiment": experiment, "cycle": cycle, **json.loads(axes)}
        | {name: json.loads(figures)[name] for name in metrics}
        for experiment, axes, cycle, figures in rows
    ]


def shown_rows(tab: Any, section: str) -> list[list[str]]:
    """The texts of the table under a plot, row by row; every one of them."""
    details = tab.locator(f"#{section} details.rows").first
    details.evaluate("one => { one.open = true; }")
    details.locator("tbody tr").first.wait_for()
    more = details.locator(".more")
    if more.is_visible():
        more.click()
    rows: list[list[str]] = details.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


MARKS = "section => document.querySelectorAll(`#${section} .plot svg .mark-symbol.role-mark path`).length"


def test_the_regression_is_drawn_from_the_databases_figures(tab: Any, grid: Home) -> None:
    names = ("tokens_in", "tokens_out", "requests", "energy_net_per_request")
    runs = stored(grid, *names)
    page = tab.evaluate("JSON.parse(document.getElementById('data').textContent)")
    assert tab.evaluate(MARKS, "lengths") == len(runs) == 36
    assert tab.locator("#terms table").count() == len(page["lengths"]) == 2
    for fit in page["lengths"]:
        own = [one for one in runs if one["backend"] == fit["backend"]]
        measured = sorted(y for _, _, y in fit["points"])
        assert measured == pytest.approx(sorted(one["energy_net_per_request"] for one in own), rel=1e-6)
        assert [term["term"] for term in fit["terms"]] == ["constant", "N_in", "N_out", "N_in N_out", "N_out^2"]
        # Least squares: what is left over is orthogonal to every term.
        coefficients = [term["coefficient"] for term in fit["terms"]]
        left, terms = [], []
        for one in own:
            a = one["tokens_in"] / one["requests"] - fit["centre_in"]
            b = one["tokens_out"] / one["requests"] - fit["centre_out"]
            terms.append((1.0, a, b, a * b, b * b))
            fitted = math.fsum(c * x for c, x in zip(coefficients, terms[-1], strict=True))
            assert any(x == pytest.approx(fitted, rel=1e-6) for _, x, _ in fit["points"])
            left.append(one["energy_net_per_request"] - fitted)
        assert max(map(abs, left)) > 1e-3
        for column in zip(*terms, strict=True):
            size = math.fsum(abs(x * y) for x, y in zip(column, left, strict=True))
            assert abs(math.fsum(x * y for x, y in zip(column, left, strict=True))) < 1e-6 * size


def test_the_terms_stand_beside_the_plot_with_their_intervals(tab: Any) -> None:
    page = tab.evaluate("JSON.parse(document.getElementById('data').textContent)")
    tables = tab.locator("#terms table").evaluate_all(
        "tables => tables.map(table => [...table.tBodies[0].rows].map(row => [...row.cells].map(c => c.textContent)))"
    )
    for fit, rows in zip(page["lengths"], tables, strict=True):
        for term, (name, coefficient, interval, inflation) in zip(fit["terms"], rows, strict=True):
            assert name == term["term"]
            assert float(coefficient) == pytest.approx(term["coefficient"], rel=0.01)
            edges = [float(edge) for edge in interval.split(" .. ")]
            assert edges == pytest.approx(term["interval"], rel=0.01)
            assert float(inflation) == pytest.approx(term["vif"], abs=0.06)
    assert "E_net per request" in tab.locator("#lengths figcaption").inner_text()


def test_pairs_of_backends_have_the_databases_ratios(tab: Any, grid: Home) -> None:
    energy = "energy_per_output_token"
    runs = stored(grid, energy)
    axes = ("workload.random.input_len", "workload.max_new_tokens")
    logs: dict[tuple[Any, ...], list[float]] = {}
    for one in runs:
        (other,) = [
            two
            for two in runs
            if two["backend"] == "replay" and all(one[axis] == two[axis] for axis in (*axes, "cycle"))
        ]
        if one["backend"] == "pytorch" and one[axes[1]] != REFUSED_LENGTH:
            logs.setdefault(tuple(one[axis] for axis in axes), []).append(math.log(other[energy] / one[energy]))
    expected = {f"input_len={a} max_new_tokens={b}": math.exp(fmean(found)) for (a, b), found in logs.items()}
    assert len(expected) == 4
    assert {len(found) for found in logs.values()} == {3}
    rows = shown_rows(tab, "backends")
    assert tab.evaluate(MARKS, "backends") == len(rows) == 4
    for setting, first, second, ratio, interval, _, blocks, verdict, work in rows:
        assert (first, second, blocks) == ("pytorch", "replay", "3")
        assert float(ratio) == pytest.approx(expected[setting], rel=1e-3)
        low, high = (float(edge) for edge in interval.split(" .. "))
        assert low <= float(ratio) <= high
        assert verdict in ("better", "worse", "not resolved")
        assert work == "the same"


def test_a_pair_that_did_other_work_is_refused_and_says_what_differed(tab: Any) -> None:
    refused = tab.locator("#refused table")
    assert "(2 of 6 pairs)" in refused.locator("caption").inner_text()
    rows = refused.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert sorted(row[0] for row in rows) == [f"input_len={n} max_new_tokens={REFUSED_LENGTH}" for n in (112, 16)]
    for _, first, second, differed in rows:
        assert (first, second) == ("pytorch", "replay")
        assert "bfloat16" in differed
        assert "float16" in differed.replace("bfloat16", "")
