"""What the daemon itself costs: a transition, a run beside the model's work, idling, recovering.

The campaign of 100 runs takes about 1 s of model work each (`--runs` for fewer); everything else takes seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
from machine import cpu_ns, describe_machine

from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.clock import SystemClock
from lemctl.daemon.locks import take_lane_locks
from lemctl.daemon.process import holder
from lemctl.engines.prefetch import prefetch
from lemctl.errors import LemctlError
from lemctl.judge.comparison import compare_paired
from lemctl.paths import Home, data_folder
from lemctl.settings import Settings
from lemctl.store import campaigns, moves
from lemctl.store.database import Store
from lemctl.store.moves import MetricRow, WindowRow
from lemctl.store.status import CampaignStopped

#: So many runs of one database, then so many of the other.
BLOCK = 10
LOOSE = """
name: bench
model: "random:{{vocab_size: 1000}}"
backend: replay
preset: quick-test
workload: {{dataset: random, random: {{input_len: 16}}, prompts: 8, max_new_tokens: {tokens}, load: {{batch_size: 8}}}}
sweep: {{sampling.seed: {seeds}}}
cycles: {cycles}
"""


def make_plan(experiments: int, cycles: int, tokens: int = 8) -> Plan:
    text = LOOSE.format(seeds=list(range(experiments)), cycles=cycles, tokens=tokens)
    return plan(loads(text, catalogue_dir=data_folder() / "images"))


def fill(store: Store, made: Plan) -> list[int]:
    with store.transaction() as tx:
        campaigns.add_campaign(tx, made, "", "local", SystemClock(), store.host_id())
    return [row[0] for row in store.connection.execute("SELECT id FROM runs ORDER BY position")]


def transitions_s(*sizes: int) -> list[dict[int, float]]:
    """How long committed transitions take in databases with so many runs, by transition; turn about, so that what
    disturbs the machine disturbs all."""
    clock = SystemClock()
    with ExitStack() as stack:
        stores, ids = [], []
        for runs in sizes:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            stores.append(stack.enter_context(Store.open(Home(Path(folder)), "write")))
            ids.append(fill(stores[-1], make_plan(runs // 5, 5)))
        times: list[dict[int, float]] = [{} for _ in sizes]
        for nth, block in enumerate(range(0, 100, BLOCK)):
            for which in range(len(sizes)) if nth % 2 else reversed(range(len(sizes))):
                for place in range(block, block + BLOCK):
                    took_s = time_transitions(stores[which], ids[which][place], clock)
                    if place > block:  # the first one finds the processor's caches full of the other database
                        times[which].update({2 * place + step: one_s for step, one_s in enumerate(took_s)})
        return times


def time_transitions(store: Store, run_id: int, clock: SystemClock) -> list[float]:
    """A run's way; of the transitions that write nothing else, how long each took."""
    times = []
    with store.transaction() as tx:
        attempt = moves.begin_attempt(tx, run_id, "cpu", clock, "boot", "host")
    for step in (moves.to_cooling, moves.to_running):
        began = time.perf_counter()
        with store.transaction() as tx:
            step(tx, attempt, clock)
        times.append(time.perf_counter() - began)
    with store.transaction() as tx:
        moves.end_ok(tx, attempt, clock, "VALID", [], [], [])
    return times


def finish_all(store: Store, ids: list[int]) -> None:
    """Every run Done, as after a long campaign."""
    clock = SystemClock()
    with store.transaction() as tx:
        for run_id in ids:
            attempt = moves.begin_attempt(tx, run_id, "cpu", clock, "boot", store.host_id())
            moves.to_cooling(tx, attempt, clock)
            moves.to_running(tx, attempt, clock)
            metrics = [MetricRow(f"m{n}", 1.0, "1") for n in range(20)]
            moves.end_ok(tx, attempt, clock, "VALID", [WindowRow(0, 0, 1, 1, 1, 1, 1)], metrics, [])


