"""Plots for a terminal, of block characters: power through an attempt, latencies as a histogram. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lemctl.lines import duration
from lemctl.report.figures import milliseconds
from lemctl.report.traces import Trace

WIDTH, HEIGHT = 64, 7
BINS = 12
#: `GPU-` and the first eight digits of the UUID.
SHORT_GPU, UUID_LENGTH = 12, 36
_EIGHTHS = " ▁▂▃▄▅▆▇█"
#: What stands for each phase below the plot.
LETTERS: Mapping[str, str] = {
    "starting": ".",
    "loading": "l",
    "cooling": "c",
    "baseline": "b",
    "warmup": "u",
    "window": "W",
    "judging": ".",
    "writing": ".",
}


def power_plot(trace: Trace, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Mean power of each stretch as a filled curve, with the phases below it, and where the GPU was held back.
    A stretch without samples stays empty."""
    span_ns = max(1, trace.attempt.end_ns - trace.attempt.begin_ns)
    columns: list[float | None] = [None] * width
    held = [" "] * width
    for bucket in trace.buckets:
        place = min(width - 1, (bucket.t_ns - trace.attempt.begin_ns) * width // span_ns)
        columns[place] = bucket.mean_w
        held[place] = "!" if bucket.is_throttled else "^" if bucket.is_capped else " "
    known = [value for value in columns if value is not None]
    if not known:
        return []
    top_w, temps = max(known), [b.temp_c for b in trace.buckets if b.temp_c is not None]
    heat = f", {min(temps):.0f} to {max(temps):.0f} C" if temps else ""
    lines = [f"power of {_short(trace.gpu)}: {min(known):.0f} to {top_w:.0f} W{heat}, over {duration(span_ns / 1e9)}"]
    for row, text in enumerate(_filled(columns, top_w, height)):
        label = f"{top_w:.0f} W" if row == 0 else "0" if row == height - 1 else ""
        lines.append(f"{label:>7} {text}")
    phases = _phase_row(trace, width)
    if phases.strip():
        lines.append(f"{'phase':>7} {phases}")
        lines.append(f"{'':>7} {_legend(phases)}")
    if any(mark != " " for mark in held):
        lines.append(f"{'held':>7} {''.join(held)}".rstrip())
        lines.append(f"{'':>7} ^ at the power cap, ! slowed down by heat or the power brake")
    return lines


def _short(gpu: str) -> str:
    """A UUID's beginning, by which NVIDIA's tools know the GPU too: whole it leaves no room for the figures."""
    return gpu if len(gpu) < UUID_LENGTH else gpu[:SHORT_GPU]


def _filled(columns: Sequence[float | None], top: float, height: int) -> Iterator[str]:
    levels = [0 if value is None else round(8 * height * value / top) if top else 0 for value in columns]
    for row in range(height):
        floor = 8 * (height - 1 - row)
        yield "".join(_EIGHTHS[max(0, min(8, level - floor))] for level in levels).rstrip()


def _phase_row(trace: Trace, width: int) -> str:
    span_s = trace.seconds(trace.attempt.end_ns) or 1.0
    row = [" "] * width
    for name, begin, end in trace.phases:
        for place in range(
            int(begin * width / span_s), max(int(begin * width / span_s) + 1, int(end * width / span_s))
        ):
            if place < width:
                row[place] = LETTERS.get(name, "?")
    return "".join(row).rstrip()


def _legend(phases: str) -> str:
    return ", ".join(f"{letter} {name}" for name, letter in LETTERS.items() if letter in phases and letter != ".")


def histogram(name: str, kept: Mapping[str, Any], bins: int = BINS, width: int = WIDTH // 2) -> list[str]:
    """Shares of requests by latency, read off the percentiles that were kept: exact at those, straight between them."""
    percents, seconds = [float(p) for p in kept["percent"]], [float(s) for s in kept["s"]]
    low, high = seconds[0], seconds[-1]
    head = f"{name}: {kept['n']:,} times, median {milliseconds(_at(50, percents, seconds))}"
    if high <= low:
        return [f"{head}, all the same"]
    edges = [low + (high - low) * number / bins for number in range(bins + 1)]
    below = [_share(edge, percents, seconds) for edge in edges]
    below[0] = 0.0
    shares = [after - before for before, after in pairwise(below)]
    most = max(shares)
    lines = [head]
    for number, share in enumerate(shares):
        eighths = round(8 * width * share / most)
        bar = "█" * (eighths // 8) + (_sideways(eighths % 8))
        lines.append(f"  {milliseconds(edges[number]):>9} {bar:<{width}} {share:5.1f} %")
    return lines


def _sideways(eighths: int) -> str:
    return " ▏▎▍▌▋▊▉"[eighths].strip()


def _at(percent: float, percents: Sequence[float], seconds: Sequence[float]) -> float:
    for place in range(1, len(percents)):
        if percents[place] >= percent:
            span = percents[place] - percents[place - 1]
            part = (percent - percents[place - 1]) / span if span else 0.0
            return seconds[place - 1] + part * (seconds[place] - seconds[place - 1])
    return seconds[-1]


def _share(value: float, percents: Sequence[float], seconds: Sequence[float]) -> float:
    """Percent of the requests that took at most so long."""
    if value >= seconds[-1]:
        return 100.0
    for place in range(len(seconds) - 1, 0, -1):
        if seconds[place - 1] <= value:
            span = seconds[place] - seconds[place - 1]
            part = (value - seconds[place - 1]) / span if span else 1.0
            return percents[place - 1] + part * (percents[place] - percents[place - 1])
    return 0.0
