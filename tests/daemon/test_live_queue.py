"""The queue of the live screen: its filter searches all runs of the campaign, however many are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable

from lemctl.cli.watch.app import Watch
from lemctl.cli.watch.runs_left import RunsLeft
from lemctl.cli.watch.words import Words
from lemctl.clock import SystemClock, utc_text
from lemctl.store import moves
from lemctl.store.database import Store
from lemctl.store.status import Queued, Skipped
from live_screen import on_a_thread
from night import Night, campaign_text


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A campaign of 900 runs that waits for its daemon."""
    with Night(tmp_path / "night") as night:
        night.add(campaign_text(cycles=300, batches="[1, 2, 4]"))
        yield night


def shown(app: Watch) -> list[list[str]]:
    table = app.query_one("#queue", DataTable)
    return [table.get_row_at(row) for row in range(table.row_count)]


def more(app: Watch) -> str:
    words = app.query_one("#more", Words)
    return words.text if words.display else ""


def move(night: Night, run: int, to: Queued | Skipped) -> None:
    with Store.open(night.home, "write") as store, store.transaction() as tx:
        moves.move(tx, "run", run, to, utc_text(SystemClock().utc()), "person")


async def search(pilot: Pilot[None], words: str) -> None:
    await pilot.press("escape", "slash", *("space" if letter == " " else letter for letter in words))
    await pilot.pause()


@on_a_thread
async def test_the_filter_finds_a_run_that_is_not_among_those_shown(night: Night) -> None:
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        assert (len(shown(app)), more(app)) == (300, "and 600 more runs, which / finds, too")
        await search(pilot, "899")
        assert (shown(app), more(app)) == ([["899", "Queued", "replay batch_size=2", "300"]], "")
        await search(pilot, "size=1 898")
        assert shown(app) == [["898", "Queued", "replay batch_size=1", "300"]]
        await search(pilot, "size=")
        assert (len(shown(app)), more(app)) == (300, "and 600 more hits")
        await pilot.press("escape")
        await pilot.pause()
        assert [row[0] for row in shown(app)] == [str(run) for run in range(1, 301)]


@on_a_thread
async def test_what_is_filtered_is_kept_up_to_date(night: Night) -> None:
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, "89")
        assert [row[0] for row in shown(app)][-2:] == ["898", "899"]
        move(night, 898, Skipped(reason="a test", because="person"))
        app._look()
        assert [row[0] for row in shown(app)][-2:] == ["897", "899"]


def test_a_filter_of_ten_thousand_runs_reads_no_more_than_what_has_changed(tmp_path: Path) -> None:
    with Night(tmp_path / "large") as night:
        night.add(campaign_text(cycles=2500, batches="[1, 2, 3, 4]"))
        with night.reading() as store:
            runs = RunsLeft(store)
            assert runs.look(1)
            assert [row.line.run for row in runs.find(["9999"]).rows] == [9999]
            asked: list[str] = []
            store.connection.set_trace_callback(asked.append)
            move(night, 9999, Skipped(reason="a test", because="person"))
            assert runs.look(1)
            before_ns = time.process_time_ns()
            found = runs.find(["size"])
            took_s = (time.process_time_ns() - before_ns) / 1e9
            assert (len(found.rows), found.more) == (300, 9699)
            assert not any("axes" in sql for sql in asked), "what never changes was read again"
            assert took_s < 0.5
