"""The HTML report: how large it is, how long it takes to write, and how soon it is seen.

A campaign of 200 experiments x 5 cycles is simulated with ten samples a second, and one of 2,000 experiments with one
(ten would be 8 GB); pages are written by the command as typed, and opened in a headless Chromium.

    python bench/html.py [--out bench/results/html.md] [--experiments 200 2000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from machine import describe_machine

CYCLES = 5
OPENINGS = 5
LIMITS = {200: (6.0, 5.0, 2.0)}
#: Samples a second by experiments; a larger campaign is about the page, not about the samples.
SAMPLED_HZ = {200: 10}
LEAST_HZ = 1
CAMPAIGN = """\
name: bench-{experiments}
model: "random:{{vocab_size: 1000}}"
preset: benchmark
workload: {{dataset: random, random: {{input_len: 16}}, prompts: 64}}
sweep:
  backend: [pytorch, replay]
  workload.load.batch_size: [1, 4, 16, 64]
  workload.max_new_tokens: {lengths}
cycles: {cycles}
breaker: {{consecutive: 1000}}
"""


class Page(NamedTuple):
    """One row of the table."""

    experiments: int
    samples: int
    size_mb: float
    first_written_s: float
    written_s: float
    first_s: float
    slowest_first_s: float
    whole_s: float


def simulate(home: str, experiments: int) -> None:
    """The campaign, sampled as on a real host."""
    from lemctl.campaign.file import loads
    from lemctl.campaign.plan import plan
    from lemctl.paths import Home, data_folder
    from lemctl.simulate import run_campaign

    lengths = list(range(16, 16 + experiments // 8))
    text = CAMPAIGN.format(experiments=experiments, lengths=lengths, cycles=CYCLES)
    made = plan(loads(text, catalogue_dir=data_folder() / "images"))
    run_campaign(made, text, Home(Path(home)), seed=1, sample_s=1 / sampled_hz(experiments))


def sampled_hz(experiments: int) -> int:
    """Samples a second of each series."""
    return SAMPLED_HZ.get(experiments, LEAST_HZ)


def measure(folder: Path, experiments: int, browser: Any) -> Page:
    home, page = folder / f"home-{experiments}", folder / f"report-{experiments}.html"
    if not home.exists():
        subprocess.run([sys.executable, __file__, "--make", str(home), str(experiments)], check=True)
    command = [str(Path(sys.executable).with_name("lemctl")), "--home", str(home), "report", "--html", "-o", str(page)]
    forget(home)
    times_s = []
    for _ in range(2):  # the first one reads the database from disk, and makes the script that it draws with
        begin_s = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        times_s.append(time.perf_counter() - begin_s)
    firsts, wholes = zip(*(opened(browser, page) for _ in range(OPENINGS)), strict=True)
    return Page(
        experiments,
        count_samples(home),
        page.stat().st_size / 1e6,
        *times_s,
        statistics.median(firsts),
        max(firsts),
        statistics.median(wholes),
    )


def forget(home: Path) -> None:
    """Nothing of the database is in the kernel's memory any more, and the script is not kept."""
    from lemctl.paths import Home

    shutil.rmtree(Home(home).drawing, ignore_errors=True)
    for path in home.glob("lem.db*"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)  # what is not written yet stays in memory
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def opened(browser: Any, page: Path) -> tuple[float, float]:
    """Seconds from the navigation to the first view (summary, table, first plot), and to the last plot."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-ready=all]", timeout=120_000)
    first_ms, now_ms = tab.evaluate("[performance.getEntriesByName('first-view')[0].startTime, performance.now()]")
    tab.close()
    return first_ms / 1e3, now_ms / 1e3


def count_samples(home: Path) -> int:
    import sqlite3

    with sqlite3.connect(f"file:{home / 'lem.db'}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM samples").fetchone()[0])


def line(page: Page) -> tuple[str, bool]:
    limits = LIMITS.get(page.experiments)
    kept = limits is None or (page.size_mb <= limits[0] and page.written_s <= limits[1] and page.first_s <= limits[2])
    told = "opens" if limits is None else f"{limits[0]:g} MB, {limits[1]:g} s, {limits[2]:g} s"
    cells = (
        f"{page.experiments:,} x {CYCLES}",
        f"{page.samples:,}",
        f"{sampled_hz(page.experiments)}",
        f"{page.size_mb:.1f}",
        f"{page.first_written_s:.1f}",
        f"{page.written_s:.1f}",
        f"{page.first_s:.2f} ({page.slowest_first_s:.2f})",
        f"{page.whole_s:.1f}",
        f"{told}: {'pass' if kept else 'FAIL'}",
    )
    return f"| {' | '.join(cells)} |", kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "html.md")
    parser.add_argument("--experiments", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--keep", type=Path, help="Folder for the databases, used again if they are there.")
    parser.add_argument("--make", nargs=2, metavar=("HOME", "EXPERIMENTS"), help="Only simulate.")
    arguments = parser.parse_args()
    if arguments.make:
        simulate(arguments.make[0], int(arguments.make[1]))
        return 0
    from playwright.sync_api import sync_playwright

    path = subprocess.run(
        [str(Path(__file__).parents[1] / "scripts" / "chromium.sh")], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        rows = [line(measure(folder, experiments, browser)) for experiments in arguments.experiments]
        browser.close()
    text = "\n".join(
        [
            "# The HTML report",
            "",
            describe_machine(),
            "",
            "Simulated campaigns. Written: the whole command; the first time with the database on the disk alone and"
            " the drawing library's script still to be made, then again. First view: from the navigation to summary,"
            f" table and first plot, median (largest) of {OPENINGS} openings in a headless Chromium; whole: to the last"
            " plot.",
            "",
            "| experiments x cycles | samples | a second | MB | first written s | written again s | first view s"
            " | whole s | limit |",
            "|---|---|---|---|---|---|---|---|---|",
            *(row for row, _ in rows),
            "",
        ]
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)
    return 0 if all(kept for _, kept in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
