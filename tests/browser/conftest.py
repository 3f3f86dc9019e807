"""A real browser, and pages written by the real command of a campaign that was simulated."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_page import HOSTILE

from lem_runner.results import WindowRecord
from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.cli.main import run
from lemctl.daemon.instruments import Watched
from lemctl.paths import Home, data_folder
from lemctl.simulate import run_campaign
from lemctl.simulate.instruments import SimulatedInstruments

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

CAMPAIGN = """
name: evening
model: "random:{vocab_size: 1000}"
preset: benchmark
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 32}
sweep:
  backend: [pytorch, replay]
  workload.load.batch_size: [1, 4, 16]
  workload.max_new_tokens: [16, 32]
cycles: 3
"""


def browser_path() -> str:
    """Chromium, or a skip with the reason; where the tests must have one, a failure."""
    for name in (os.environ.get("LEM_CHROMIUM"), *BROWSERS):
        if name and (found := shutil.which(name)):
            return found
    reason = "no Chromium here: scripts/chromium.sh installs it"
    if os.environ.get("LEM_TEST_NEEDS_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium. Closed before other tests go on: while it is open, this thread has an event loop."""
    path = browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The state folder of one simulated campaign: 12 experiments, whose very first window was throttled and therefore
    discarded; its run was tried again."""
    found = Home(tmp_path_factory.mktemp("evening"))
    made = plan(loads(CAMPAIGN, catalogue_dir=data_folder() / "images"))
    end_attempt = SimulatedInstruments.end_attempt
    shares = iter([0.5])

    def throttled_once(instruments: SimulatedInstruments, windows: list[WindowRecord]) -> Watched:
        watched = end_attempt(instruments, windows)
        return replace(watched, evidence={"thermal_throttle_share": next(shares, 0.0)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedInstruments, "end_attempt", throttled_once)
        assert run_campaign(made, CAMPAIGN, found, seed=4) == 0
    with sqlite3.connect(found.database) as connection:
        boot, begin_ns, end_ns = connection.execute(
            "SELECT a.boot_id, w.t_begin_mono_ns, w.t_end_mono_ns FROM windows w JOIN attempts a ON a.id = w.attempt_id"
            " ORDER BY a.id LIMIT 1"
        ).fetchone()
        connection.execute(
            "UPDATE samples SET reading = json_set(reading, '$.event_reasons', 64) WHERE series = 'power'"
            " AND boot_id = ? AND t_mono_ns BETWEEN ? AND ?",
            (boot, begin_ns, (begin_ns + end_ns) // 2),
        )
    return found


@pytest.fixture(scope="session")
def hostile_home(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The same campaign with words that a page might take for its own, wherever a campaign or an engine may put
    words."""
    found = Home(tmp_path_factory.mktemp("hostile"))
    with sqlite3.connect(home.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        target = sqlite3.connect(found.database)
        connection.backup(target)
        target.close()
    with sqlite3.connect(found.database) as connection:
        connection.execute("UPDATE experiments SET model = ?", (HOSTILE,))
        connection.execute("UPDATE runs SET axes = replace(axes, '\"pytorch\"', json_quote(?))", (HOSTILE,))
        connection.execute(
            "UPDATE runs SET axes = json_set(json_remove(axes, '$.\"workload.max_new_tokens\"'), '$.\"__proto__\"',"
            " cycle, '$.' || json_quote(?), json_extract(axes, '$.\"workload.max_new_tokens\"'))",
            ("x <b>axis</b>",),
        )
        connection.execute("UPDATE meta SET value = ? WHERE key = 'host_name'", (HOSTILE,))
        connection.execute("UPDATE sessions SET image_digest = ?", (HOSTILE,))
        connection.execute(
            "UPDATE metrics SET unit = ?, value = NULL, reason = ? WHERE name = 'ttft_p50'", (HOSTILE, HOSTILE)
        )
        connection.execute("UPDATE devices SET uuid = uuid || '<b>'")
    return found


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Home], Path]:
    """`lemctl report --html` of a state folder; the file."""

    def call(home: Home) -> Path:
        monkeypatch.setenv("LEM_HOME", str(home.root))
        path = tmp_path / "report.html"
        assert run(["report", "--html", "-o", str(path)]) == 0
        return path

    return call


@pytest.fixture(scope="session")
def written(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the simulated campaign."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEM_HOME", str(home.root))
        assert run(["report", "evening", "--html", "-o", str(path)]) == 0
    return path
