"""What planning a large campaign costs: reading the file, expanding and ordering it, estimating it.

Each case runs in processes of its own, so that imports are counted. The stages and the command `lemctl campaign plan`
are shown by the quickest process, which is what they cost; the command is judged by its median.

    python bench/plan.py [--out bench/results/plan.md] [--repeats 7]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

LIMIT_S = 0.5
LIMIT_MB = 80.0

HEAD = """\
name: bench
model: hf:org/name
backend: pytorch
workload: {dataset: random, random: {input_len: 64}, prompts: 1000}
"""


def numbers(count: int) -> str:
    return "[" + ", ".join(str(n) for n in range(1, count + 1)) + "]"


CASES = {
    "10,000 experiments x 1 cycle": HEAD
    + f"cycles: 1\nsweep:\n  workload.seed: {numbers(50)}\n  workload.max_new_tokens: {numbers(20)}\n"
    + "  workload.load.batch_size: [1, 2, 4, 8, 16]\n  engine.dtype: [float16, bfloat16]\n",
    "10,000 experiments x 1 cycle, every workload different": HEAD
    + f"cycles: 1\nsweep:\n  workload.seed: {numbers(100)}\n  workload.max_new_tokens: {numbers(100)}\n",
    "2,000 experiments x 5 cycles": HEAD
    + f"cycles: 5\nsweep:\n  workload.max_new_tokens: {numbers(200)}\n"
    + "  workload.load.batch_size: [1, 2, 4, 8, 16]\n  engine.dtype: [float16, bfloat16]\n",
}

PROBE = """\
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
from lemctl.campaign.estimate import estimate
from lemctl.campaign.file import load
from lemctl.campaign.plan import plan
imported = time.perf_counter()
campaign = load(Path(sys.argv[1]))
loaded = time.perf_counter()
done = plan(campaign)
planned = time.perf_counter()
estimate(done)
estimated = time.perf_counter()
print(json.dumps({"import_s": imported - began, "load_s": loaded - imported, "plan_s": planned - loaded,
                  "estimate_s": estimated - planned, "runs": len(done.runs)}))
"""

STAGES = ("import_s", "load_s", "plan_s", "estimate_s")


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Wall seconds, peak memory in MB and output of one process."""
    start_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start_s, usage.ru_maxrss / 1024, output


def row(name: str, file: Path, repeats: int, environment: dict[str, str]) -> tuple[str, bool]:
    """One line of the table, and whether the whole command keeps to its limits."""
    probes = [measured([sys.executable, "-c", PROBE, str(file)], environment) for _ in range(repeats)]
    stages = [json.loads(output) for _, _, output in probes]
    cells = [f"{min(stage[name] for stage in stages):.3f}" for name in STAGES]
    command = [sys.executable, "-m", "lemctl.cli.main", "campaign", "plan", str(file)]
    whole = [measured(command, environment) for _ in range(repeats)]
    best_s = min(wall_s for wall_s, _, _ in whole)
    median_s = statistics.median(wall_s for wall_s, _, _ in whole)
    peak_mb = max(mb for _, mb, _ in whole)
    cells += [f"{best_s:.2f} ({median_s:.2f})", f"{peak_mb:.0f}"]
    return f"| {name} | {' | '.join(cells)} |", median_s <= LIMIT_S and peak_mb <= LIMIT_MB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "plan.md")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    rows, passed = [], True
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LEM_HOME": f"{folder}/home"}
        for name, text in CASES.items():
            file = Path(folder) / "bench.yaml"
            file.write_text(text)
            line, within = row(name, file, arguments.repeats, environment)
            rows.append(line)
            passed = passed and within
    text = "\n".join(
        [
            "# Planning a large campaign",
            "",
            describe_machine(),
            "",
            f"Seconds, the quickest of {arguments.repeats} processes; in brackets the command's median.",
            "",
            "| case | imports | read | expand and order | estimate | `lemctl campaign plan` | MB |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Limits of the command, by its median: {LIMIT_S:g} s, {LIMIT_MB:.0f} MB: {'pass' if passed else 'FAIL'}.",
            "",
        ]
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
