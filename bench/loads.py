"""How punctual is the load generator? Arrivals that an engine takes at once, handed over by the runner's own loop.

Poisson arrivals at each rate against the replay engine in this process (one token a request, no time per token): how
late requests are submitted, whether lateness grows from the first half to the second (drift), and the rate achieved.

    python bench/loads.py [--seconds 10] [--out bench/results/loads.md]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from machine import describe_machine

from lem_runner.backends import Decoding
from lem_runner.backends.replay import ReplayEngine
from lem_runner.load import make_load
from lem_runner.prompts import Prompt
from lem_runner.protocol import MeasureSpec, ModelRef, RunSpec, Warmup, WorkloadSpec
from lem_runner.serving import serve

RATES_PER_S = (10, 100, 1000)
#: Lateness at the median beyond which a generator shapes the latencies that it should only provoke, in s (ours).
MEDIAN_LIMIT_S = 0.001


@dataclass(frozen=True)
class Punctuality:
    """Of one rate; times in s."""

    rate_per_s: int
    requests: int
    achieved_per_s: float
    median_s: float
    p99_s: float
    worst_s: float
    drift_s: float


def measure(rate_per_s: int, seconds: float) -> Punctuality:
    """Serve arrivals for so long."""
    count = max(20, round(rate_per_s * seconds))
    work = WorkloadSpec("-", "-", count, 1, "fixed", "poisson", rate_per_s=float(rate_per_s))
    spec = RunSpec(
        "replay", "bench", ModelRef("random", "none"), {"decode_ms_per_token": 0.0, "prefill_ms_per_token": 0.0},
        {}, work, MeasureSpec(None, Warmup("none")),
    )  # fmt: skip
    engine = ReplayEngine()
    engine.load(spec)
    prompts = [Prompt(0, None, [1], "-")]
    begin_ns = time.monotonic_ns() + 10_000_000
    load = make_load(work, spec.measure, engine.batch_limit(), [], begin_ns)
    served = serve(engine, load, prompts, Decoding(1, "fixed", {}), 0, lambda _: None, lambda: None)
    late_s = [(one.t_submit_ns - (one.t_due_ns or 0)) / 1e9 for one in served]
    half = len(late_s) // 2
    span_s = (served[-1].t_submit_ns - served[0].t_submit_ns) / 1e9
    return Punctuality(
        rate_per_s,
        len(served),
        (len(served) - 1) / span_s,
        statistics.median(late_s),
        statistics.quantiles(late_s, n=100)[98],
        max(late_s),
        statistics.median(late_s[half:]) - statistics.median(late_s[:half]),
    )


def report(found: list[Punctuality]) -> str:
    """The figures as Markdown."""
    rows = [
        f"| {one.rate_per_s} | {one.requests:,} | {one.achieved_per_s:.1f} | {one.median_s * 1e3:.3f} |"
        f" {one.p99_s * 1e3:.3f} | {one.worst_s * 1e3:.3f} | {one.drift_s * 1e3:+.3f} |"
        f" {'ok' if one.median_s <= MEDIAN_LIMIT_S else 'LATE'} |"
        for one in found
    ]
    head = "| arrivals/s asked | requests | achieved/s | late, median ms | p99 ms | worst ms | drift ms | |"
    return "\n".join(
        ["# How punctual the load generator is", "", describe_machine(), "", head, "|" + "---|" * 8, *rows, ""]
    )


def main() -> int:
    """Measure every rate and print; 1 where arrivals were late."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long arrivals go on, for each rate")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "loads.md")
    options = parser.parse_args()
    found = [measure(rate, options.seconds) for rate in RATES_PER_S]
    text = report(found)
    print(text)
    options.out.write_text(text)
    return 0 if all(one.median_s <= MEDIAN_LIMIT_S for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
