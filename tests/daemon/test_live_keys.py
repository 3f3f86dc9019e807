"""Every key of the live screen: those that steer ask first, and what they ask for happens; others change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, TabbedContent

from lemctl.cli.watch.app import Watch
from lemctl.cli.watch.question import Question
from live_screen import on_a_thread
from night import Night, campaign_text

#: A run of batch 1 fails, the others take some 0.6 s: the screen is steered while one is under way.
NIGHT = (
    campaign_text(cycles=30, more="retry: {max: 0}\nbreaker: {consecutive: 100}")
    .replace("{workload.load.batch_size: [1]}", "{replay.engine.fault: [error, none]}")
    .replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 40")
)
STEERING = {
    "p": "Pause night? The run under way goes on to its end.",
    "s": "Stop night after the run under way?",
    "c": "Cancel night, its 60 runs left and the one under way? Results stay.",
    "x": "Skip run 1, which is queued?",
}


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A campaign that waits for its daemon; half of its runs will fail."""
    with Night(tmp_path / "night") as night:
        night.add(NIGHT)
        yield night


def asked(app: Watch) -> str | None:
    """The question on the screen."""
    return app.screen.text if isinstance(app.screen, Question) else None


def commands(night: Night) -> list[tuple[str, int | None]]:
    return [(verb, code) for verb, code in night.rows("SELECT verb, exit_code FROM commands ORDER BY id")]


def status_of(night: Night, run: int) -> str:
    return str(night.rows("SELECT status FROM runs WHERE id = ?", run)[0][0])


async def do(app: Watch, pilot: Pilot[None], *keys: str) -> None:
    """Press them, wait until what they ask for has happened, and look."""
    await pilot.press(*keys)
    await app.workers.wait_for_complete()
    await pilot.pause()
    app._look()


@pytest.mark.parametrize("leave", ["n", "escape", "q"])
@on_a_thread
async def test_a_question_that_is_not_answered_with_yes_changes_nothing(night: Night, leave: str) -> None:
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        for key, question in STEERING.items():
            await pilot.press(key)
            assert asked(app) == question
            await pilot.press("slash", "g", "v")
            assert asked(app) == question
            await pilot.press(leave)
            await pilot.pause()
            assert asked(app) is None
        await pilot.press("r")
        assert asked(app) is None
        assert next(iter(app._notifications)).message == "no run of night has failed"
    assert commands(night) == []
    assert set(night.statuses()) == {"Queued"}


@on_a_thread
async def test_keys_that_only_show_change_nothing(night: Night) -> None:
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        tabs = app.query_one(TabbedContent)
        seen = []
        for _ in range(3):
            await pilot.press("v")
            seen.append((tabs.active, app.focused.id if app.focused else None))
        assert seen == [("last-tab", "last-scroll"), ("log-tab", "log-scroll"), ("queue-tab", "queue")]
        await pilot.press("slash", *"p4", "slash", "s", "c", "x", "q", "g")
        assert app.query_one("#filter").value == "p4/scxqg"
        await pilot.press("enter", "x")
        assert asked(app) is None
        assert next(iter(app._notifications)).message == "there is no run to skip"
        await pilot.press("escape", "down", "g")
        assert app.query_one("#queue", DataTable).cursor_row == 1
        await pilot.press("q")
    assert commands(night) == []


@on_a_thread
async def test_every_key_that_steers_does_what_it_asked_about(night: Night) -> None:
    night.begin()
    night.wait_for(lambda: night.statuses()[:2] == ["Failed", "Done"], "a failure and a result")
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        await do(app, pilot, "p", "y")
        assert (commands(night)[-1], night.campaign()) == (("pause", 0), "Paused")
        night.wait_for(lambda: not {"Starting", "Cooling", "Running"} & set(night.statuses()), "the end of its run")

        failed = night.statuses().count("Failed")
        app._look()
        await pilot.press("r")
        assert asked(app) == f"Try the {failed} failed runs of night again?"
        await do(app, pilot, "y")
        assert commands(night)[-1] == ("retry", 0)
        assert "Failed" not in night.statuses()

        await pilot.press("ctrl+end", "x")
        assert asked(app) == "Skip run 60, which is queued?"
        await do(app, pilot, "y")
        assert (commands(night)[-1], status_of(night, 60)) == (("skip", 0), "Skipped")

        await pilot.press("p")
        assert asked(app) == "Go on with night?"
        await do(app, pilot, "y")
        assert commands(night)[-1] == ("resume", 0)
        night.wait_until_under_way()

        await do(app, pilot, "s", "y")
        assert (commands(night)[-1], night.campaign()) == (("stop", 0), "Stopped")
        assert not {"Starting", "Cooling", "Running"} & set(night.statuses())

        await do(app, pilot, "p", "y")
        night.wait_until_under_way()
        app._look()
        await do(app, pilot, "c", "y")
        assert (commands(night)[-1], night.campaign()) == (("cancel", 0), "Cancelled")
        assert set(night.statuses()) <= {"Cancelled", "Done", "Failed", "Skipped"}
        await pilot.press("q")
    assert [verb for verb, _ in commands(night)] == ["pause", "retry", "skip", "resume", "stop", "resume", "cancel"]
    assert night.daemon is not None
    assert night.daemon.poll() is None
    night.end()
    night.audit()
