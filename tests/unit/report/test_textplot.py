"""Plots of characters say what the figures say."""

from __future__ import annotations

from typing import Any

from lemctl.report.textplot import WIDTH, histogram, power_plot
from lemctl.report.traces import Trace
from lemctl.store.read_traces import Bucket, MeasuredAttempt

S = 1_000_000_000


def trace(
    powers_w: list[float | None], *, throttled: tuple[int, ...] = (), facts: dict[str, Any] | None = None
) -> Trace:
    """A reading a second, from 100 s on; None: no reading."""
    attempt = MeasuredAttempt(
        1, "e", 1, 1, "boot", 100 * S, (100 + len(powers_w)) * S, "2026-01-05T22:00:00Z", "VALID", (), ("GPU-1",),
        facts or {},
    )  # fmt: skip
    buckets = [
        Bucket((100 + second) * S, power, power, power, 40.0 + second, False, second in throttled)
        for second, power in enumerate(powers_w)
        if power is not None
    ]
    return Trace(attempt, "GPU-1", buckets)


def test_power_rises_where_the_work_begins_and_a_hole_stays_empty() -> None:
    lines = power_plot(trace([100.0] * 4 + [None] * 4 + [200.0] * 8), width=16, height=4)
    assert lines[0] == "power of GPU-1: 100 to 200 W, 40 to 55 C, over 16.0 s"
    curve = [line[8:].ljust(16) for line in lines[1:5]]
    assert curve[0] == " " * 8 + "█" * 8
    assert curve[3] == "█" * 4 + " " * 4 + "█" * 8
    assert lines[1].startswith("  200 W")


def test_phases_and_throttling_stand_below_their_seconds() -> None:
    timeline = [["loading", 100 * S], ["window", 108 * S], ["writing", 115 * S]]
    lines = power_plot(trace([150.0] * 16, throttled=(9, 10), facts={"timeline": timeline}), width=16)
    (phases,) = [line for line in lines if line.startswith("  phase ")]
    (held,) = [line for line in lines if line.startswith("   held ")]
    assert phases[8:] == "l" * 8 + "W" * 7 + "."
    assert held[8:] == " " * 9 + "!!"
    assert "slowed down by heat" in lines[-1]


def test_nothing_read_is_nothing_drawn() -> None:
    assert power_plot(trace([None] * 8)) == []


def test_shares_of_the_histogram_are_those_of_the_percentiles() -> None:
    kept = {"n": 1000, "percent": [0, 25, 50, 75, 100], "s": [0.1, 0.2, 0.3, 0.4, 0.5]}
    lines = histogram("e2e", kept, bins=4)
    assert lines[0] == "e2e: 1,000 times, median 300 ms"
    assert [line.split()[-2] for line in lines[1:]] == ["25.0"] * 4
    skewed = {"n": 10, "percent": [0, 90, 100], "s": [1.0, 2.0, 11.0]}
    shares = [float(line.split()[-2]) for line in histogram("ttft", skewed, bins=10)[1:]]
    assert shares[0] == 90.0
    assert abs(sum(shares) - 100) < 0.6


def test_equal_latencies_are_one_line() -> None:
    assert histogram("e2e", {"n": 3, "percent": [0, 50, 100], "s": [2.0, 2.0, 2.0]}) == [
        "e2e: 3 times, median 2.00 s, all the same"
    ]


def test_lines_fit_eighty_columns() -> None:
    lines = power_plot(trace([150.0] * 100), width=WIDTH)
    lines += histogram("e2e", {"n": 1000, "percent": [0, 50, 100], "s": [0.1, 0.2, 9.0]})
    assert max(map(len, lines)) <= 76
