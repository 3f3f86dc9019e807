"""What the sampler costs, how punctual it is, and whether it slows the work beside it.

1. CPU time of the sampler process for one GPU, on the NVML stand-in, in shares of one core (limit 0.5 %).
2. Intervals of the power series while every core is busy (99 % of them within 5 ms of 100 ms).
3. Steps per second of a decode-like workload with the sampler on and off, in ABBA order, until the 95 % half-width of
   the loss is at most 0.25 % or 200 pairs are done. Pass where its upper end is at most 0.5 %, fail where its lower end
   is above, else not resolved.

Needs gcc. With `--nvml` the machine's own driver and first GPU are used instead of the stand-in.

    python bench/sampler.py [--seconds 60] [--pairs 200] [--nvml]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from machine import describe_machine

from lemctl.judge.statistics import Interval, t_interval
from lemctl.measure.watch import SamplerProcess, SamplerSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "nvml_stub"))

CPU_LIMIT = 0.005
PUNCTUAL_MS, PUNCTUAL_SHARE = 5.0, 0.99
LOSS_LIMIT, RESOLUTION = 0.005, 0.0025
#: A decode step of a small model: matrix-vector products on one thread, told how long to run.
WORKLOAD = """
import sys, time
import numpy as np
draw = np.random.default_rng(1)
weights = [draw.standard_normal((512, 512), dtype=np.float32) for _ in range(8)]
state = draw.standard_normal(512, dtype=np.float32)
for line in sys.stdin:
    until, steps = time.perf_counter() + float(line), 0
    began = time.perf_counter()
    while time.perf_counter() < until:
        for weight in weights:
            state = weight @ state
        state /= np.abs(state).max()
        steps += 1
    print(steps / (time.perf_counter() - began), flush=True)
"""
BUSY = "while True: pass"
#: A process that does nothing but wake: what any sampler pays on this machine before it reads anything.
WAKE = """
import sys, time
period_s, seconds = map(float, sys.argv[1:])
began, next_s = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID), time.monotonic()
end_s = next_s + seconds
while next_s < end_s:
    next_s += period_s
    time.sleep(max(0.0, next_s - time.monotonic()))
print((time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) - began) / seconds)
"""


@contextlib.contextmanager
def gpu(is_real: bool) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The UUID to sample, and the environment in which it is there."""
    if is_real:
        from lemctl.measure.gpu import NvmlProbe

        probe = NvmlProbe()
        yield probe.gpus()[0], {}
        probe.close()
        return
    from nvml_stub import NvmlStub

    with tempfile.TemporaryDirectory() as folder:
        stub = NvmlStub(Path(folder))
        stub.gpu().noise_w = 20.0
        stub.gpu().add_load(0.0, 400.0)
        yield stub.uuid(), stub.environment


def cpu_ns(pid: int) -> int:
    """CPU time that a process has had, all threads, in ns."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def wakings(pid: int) -> int:
    """How often a process has gone to sleep by itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))


def measure_floor(wakings_per_s: float, seconds: float) -> float:
    """CPU share of a process that only wakes so often."""
    command = [sys.executable, "-c", WAKE, str(1 / wakings_per_s), str(seconds)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout)


def measure_cost(uuid: str, environment: Mapping[str, str], seconds: float) -> tuple[float, float]:
    """CPU of the sampler at full rate as a share of one core, and its wakings per second."""
    with SamplerProcess([uuid], environment=environment) as sampler:
        sampler.set_rate("fast")
        # The counter's period has been learnt by then.
        sampler.wait_until(time.monotonic_ns() + 3 * 10**9, 10.0)
        assert sampler.pid is not None
        used_ns, woken, began_ns = cpu_ns(sampler.pid), wakings(sampler.pid), time.monotonic_ns()
        sampler.wait_until(began_ns + round(seconds * 1e9), seconds + 10.0)
        elapsed_ns = time.monotonic_ns() - began_ns
        return (cpu_ns(sampler.pid) - used_ns) / elapsed_ns, (wakings(sampler.pid) - woken) / elapsed_ns * 1e9


