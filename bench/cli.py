"""What a person waits for: `lemctl --help`, `status` on 10,000 finished runs, `campaign plan` of 10,000 runs.

Each figure is a whole process as typed, from its start to its end: the median, the largest beside it. The database is
made through the store's own moves.

    python bench/cli.py [--out bench/results/cli.md] [--repeats 21]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from machine import describe_machine

RUNS = 10_000
PLAN = """\
name: bench
model: hf:org/name
backend: pytorch
workload: {dataset: random, random: {input_len: 64}, prompts: 1000}
cycles: 5
sweep:
  workload.load.batch_size: [1, 2, 4, 8, 16]
  engine.dtype: [float16, bfloat16]
"""


class Case(NamedTuple):
    """A command line and what it may cost; None: no limit."""

    name: str
    words: tuple[str, ...]
    limit_s: float | None
    limit_mb: float | None = None


def finished_runs(root: str) -> None:
    """A campaign of 10,000 runs that have all ended well. In a process of its own: what a child is charged for begins
    with the memory of its parent."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "store"))
    from build import Night, metric_rows, plan_of

    from lemctl.paths import Home
    from lemctl.store.moves import begin_attempt, end_ok, to_cooling, to_running

    night = Night(Home(Path(root)))
    night.add(plan_of(batch_sizes=tuple(range(1, 9)), cycles=RUNS // 8))
    night.activate()
    rows = metric_rows(None)
    with night.store.transaction() as tx:
        for run in night.runs():
            attempt = begin_attempt(tx, run, "cpu", night.clock, "boot", "host")
            to_cooling(tx, attempt, night.clock)
            to_running(tx, attempt, night.clock)
            night.clock.advance(1.0)
            end_ok(tx, attempt, night.clock, "VALID", [], rows, [])
    night.close()


def cost(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in MB of one process."""
    begin_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begin_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def row(case: Case, repeats: int, environment: dict[str, str]) -> tuple[str, bool]:
    """One line of the table, and whether its limits are kept."""
    command = [str(Path(sys.executable).with_name("lemctl")), *case.words]
    cost(command, environment)  # the first one reads the files from disk
    costs = [cost(command, environment) for _ in range(repeats)]
    wall_s = [one[0] for one in costs]
    median_s, peak_mb = statistics.median(wall_s), max(one[2] for one in costs)
    processor_s = statistics.median(one[1] for one in costs)
    kept = (case.limit_s is None or median_s <= case.limit_s) and (case.limit_mb is None or peak_mb <= case.limit_mb)
    limits = ", ".join(
        text for text in (case.limit_s and f"{case.limit_s:g} s", case.limit_mb and f"{case.limit_mb:g} MB") if text
    )
    verdict = f"{limits}: {'pass' if kept else 'FAIL'}" if limits else ""
    cells = (case.name, f"{median_s:.3f} ({max(wall_s):.3f})", f"{processor_s:.3f}", f"{peak_mb:.0f}", verdict)
    return f"| {' | '.join(cells)} |", kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cli.md")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--make", metavar="HOME", help="Only make the database.")
    arguments = parser.parse_args()
    if arguments.make:
        finished_runs(arguments.make)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        home, file = f"{folder}/home", Path(folder) / "bench.yaml"
        subprocess.run([sys.executable, __file__, "--make", home], check=True)
        file.write_text(f"{PLAN}  workload.max_new_tokens: {list(range(1, 201))}\n")
        environment = {**os.environ, "LEM_HOME": home}
        cases = (
            Case("`lemctl --help`", ("--help",), 0.12),
            Case(f"`lemctl status`, {RUNS:,} finished runs", ("status",), 0.25),
            Case(f"`lemctl campaign plan`, {RUNS:,} runs", ("campaign", "plan", str(file)), 0.5, 80),
            Case(f"`lemctl report`, {RUNS:,} finished runs", ("report",), None),
        )
        rows = [row(case, arguments.repeats, environment) for case in cases]
    text = "\n".join(
        [
            "# The command line",
            "",
            describe_machine(),
            "",
            f"Whole processes, {arguments.repeats} of each: median (largest) wall time, median processor time,"
            " largest memory.",
            "",
            "| command | wall s | processor s | MB | limit |",
            "|---|---|---|---|---|",
            *(line for line, _ in rows),
            "",
        ]
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)
    return 0 if all(kept for _, kept in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
