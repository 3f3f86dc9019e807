"""Which results are averaged, and what stands beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lemctl.judge.statistics import t_interval
from lemctl.judge.stopping import Until
from lemctl.report.cells import ALL_SUSPECT, NO_RESULT, Cell, cells_of
from lemctl.store.read_results import Figure, RunResult

SPEED = "output_tokens_per_s"
ENERGY = "energy_per_output_token"


def result(value: float | None, verdict: str | None = "VALID", **changes: Any) -> RunResult:
    figures = {
        SPEED: Figure(value, None, "token/s", None if value is not None else "no times"),
        ENERGY: Figure(None, None, "J/output token", "no GPU: no meter ran"),
    }
    standard: dict[str, Any] = {
        "run": 1,
        "experiment": "e1",
        "backend": "replay",
        "model": "path:tiny",
        "axes": {"workload.load.batch_size": 8},
        "cycle": 1,
        "status": "Done",
        "fault": None,
        "message": None,
        "verdict": verdict,
        "precise": False,
        "invalid": 0,
        "figures": figures,
    }
    return RunResult(**{**standard, **changes})


def only(results: list[RunResult], include_suspect: bool = False) -> Cell:
    (cell,) = cells_of(results, (SPEED, ENERGY), include_suspect=include_suspect)
    return cell


def test_mean_and_interval_are_those_of_the_results() -> None:
    figure = only([result(80.0), result(90.0), result(100.0)]).figures[SPEED]
    interval = t_interval([80.0, 90.0, 100.0])
    assert interval is not None
    assert (figure.mean, figure.half_width, figure.n) == (90.0, interval.half_width, 3)


def test_one_result_has_no_interval() -> None:
    figure = only([result(80.0)]).figures[SPEED]
    assert (figure.mean, figure.half_width, figure.n) == (80.0, None, 1)


def test_suspect_results_are_left_out_unless_asked_for() -> None:
    results = [result(80.0), result(100.0, "SUSPECT")]
    left_out, averaged = only(results), only(results, include_suspect=True)
    assert (left_out.counted, left_out.discarded, left_out.figures[SPEED].mean) == (1, 1, 80.0)
    assert (averaged.counted, averaged.discarded, averaged.figures[SPEED].mean) == (2, 0, 90.0)
    assert left_out.verdicts == {"VALID": 1, "SUSPECT": 1}


def test_a_cell_of_suspect_results_alone_says_how_to_average_them() -> None:
    figure = only([result(80.0, "SUSPECT")]).figures[SPEED]
    assert (figure.mean, figure.reason) == (None, ALL_SUSPECT)


def test_invalid_attempts_are_counted_beside_n_and_never_averaged() -> None:
    cell = only([result(80.0, invalid=2), result(90.0)], include_suspect=True)
    assert (cell.counted, cell.invalid, cell.discarded) == (2, 2, 2)
    assert cell.figures[SPEED].mean == 85.0


def test_what_was_not_measured_is_absent_with_its_reason_and_never_zero() -> None:
    figure = only([result(80.0)]).figures[ENERGY]
    assert (figure.mean, figure.half_width, figure.reason) == (None, None, "no GPU: no meter ran")


def test_a_figure_that_some_results_lack_tells_its_own_n() -> None:
    figure = only([result(80.0), result(None)]).figures[SPEED]
    assert (figure.n, figure.mean, figure.reason) == (1, 80.0, "no times")


def test_failed_runs_count_as_planned_and_give_no_figure() -> None:
    failed = result(None, None, status="Failed", figures={}, fault="engine_error")
    cell = only([failed, failed])
    assert (cell.planned, cell.done, cell.counted, cell.statuses) == (2, 0, 0, {"Failed": 2})
    assert cell.figures[SPEED].reason == NO_RESULT


def test_cells_are_sorted_by_number_not_by_text() -> None:
    results = [result(1.0, experiment=f"e{size}", axes={"workload.load.batch_size": size}) for size in (16, 2, 128, 1)]
    cells = cells_of(results, (SPEED,), include_suspect=False)
    assert [cell.axes["workload.load.batch_size"] for cell in cells] == [1, 2, 16, 128]


@pytest.mark.parametrize("in_depth", [False, True])
def test_every_metric_is_shown_in_depth_only(in_depth: bool) -> None:
    (cell,) = cells_of([result(80.0), result(90.0)], (ENERGY,), include_suspect=False, in_depth=in_depth)
    assert (SPEED in cell.figures) is in_depth
    if in_depth:
        summary = cell.figures[SPEED].summary
        assert summary is not None
        assert summary.median == 85.0


def test_cycles_that_adaptation_saved_are_no_longer_planned_and_widen_the_interval() -> None:
    until = Until(half_width=0.02, min_cycles=2, max_cycles=9)
    done = [result(100.0 + n, run=n, cycle=n) for n in (1, 2, 3)]
    saved = [result(None, None, run=n, cycle=n, status="Skipped", precise=True, figures={}) for n in (4, 5)]
    (plain,) = cells_of(done, [SPEED], include_suspect=False)
    (adaptive,) = cells_of([*done, *saved], [SPEED], include_suspect=False, until=until)
    assert (adaptive.planned, adaptive.saved) == (3, 2)
    assert adaptive.statuses == {"Done": 3}
    narrow, wide = plain.figures[SPEED].half_width, adaptive.figures[SPEED].half_width
    assert narrow is not None
    assert wide == pytest.approx(narrow * until.widen_later)


def test_a_run_that_stands_out_is_flagged_and_still_averaged() -> None:
    results = [
        result(level * (1 + 0.002 * ((3 * cycle + shift) % 5)) * (2 if (name, cycle) == ("e2", 3) else 1))
        for name, level, shift in (("e1", 80.0, 0), ("e2", 90.0, 1), ("e3", 100.0, 3))
        for cycle in range(1, 7)
    ]
    labels = [(name, cycle) for name in ("e1", "e2", "e3") for cycle in range(1, 7)]
    results = [replace(run, experiment=name, cycle=cycle) for run, (name, cycle) in zip(results, labels, strict=True)]
    cells = cells_of(results, (SPEED,), include_suspect=False, in_depth=True)
    assert {cell.experiment: cell.figures[SPEED].outliers for cell in cells} == {"e1": (), "e2": (3,), "e3": ()}
    assert [cell.figures[SPEED].n for cell in cells] == [6, 6, 6]
