"""Simulated nights with random faults, one after the other in one process: nothing is lost, memory and open files stay
flat, the database grows as computed.

    python tests/soak.py [--nights 30] [--seed N] [--out FILE]

It fails where a limit is missed, and writes what it found to `bench/results/soak.md`.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

import psutil

from lemctl.campaign.estimate import STATE_BYTES_PER_RUN
from lemctl.errors import FaultKind
from lemctl.store.status import RUN_ENDED
from small_hours import BEGIN, Host, MortalStore, planned

BENCH = Path(__file__).parents[1] / "bench"
RUNS_A_NIGHT = 90
#: How far pages that are not full and attempts that were cut short may carry the size from what was computed.
SIZE_SLACK = 1.4
#: How much more the last third of the nights may hold than the first: caches fill, a leak of every night does not fit.
MEMORY_SLACK_MB, FILES_SLACK = 6.0, 2
FAULTS: tuple[FaultKind, ...] = ("infra", "silent", "invalid", "contaminated", "engine_error", "timed_out")

NIGHT = """
hours: {from: "22:00", to: "07:00", tz: Europe/Berlin}
schedule: "0 21 * * *"
breaker: {consecutive: 3, probe: 10m}
retry: {max: 3}
"""


@dataclass(frozen=True)
class Morning:
    """What one night left. `bytes_per_attempt` is what the database grew by."""

    seed: str
    attempts: int
    done: int
    ended_otherwise: int
    kills: int
    rss_mb: float
    files: int
    bytes_per_attempt: float


class Soak:
    """One host that lives through all nights."""

    def __init__(self, folder: Path, seed: int):
        self.host = Host(folder, BEGIN.replace(hour=12))
        self.host.run_s = 200.0
        self.seed = seed
        self.kills = 0
        self.host.add(planned(NIGHT, cycles=RUNS_A_NIGHT // 3, experiments=3))
        self.size_b = self._size_b()

    def night(self, number: int) -> Morning:
        """Until the campaign of that night has ended, in as many nights as its faults make of it."""
        host, seed = self.host, f"{self.seed}/{number}"
        rng = random.Random(seed)
        kills, before = self.kills, host.rows("SELECT count(*) FROM attempts")[0][0]
        for _ in range(50_000):
            self._maybe(rng)
            host.tick()
            host.pass_time()
            campaign = host.campaign()
            if campaign.number >= number and campaign.status.kind == "Finished":
                break
        else:
            raise AssertionError(f"night {seed} does not end: {host.daemon.waits_for}")
        host.disk_is_full = host.engine_is_away = False
        host.tick(2)
        self._audit()
        statuses = host.statuses()
        assert len(statuses) == RUNS_A_NIGHT, f"night {seed}: {len(statuses)} runs"
        assert set(statuses) <= RUN_ENDED, f"night {seed}: {set(statuses)}"
        attempts = host.rows("SELECT count(*) FROM attempts")[0][0] - before
        grown_b, self.size_b = self._size_b() - self.size_b, self._size_b()
        for session in host.home.sessions.iterdir():  # their files are not the database's
            shutil.rmtree(session)
        gc.collect()
        me, done = psutil.Process(), statuses.count("Done")
        rss_mb = me.memory_info().rss / 1e6
        others = RUNS_A_NIGHT - done
        return Morning(seed, attempts, done, others, self.kills - kills, rss_mb, me.num_fds(), grown_b / attempts)

    def close(self) -> None:
        """The end of all nights."""
        self.host.store.close()

    def _maybe(self, rng: random.Random) -> None:
        """Now and then something happens, within a run or between two."""
        host, chance = self.host, rng.random()
        if chance < 0.03:
            host.faults = [rng.choice(FAULTS) for _ in range(rng.randint(1, 4))]
        elif chance < 0.05:
            host.script = [_nothing] * rng.randint(0, 1) + [rng.choice(WITHIN)]
        elif chance < 0.06:
            self.kills += 1
            host.kill() if rng.random() < 0.7 else host.reboot(rng.uniform(30, 600))
        elif chance < 0.07:
            host.store.dies_in, host.store.dies_after_it = rng.randint(1, 9), rng.random() < 0.5
        elif chance < 0.08:
            host.disk_is_full = True
        elif chance < 0.09:
            host.engine_is_away = True
        elif chance < 0.30:
            host.disk_is_full = host.engine_is_away = False

    def _audit(self) -> None:
        """In a child: what an audit of all nights takes of memory is none of the daemon's."""
        pid = os.fork()
        if pid == 0:
            try:
                self.host.store = MortalStore.open(self.host.home, "read")  # type: ignore[assignment]
                self.host.audit_rest()
            except BaseException:  # noqa: BLE001 - told by the exit code
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, "the audit of a night failed"

    def _size_b(self) -> int:
        self.host.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.host.home.database.stat().st_size