def measure_jitter(uuid: str, environment: Mapping[str, str], seconds: float) -> list[float]:
    """Deviations from 100 ms of all intervals, in ms, with one busy process per core."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        with SamplerProcess([uuid], environment=environment) as sampler:
            sampler.begin_record()
            sampler.set_rate("fast")
            sampler.wait_until(time.monotonic_ns() + round((seconds + 1) * 1e9), seconds + 20.0)
            times = sampler.series(uuid).times_ns
    finally:
        for process in busy:
            process.kill()
            process.wait(5.0)
    # The first intervals are those of the slow rate before the fast one began.
    return [abs((later - earlier) / 1e6 - 100.0) for earlier, later in pairwise(times[10:])]


def measure_loss(
    uuid: str, environment: Mapping[str, str], max_pairs: int, window_s: float
) -> tuple[list[float], Interval]:
    """Relative loss of speed per pair of windows (one with, one without the sampler), ABBA, and its interval."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # One sampler, stopped where it is off: starting it anew would disturb the window that follows. Patient, because a
    # stopped child is silent.
    patient = SamplerSettings(silent_s=10 * window_s + 30)
    with (
        SamplerProcess([uuid], environment=environment, settings=patient) as sampler,
        subprocess.Popen(
            [sys.executable, "-c", WORKLOAD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads},
        ) as work,
    ):
        pid = sampler.pid
        assert pid is not None
        assert work.stdin is not None
        assert work.stdout is not None

        def run(seconds: float) -> float:
            assert work.stdin is not None
            assert work.stdout is not None
            work.stdin.write(f"{seconds}\n")
            work.stdin.flush()
            return float(work.stdout.readline())

        def run_sampled() -> float:
            os.kill(pid, signal.SIGCONT)
            try:
                return run(window_s)
            finally:
                os.kill(pid, signal.SIGSTOP)

        sampler.set_rate("fast")
        run(3.0)
        os.kill(pid, signal.SIGSTOP)
        losses: list[float] = []
        interval = Interval(-math.inf, math.inf)
        while len(losses) < max_pairs and interval.half_width > RESOLUTION:
            for is_sampled_first in (False, True):
                with_it, without = (run_sampled(), run(window_s)) if is_sampled_first else (None, run(window_s))
                losses.append(1 - (run_sampled() if with_it is None else with_it) / without)
            if len(losses) >= 10:
                interval = t_interval(losses) or interval
        work.stdin.close()
        os.kill(pid, signal.SIGCONT)
        return losses, interval


def judge_loss(interval: Interval) -> str:
    if interval.high <= LOSS_LIMIT:
        return "pass"
    return "FAIL" if interval.low > LOSS_LIMIT else "not resolved"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampler.md")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--window", type=float, default=1.0, help="seconds of work per window of a pair")
    parser.add_argument("--nvml", action="store_true", help="the machine's own GPU instead of the stand-in")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with gpu(arguments.nvml) as (uuid, environment):
        cost, woken_per_s = measure_cost(uuid, environment, arguments.seconds)
        floor = measure_floor(woken_per_s, min(arguments.seconds, 20.0))
        deviations_ms = measure_jitter(uuid, environment, arguments.seconds)
        losses, interval = measure_loss(uuid, environment, arguments.pairs, arguments.window)
    punctual = sum(deviation <= PUNCTUAL_MS for deviation in deviations_ms) / len(deviations_ms)
    verdicts = (
        "pass" if cost <= CPU_LIMIT else "FAIL",
        "pass" if punctual >= PUNCTUAL_SHARE else "FAIL",
        judge_loss(interval),
    )
    mean = sum(losses) / len(losses)
    text = "\n".join(
        [
            "# The sampler's cost",
            "",
            describe_machine(),
            "",
            f"Sensors: {'the GPU of this machine' if arguments.nvml else 'the NVML stand-in'}. One GPU. "
            f"Load average at the start: {load:.1f} (other work costs the sampler its caches; quiet is below 0.5).",
            "",
            "| what | figure | limit | |",
            "|---|---|---|---|",
            f"| CPU of the sampler at full rate, of one core | {cost:.3%} | {CPU_LIMIT:.1%} | {verdicts[0]} |",
            f"| as many bare wakings ({woken_per_s:.0f} per s) of an empty Python process | {floor:.3%} | | |",
            f"| 100 ms intervals within {PUNCTUAL_MS:g} ms, all cores busy ({len(deviations_ms)} intervals) "
            f"| {punctual:.2%} | {PUNCTUAL_SHARE:.0%} | {verdicts[1]} |",
            f"| largest deviation of an interval | {max(deviations_ms):.1f} ms | | |",
            f"| loss of speed beside it ({len(losses)} pairs, ABBA) | {mean:+.2%} ({interval.low:+.2%} to "
            f"{interval.high:+.2%}) | {LOSS_LIMIT:.1%} | {verdicts[2]} |",
            "",
        ]
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)
    return 1 if "FAIL" in verdicts else 0


if __name__ == "__main__":
    raise SystemExit(main())
