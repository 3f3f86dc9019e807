"""What the live screen costs: CPU of `lemctl status --watch` in a terminal while a night on a model GPU goes on.

Limit: 2 % of one core. Needs tmux and gcc.

    python bench/watch.py [--seconds 30] [--out bench/results/watch.md]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import cpu_ns, describe_machine

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "nvml_stub")]

LIMIT = 0.02
SIZES = ((80, 24), (200, 60))
MEASURE = 'measure: {window: "6s", baseline: "1s"}\ngate: {kind: fixed, gap: "2s"}'


def measure(columns: int, lines: int, seconds: float, environment: dict[str, str]) -> float:
    """Share of one core, once the screen stands."""
    # A server of its own for each: one that is ending refuses the next.
    tmux = ["tmux", "-u", "-L", f"lem-bench-{os.getpid()}-{columns}", "-f", "/dev/null"]
    command = f"exec {Path(sys.executable).with_name('lemctl')} status --watch"
    size = ["-x", str(columns), "-y", str(lines)]
    subprocess.run([*tmux, "new-session", "-d", *size, command], env=environment, check=True)
    try:
        time.sleep(8.0)
        told = subprocess.run([*tmux, "list-panes", "-F", "#{pane_pid}"], capture_output=True, text=True, check=True)
        pid = int(told.stdout)
        before_ns, began_ns = cpu_ns(pid), time.monotonic_ns()
        time.sleep(seconds)
        return (cpu_ns(pid) - before_ns) / (time.monotonic_ns() - began_ns)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "watch.md")
    arguments = parser.parse_args()
    from night import Night, campaign_text
    from nvml_stub import NvmlStub

    with tempfile.TemporaryDirectory() as folder:
        stub = NvmlStub(Path(folder))
        for step in range(60):
            stub.gpu().add_load(stub.now_s() + 1 + 5 * step, 300.0 if step % 2 == 0 else 20.0)
        text = campaign_text(cycles=60, engine="load_s: 0.3", batches="[1, 2, 4]", more=MEASURE)
        with Night(Path(folder) / "night", stub.host_environment()) as night:
            night.add(text.replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"))
            night.begin()
            environment = {**os.environ, **night.variables(), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
            shares = [measure(columns, lines, arguments.seconds, environment) for columns, lines in SIZES]
    rows = [
        f"| {columns}x{lines} | {share:.2%} | {LIMIT:.0%} | {'pass' if share <= LIMIT else 'FAIL'} |"
        for (columns, lines), share in zip(SIZES, shares, strict=True)
    ]
    head = [
        "# CPU of the live screen",
        "",
        describe_machine(),
        "",
        "One model GPU, a run of about 10 s after another.",
        "",
    ]
    text = "\n".join([*head, "| terminal | of one core | limit | |", "|---|---|---|---|", *rows, ""])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)
    return 1 if max(shares) > LIMIT else 0


if __name__ == "__main__":
    raise SystemExit(main())
