"""`status --watch` in a real terminal and by its keys: what a person sees at two in the morning, and what a key does.

`LEM_UPDATE_GOLDEN=1 pytest tests/daemon/test_live_screen.py` writes the screens anew; the diff is then looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import DataTable, Static

from lemctl.cli.watch.app import SHRINKS_AFTER, Watch
from lemctl.cli.watch.runs_left import Row
from lemctl.cli.watch.traces import NO_SENSORS
from lemctl.cli.watch.words import Words
from lemctl.store.read_status import QueueLine
from live_screen import AHEAD, on_a_thread, read_gpu, terminal, wait_until
from needed import needs
from night import Night, campaign_text

GOLDEN = Path(__file__).parents[1] / "golden" / "watch"


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A campaign that waits for its daemon, on a host whose GPU was read for the last two minutes."""
    with Night(tmp_path / "night") as night:
        night.add(campaign_text(cycles=100, batches="[1, 2, 4]"))
        yield night


@pytest.mark.slow
@pytest.mark.alone
@needs("tmux")
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60)])
def test_the_screen_in_a_terminal_is_the_golden_one(night: Night, columns: int, lines: int) -> None:
    read_gpu(night.home, 250.0, AHEAD)
    golden = GOLDEN / f"{columns}x{lines}.txt"
    if os.environ.get("LEM_UPDATE_GOLDEN"):
        with terminal(night.home, columns, lines) as screen:
            wait_until(lambda: "Queued" in screen() and "leave" in screen(), "the screen")
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(screen() + "\n")
    wanted = golden.read_text().rstrip("\n")
    with terminal(night.home, columns, lines) as screen:
        wait_until(lambda: screen().rstrip("\n") == wanted, f"the screen of {golden.name}, not\n{screen()}")
        wait_until(lambda: "Pause night?" in screen("p"), "the question")
        wait_until(lambda: "Pause night?" not in screen("n"), "its end")
        wait_until(lambda: screen("q") == "", "the end of the screen")


@on_a_thread
async def test_the_queue_is_filtered_by_words_and_a_host_without_sensors_says_so(night: Night) -> None:
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one("#queue", DataTable)
        assert table.row_count == 300
        said = app.query_one("#no-sensors", Static)
        assert said.display
        assert str(said.render()) == NO_SENSORS
        await pilot.press("slash", *"size=4")
        assert [table.get_row_at(row)[2] for row in range(table.row_count)] == ["replay batch_size=4"] * 100
        await pilot.press("escape")
        assert table.row_count == 300
        await pilot.press("x", "y")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert next(note.message for note in app._notifications).startswith("no daemon runs on")


@on_a_thread
async def test_a_second_without_a_reading_is_no_fall_to_zero(night: Night) -> None:
    read_gpu(night.home, 250.0)
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)):
        picture = app._picture
        assert picture is not None
        (history,) = picture.histories
        assert history.now("power") == pytest.approx(250.0)
        assert set(history.values["power"]) == {250.0}
        history.take([((history.seconds[-1] + 1) * 10**9, {"temp_c": 41})])
        assert history.now("power") is None


@on_a_thread
async def test_the_screen_does_not_jump_with_every_phase_of_a_run(night: Night) -> None:
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)):
        app._say_above("cooling" + "\n" * 8)
        for _ in range(SHRINKS_AFTER - 1):
            app._say_above("measuring")
            assert app.query_one("#head", Words).text == "measuring" + "\n" * 8
        app._say_above("measuring")
        assert app.query_one("#head", Words).text == "measuring"
    for status, state in (("Cooling", "under way"), ("Running", "under way"), ("Queued", "Queued")):
        assert Row.of(QueueLine(7, "replay", {}, 1, status, None)).cells[1] == state


@on_a_thread
async def test_a_look_that_comes_while_the_screen_is_taken_down_is_no_error(night: Night) -> None:
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q")
    app._look()