def _nothing(host: Host) -> None:
    pass


def _dies(host: Host) -> None:
    host.store.die()


WITHIN: tuple[Callable[[Host], None], ...] = (
    _dies,
    lambda host: host.clock.set_wall(3600),
    lambda host: host.clock.set_wall(-3600),
    lambda host: host.clock.suspend(1200),
    lambda host: setattr(host.store, "is_full", True),
)


@dataclass(frozen=True)
class Figure:
    """What is judged of all nights, and how it came out."""

    what: str
    measured: str
    limit: str
    is_met: bool


def judge(mornings: list[Morning]) -> list[Figure]:
    """Memory and open files are flat, the last third of the nights against the first, and the database grows as
    computed. In fewer than six nights nothing can be said of flatness."""
    shares = [morning.bytes_per_attempt / STATE_BYTES_PER_RUN for morning in mornings]
    low, high = 1 / SIZE_SLACK, SIZE_SLACK
    figures = [
        Figure(
            "growth of the database, of what was computed",
            f"{min(shares):.2f} to {max(shares):.2f} of {STATE_BYTES_PER_RUN} B an attempt",
            f"{low:.2f} to {high:.2f} every night",
            low <= min(shares) and max(shares) <= high,
        )
    ]
    third = len(mornings) // 3
    if third >= 2:
        first, last = mornings[:third], mornings[-third:]
        grown_mb = median(m.rss_mb for m in last) - median(m.rss_mb for m in first)
        opened = median(m.files for m in last) - median(m.files for m in first)
        thirds = f"last {third} nights against the first {third}, medians"
        figures += [
            Figure(
                f"memory, {thirds}",
                f"{grown_mb:+.1f} MB",
                f"at most +{MEMORY_SLACK_MB:g} MB",
                grown_mb <= MEMORY_SLACK_MB,
            ),
            Figure(f"open files, {thirds}", f"{opened:+g}", f"at most +{FILES_SLACK}", opened <= FILES_SLACK),
        ]
    return figures


def write_results(path: Path, mornings: list[Morning], figures: list[Figure], took_s: float) -> None:
    """As benches write theirs."""
    sys.path.append(str(BENCH))
    from machine import describe_machine

    attempts, done, kills = (sum(getattr(m, name) for m in mornings) for name in ("attempts", "done", "kills"))
    rows = [f"| {f.what} | {f.measured} | {f.limit}: {'pass' if f.is_met else 'FAIL'} |" for f in figures]
    text = [
        "# Nights with random faults, one after the other",
        "",
        describe_machine(),
        "",
        f"{len(mornings)} simulated nights, seed {mornings[0].seed.partition('/')[0]}, in {took_s:.0f} s:"
        f" {attempts} attempts, {done} runs done, {kills} kills of the daemon;"
        " after each night the audit found nothing lost.",
        "",
        "| what | measured | limit |",
        "|---|---|---|",
        *rows,
        "",
    ]
    path.write_text("\n".join(text))


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when nothing was lost and all limits are met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "soak.md")
    options = parser.parse_args(arguments)
    print(f"soak: {options.nights} nights, seed {options.seed}; again with --seed {options.seed}", flush=True)
    began_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(folder, options.seed)
    mornings = []
    try:
        for number in range(1, options.nights + 1):
            mornings.append(soak.night(number))
            m = mornings[-1]
            print(
                f"night {m.seed}: {m.attempts} attempts, {m.done} done, {m.ended_otherwise} ended otherwise,"
                f" {m.kills} kills; {m.rss_mb:.0f} MB, {m.files} files, {m.bytes_per_attempt:.0f} B an attempt",
                flush=True,
            )
    finally:
        soak.close()
        shutil.rmtree(folder)
    figures, took_s = judge(mornings), time.monotonic() - began_s
    write_results(options.out, mornings, figures, took_s)
    simulated = timedelta(seconds=round((soak.host.clock.utc() - BEGIN).total_seconds()))
    print(f"soak: {simulated} of simulated time in {took_s:.0f} s; nothing lost")
    missed = [figure for figure in figures if not figure.is_met]
    for figure in missed:
        print(f"soak: {figure.what}: {figure.measured}, {figure.limit}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
