"""How figures, tables and screens are written."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from test_cells import result

from lemctl.judge.drift import find_drift
from lemctl.report.cells import Cell, cells_of
from lemctl.report.columns import COLUMNS
from lemctl.report.document import Report
from lemctl.report.figures import axes_line, axis_names, axis_value, milliseconds, number, sort_key
from lemctl.report.status import DaemonState, GpuNow, LaneState, LeftNow, Scheduled, Status, status_text
from lemctl.report.table import clipped, narrowed, table
from lemctl.report.text import GAIN_NOTE, TOO_FEW_REPEATS, text_report
from lemctl.store.queries import RUN_STATUSES, CampaignRow
from lemctl.store.read_status import FaultCount, QueueLine, RunLine


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "—"),
        (0.0, "0"),
        (256.0, "256"),
        (812.345, "812.3"),
        (12345.6, "12,346"),
        (0.4555, "0.456"),
        (0.00412, "0.00412"),
        (0.0000123, "1.23e-05"),
        (5.11e12, "5.11e+12"),
        (-3.14159, "-3.14"),
    ],
)
def test_numbers(value: float | None, written: str) -> None:
    assert number(value) == written


@pytest.mark.parametrize(("value_s", "written"), [(None, "—"), (0.0123, "12.3 ms"), (1.234, "1.23 s"), (0.5, "500 ms")])
def test_latencies(value_s: float | None, written: str) -> None:
    assert milliseconds(value_s) == written


def test_axis_names_are_as_short_as_they_can_be_told_apart() -> None:
    keys = ["backend", "workload.load.batch_size", "vllm.engine.dtype", "engine.dtype"]
    assert list(axis_names(keys).values()) == ["backend", "batch_size", "vllm.engine.dtype", "engine.dtype"]


def test_axis_values_are_written_as_in_the_file() -> None:
    assert axis_value(True) == "true"
    assert axis_value(None) == "-"
    assert axes_line({"workload.load.batch_size": 8, "engine.dtype": "float16"}) == "batch_size=8 dtype=float16"
    assert axes_line({}) == "-"


def test_a_table_is_aligned_and_cuts_nothing_off() -> None:
    text = table(["name", "n"], [["a", "1"], ["longer", "1000"]], right=(1,))
    assert text == "name       n\na          1\nlonger  1000"


def test_a_clipped_line_is_one_line_and_says_that_it_was_cut() -> None:
    assert clipped("one\n two", 20) == "one two"
    assert clipped("abcdef", 4) == "abc…"


def campaign(**changes: object) -> CampaignRow:
    counts = dict.fromkeys(RUN_STATUSES, 0) | {"Done": 3, "Failed": 1, "Queued": 4}
    row = CampaignRow(1, "demo", 1, "Active", None, "local", 0, None, "2026-01-05T22:00:00.000000Z", None, counts)
    return CampaignRow(**{**{name: getattr(row, name) for name in row.__slots__}, **changes})  # type: ignore[arg-type]


def report(energy: bool, executor: str = "local") -> Report:
    from lemctl.store.read_results import Figure

    one = result(80.0)
    one.figures["energy_per_output_token"] = Figure(0.4 if energy else None, None, "J", None if energy else "no GPU")
    surroundings = {"host": "h", "sessions": [], "environments": {}}
    cells = cells_of([one], [column.metric for column in COLUMNS], include_suspect=False)
    return Report(campaign(executor=executor), "benchmark", surroundings, cells, [], "/x/lem.db", False)


def test_a_report_of_energy_says_what_the_sensor_is_worth() -> None:
    assert GAIN_NOTE in text_report(report(energy=True))
    assert GAIN_NOTE not in text_report(report(energy=False))


def test_a_simulated_report_is_marked() -> None:
    assert "SIMULATED" in text_report(report(energy=False, executor="simulate"))
    assert "SIMULATED" not in text_report(report(energy=False))
    assert report(energy=False, executor="simulate").to_json()["simulated"] is True


def test_an_absent_figure_stands_as_a_dash_with_its_reason_below() -> None:
    text = text_report(report(energy=False))
    assert "J/out token: no GPU" in text


def cells(rho: float, experiments: int) -> list[Cell]:
    draw, runs = random.Random(4), []
    for index in range(experiments):
        value = draw.gauss(0, 1)
        for cycle in range(1, 6):
            runs.append(result(100 + 2 * value, experiment=f"e{index}", cycle=cycle))
            value = rho * value + (1 - rho * rho) ** 0.5 * draw.gauss(0, 1)
    return cells_of(runs, [column.metric for column in COLUMNS], include_suspect=False)


def test_repeats_that_resemble_each_other_widen_their_intervals_and_the_report_says_so() -> None:
    alike = replace(report(energy=False), cells=cells(0.6, 60))
    assert "repeats    of tokens/s resemble those before them (correlation 0." in text_report(alike)
    few = replace(report(energy=False), cells=cells(0.6, 3))
    assert TOO_FEW_REPEATS in text_report(few)
    figure = alike.cells[0].figures["output_tokens_per_s"]
    assert figure.correlation is not None
    assert figure.correlation.rho == pytest.approx(0.6, abs=0.25)
    assert figure.to_json()["repeat_correlation"] == figure.correlation.rho


def test_a_report_says_how_deep_idle_moved() -> None:
    assert "drift" not in text_report(report(energy=True))
    moved = replace(report(energy=True), drift=find_drift([(80.0, 0.2), (84.0, 0.2)]))
    assert "deep idle moved by +5.0% ± 0.4% from the campaign's start to its end, more than 3%" in text_report(moved)
    assert moved.to_json()["drift"]["shift"] == pytest.approx(0.05)


LINE = RunLine(
    run=413,
    campaign="demo",
    experiment="e1",
    backend="pytorch",
    axes={"workload.load.batch_size": 8, "engine.attn_implementation": "a rather long value that fills the line"},
    cycle=2,
    status="Running",
    attempt=1,
    outcome=None,
    fault=None,
    message=None,
    verdict=None,
    started_utc=None,
    ended_utc=None,
    took_s=63.0,
    figures={"output_tokens_per_s": 812.0, "ttft_p50": 0.012, "energy_per_output_token": 0.455},
)


def status(**changes: object) -> Status:
    lane = LaneState("gpu-1", {"run": 413, "cycle": 2, "phase": "cooling", "waits_for": "38 C (is 41 C)"}, LINE, 72.0)
    standard: dict[str, object] = {
        "daemon": DaemonState(4711, 0.3, None),
        "campaigns": [campaign(), campaign(name="later", status="Waiting")],
        "left": LeftNow(240.0, 300.0, "measured", None, None, None, None, 0),
        "scheduled": [],
        "lanes": [lane],
        "last": [LINE],
        "faults": [FaultCount("silent", 1, 398, "no sign of life for 60 s " * 10)],
        "home": "/x",
    }
    return Status(**{**standard, **changes})  # type: ignore[arg-type]


def test_status_says_how_many_nights_are_left_when_they_end_and_what_fits_none() -> None:
    left = LeftNow(7e4, 9e4, "like", "22:00 to 07:00 (Europe/Berlin)", "Fri 27 Nov 03:10 CET", 3, 4, 2)
    text = status_text(status(left=left, scheduled=[Scheduled("weekly", "Fri 27 Nov 22:00 CET", "0 22 * * 5")]))
    assert "about 19 h 26 min left, at most 1 d 1 h (partly from like runs)" in text
    assert "3 to 4 of its nights, ends about Fri 27 Nov 03:10 CET" in text
    assert "hours 22:00 to 07:00 (Europe/Berlin)" in text
    assert "2 experiments longer than any of its hours: not run in them" in text
    assert "scheduled weekly: begins Fri 27 Nov 22:00 CET, by 0 22 * * 5" in text


def test_hours_of_many_windows_are_broken_over_lines() -> None:
    words = " and ".join(f"{hour:02d}:00 to {hour:02d}:30 on mon-fri" for hour in range(12)) + " (Europe/Berlin)"
    lines = status_text(status(left=LeftNow(7e4, 9e4, "like", words, None, None, None, 0))).splitlines()
    assert max(map(len, lines)) <= 80
    assert f"hours {words}" in " ".join(line.strip() for line in lines)


def test_status_says_when_a_pause_ends_by_itself() -> None:
    paused = campaign(status="Paused", reason="breaker", until_utc="2026-11-27T03:10:00.000000Z")
    assert "goes on by itself at 2026-11-27 03:10 UTC" in status_text(status(campaigns=[paused]))


def test_status_says_what_the_lane_waits_for_and_how_long() -> None:
    text = status_text(status())
    assert "cooling for 1 min 12 s" in text
    assert "waits for 38 C (is 41 C)" in text
    assert "about 4 min 00 s left" in text
    assert "see `lemctl logs 398`" in text


def test_a_bar_is_for_a_terminal_and_the_share_for_everybody() -> None:
    piped, shown = status_text(status()), status_text(status(), has_bar=True)
    assert not re.search("#{4}|-{4}", piped.split("\nrun ")[0])
    (bar,) = re.findall(r"#*-* \d+%", shown)
    assert re.search(rf"^ {{10}}{bar.split()[1]}$", piped, re.MULTILINE)


def test_status_fits_eighty_columns() -> None:
    assert max(map(len, status_text(status()).splitlines())) <= 80


def test_a_hung_daemon_is_told_from_a_dead_and_a_living_one() -> None:
    assert "hung" in status_text(status(daemon=DaemonState(4711, 300.0, None)))
    assert "not running; runs are waiting" in status_text(status(daemon=DaemonState(None, None, None)))
    assert "daemon    running, pid 4711" in status_text(status())


def test_a_paused_campaign_says_why_and_how_to_go_on() -> None:
    text = status_text(status(campaigns=[campaign(status="Paused", reason="3 failed in a row")]))
    assert "3 failed in a row" in text
    assert "`lemctl campaign resume demo`" in text


def test_a_report_on_a_narrow_terminal_leaves_columns_out_and_says_which() -> None:
    """A row that breaks over two lines cannot be read; a column that vanishes silently misleads."""
    found = report(energy=True)
    wide = text_report(found)
    assert "e2e p90" in wide
    assert "not shown" not in wide
    narrow = text_report(found, width=80)
    header = next(line for line in narrow.splitlines() if "tokens/s" in line)
    assert len(header) <= 80
    assert "J/out token" in header
    assert "e2e p90" not in header
    assert "not shown  tokens out, e2e p50, e2e p90" in narrow


def test_a_list_of_runs_is_narrowed_where_its_names_are_longest() -> None:
    rows = narrowed(["run", "what", "verdict"], [["1", "x" * 200, "VALID"]], 1, 80)
    assert len(table(["run", "what", "verdict"], rows).splitlines()[1]) <= 80
    assert rows[0][1].endswith("…")


def test_rates_are_ordered_by_size_and_after_plain_numbers() -> None:
    assert sorted(["16/s", "4/s", "x", 20, "0.5/s", 3], key=sort_key) == [3, 20, "x", "0.5/s", "4/s", "16/s"]


def test_status_tells_of_each_gpu_what_it_does_and_what_holds_it_back() -> None:
    cooling = GpuNow("GPU-a", "H100", 0.4, 82.4, 51.0, 0.0, 345.0, None, 71.0)
    hot = GpuNow("GPU-b", "A100", 0.4, 299.0, 88.0, 100.0, 900.0, "THROTTLED", None)
    lost = GpuNow("GPU-c", "L4", 190.0, 30.0, 40.0, None, None, None, None)
    text = status_text(status(gpus=[cooling, hot, lost]))
    assert "gpu       H100: 82 W, 51 C (cooling from 71 C), busy 0 %, 345 MHz, not throttled" in text
    assert "gpu       A100: 299 W, 88 C, busy 100 %, 900 MHz, THROTTLED" in text
    assert "gpu       L4: last read 3 min 10 s ago" in text
    assert max(map(len, text.splitlines())) <= 80


def test_status_tells_whose_turn_is_next_and_why() -> None:
    ordered = QueueLine(414, "vllm", {"workload.load.batch_size": 8}, 2, "Queued", None)
    again = QueueLine(398, "vllm", {}, 1, "Queued", "infra")
    assert "then      run 414: vllm batch_size=8 cycle 2, next in the order of cycle 2" in status_text(
        status(next_run=ordered)
    )
    assert "then      run 398: vllm cycle 1, again: infra" in status_text(status(next_run=again))