class RealDaemon:
    """The daemon's own process on a folder, timed to its first heartbeat."""

    def __init__(self, folder: Path):
        self.home = Home(folder)
        environment = {**os.environ, "LEM_HOME": str(folder), "LEM_LOCK_DIR": str(folder / "locks")}
        began = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, "-m", "lemctl.daemon.process"], env=environment, cwd="/")
        while not self._beats():
            time.sleep(0.005)
        self.up_s = time.perf_counter() - began
        self.usage = psutil.Process(self.process.pid)

    def _beats(self) -> bool:
        if holder(self.home) is None:
            return False
        try:
            with Store.open(self.home) as store:
                return store.connection.execute("SELECT 1 FROM live WHERE topic = 'daemon'").fetchone() is not None
        except LemctlError:  # the database is being made
            return False

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def idle_and_recovery(idle_s: float) -> dict[str, float]:
    """A daemon on 10,000 finished runs and one that was under way when its daemon died."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        with Store.open(home, "write") as store:
            ids = fill(store, make_plan(2001, 5))
            finish_all(store, ids[:10_000])
            with store.transaction() as tx:
                moves.begin_attempt(tx, ids[10_000], "cpu", SystemClock(), "boot", store.host_id())
                campaigns.close(tx, campaigns.find(tx, "bench"), CampaignStopped(), SystemClock(), "bench")
        began = time.perf_counter()
        daemon = RealDaemon(Path(folder))
        up_s = time.perf_counter() - began
        before_ns = cpu_ns(daemon.process.pid)
        time.sleep(idle_s)
        busy_s = (cpu_ns(daemon.process.pid) - before_ns) / 1e9
        rss_mb = daemon.usage.memory_info().rss / 1e6
        daemon.stop()
    with tempfile.TemporaryDirectory() as folder:
        empty = RealDaemon(Path(folder))
        empty.stop()
    return {"recovery_s": up_s - empty.up_s, "idle_share": busy_s / idle_s, "rss_mb": rss_mb, "start_s": empty.up_s}


def waiting_share(wait_s: float) -> float:
    """Share of one core of a daemon with a campaign in hand whose device another daemon holds."""
    with tempfile.TemporaryDirectory() as folder:
        locks, home = Path(folder) / "locks", Home(Path(folder))
        (held,) = take_lane_locks(locks, ("cpu",), "the bench")
        with Store.open(home, "write") as store:
            fill(store, make_plan(1, 1))
            daemon = RealDaemon(Path(folder))
            told = (
                "SELECT 1 FROM live WHERE topic = 'daemon' AND json_extract(document, '$.waits_for') LIKE '%held by%'"
            )
            while store.connection.execute(told).fetchone() is None:
                time.sleep(0.05)
        before_ns = cpu_ns(daemon.process.pid)
        time.sleep(wait_s)
        busy_s = (cpu_ns(daemon.process.pid) - before_ns) / 1e9
        daemon.stop()
        held.release()
    return busy_s / wait_s


def hundred_runs(runs: int) -> dict[str, float]:
    """A campaign of runs of about 1 s of model work, against the same work in one bare loop."""
    tokens = 500
    made = make_plan(runs // 2, 2, tokens)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEM_HOME"], os.environ["LEM_LOCK_DIR"] = folder, str(Path(folder) / "locks")
        home = Home(Path(folder))
        prefetch(made, Settings(), "local", lambda _step: None)
        began = time.perf_counter()
        with Store.open(home, "write") as store:
            fill(store, made)
            daemon = RealDaemon(Path(folder))
            while campaigns.find(store.connection, "bench").status.kind != "Finished":
                time.sleep(0.02)
            took_s = time.perf_counter() - began
            rss_mb = daemon.usage.memory_info().rss / 1e6
            rows = store.connection.execute("SELECT facts FROM attempts WHERE outcome = 'ok'").fetchall()
            gaps = store.connection.execute(
                "SELECT (ended_mono_ns - started_mono_ns) / 1e9 FROM attempts WHERE outcome = 'ok' ORDER BY id"
            ).fetchall()
        daemon.stop()
    phases = [json.loads(row[0])["phases"] for row in rows]
    work_s = [p["warmup_s"] + p["measuring_s"] for p in phases]
    beside_s = [gap[0] - work for gap, work in zip(gaps[1:], work_s[1:], strict=True)]
    return {
        "runs": float(len(rows)),
        "campaign_s": took_s,
        "bare_s": sum(work_s),
        "per_run_s": statistics.median(beside_s),
        "between_s": (took_s - sum(work_s)) / len(rows),
        "rss_mb": rss_mb,
    }


def main() -> int:
    """Measure all, print, and say by the exit status whether every limit was kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "daemon.md")
    options = parser.parse_args()
    few_s, many_s = transitions_s(100, 10_000)
    few_ms, many_ms = (statistics.median(times.values()) * 1e3 for times in (few_s, many_s))
    slower = compare_paired(many_s, few_s).interval
    assert slower is not None, "both have spread"
    idle = idle_and_recovery(options.idle_s)
    waiting = waiting_share(options.idle_s)
    night = hundred_runs(options.runs)
    ratio = night["campaign_s"] / night["bare_s"]
    rows: list[tuple[str, str, str, bool]] = [
        ("one transition, 100 runs", f"{few_ms:.3f} ms", "", True),
        (
            "one transition, 10,000 runs",
            f"{many_ms:.3f} ms",
            f"at most 0.3 ms, no slower than at 100 ({slower.low:.2f} to {slower.high:.2f} times as long)",
            many_ms <= 0.3 and slower.low <= 1,
        ),
        ("daemon up on an empty state", f"{idle['start_s']:.2f} s", "", True),
        (
            "recovery with 10,000 finished runs",
            f"{idle['recovery_s']:.2f} s",
            "at most 1 s",
            idle["recovery_s"] <= 1,
        ),
        (
            "daemon, idle: share of one core",
            f"{idle['idle_share']:.2%}",
            "at most 0.2 %",
            idle["idle_share"] <= 0.002,
        ),
        ("daemon, waiting with a campaign in hand: share of one core", f"{waiting:.2%}", "", True),
        *(
            (f"daemon, {when}: resident memory", f"{found['rss_mb']:.0f} MB", "at most 80 MB", found["rss_mb"] <= 80)
            for when, found in (("idle", idle), ("at work", night))
        ),
        (
            "a run beside the model's work, engine reused",
            f"{night['per_run_s']:.3f} s",
            "at most 0.15 s",
            night["per_run_s"] <= 0.15,
        ),
        (
            f"campaign of {night['runs']:.0f} runs against its own model work",
            f"{night['campaign_s']:.1f} s / {night['bare_s']:.1f} s = {ratio:.3f}",
            "at most 1.2 times",
            ratio <= 1.2,
        ),
    ]
    lines = ["# What the daemon costs", "", describe_machine(), "", "| what | measured | limit |", "|---|---|---|"]
    lines += [
        f"| {what} | {measured} | {f'{limit}: {judged(kept)}' if limit else ''} |"
        for what, measured, limit, kept in rows
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    options.out.write_text(text)
    return 0 if all(kept for *_, kept in rows) else 1


def judged(kept: bool) -> str:
    """The word of the table."""
    return "pass" if kept else "FAIL"


if __name__ == "__main__":
    raise SystemExit(main())
