"""What the live screen says of GPUs: of those that are read, of those that were, and which of several is shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from textual.widgets import DataTable, Sparkline, Static

from lemctl.cli.watch.app import Watch
from lemctl.cli.watch.picture import HISTORY_S, Reader
from lemctl.cli.watch.traces import NO_SENSORS
from lemctl.cli.watch.words import Words
from lemctl.clock import SimulatedClock, boot_id
from live_screen import on_a_thread, read_gpu, said_by_a_daemon
from night import Night, campaign_text

A, B, C = (f"GPU-{digit * 8}-0000-0000-0000-0000{digit * 8}" for digit in "abc")


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A campaign that waits for its daemon."""
    with Night(tmp_path / "night") as night:
        night.add(campaign_text())
        yield night


def clock_from_now() -> SimulatedClock:
    return SimulatedClock(datetime.now(UTC), time.monotonic_ns(), boot_id())


def of_the_gpu(app: Watch) -> str:
    return str(app.query_one("#gpu", Static).render())


def told(app: Watch, trace: int) -> str:
    return str(app.query_one(f"#trace-{trace} Static", Static).render())


def test_a_history_without_new_samples_runs_empty(night: Night) -> None:
    read_gpu(night.home, 250.0)
    clock = clock_from_now()
    reader = Reader(night.home, clock)
    (history,) = reader.look().histories
    assert len(history.seconds) == 111
    clock.advance(HISTORY_S - 50)
    (history,) = reader.look().histories
    assert 49 <= len(history.seconds) <= 51
    assert {len(values) for values in history.values.values()} == {len(history.seconds)}
    clock.advance(51)
    (history,) = reader.look().histories
    assert (len(history.seconds), history.now("power")) == (0, None)
    reader.close()


@on_a_thread
async def test_sensors_that_died_are_told_with_their_age_and_leave_when_nothing_is_left(night: Night) -> None:
    clock = clock_from_now()
    read_gpu(night.home, 250.0, range(111))
    app = Watch(night.home, clock)
    async with app.run_test(size=(80, 24)):
        assert "last read" not in of_the_gpu(app)
        assert told(app, 0) == "power       250 W"
        clock.advance(40)
        app._look()
        assert of_the_gpu(app).endswith(": last read 40 s ago")
        assert told(app, 0) == "power       —"
        clock.advance(82)
        app._look()
        said = app.query_one("#no-sensors", Static)
        assert said.display
        assert str(said.render()) == NO_SENSORS
        assert not app.query_one("#gpu").display


@on_a_thread
async def test_the_key_for_the_next_gpu_passes_over_those_that_told_nothing_of_late(night: Night) -> None:
    read_gpu(night.home, 100.0, gpu=A, facts={"name": "GPU of A"})
    read_gpu(night.home, 200.0, range(200, 300), gpu=B, facts={"name": "GPU of B"})
    read_gpu(night.home, 300.0, gpu=C, facts={"name": "GPU of C"})
    app = Watch(night.home)
    async with app.run_test(size=(80, 24)) as pilot:
        seen = []
        for _ in range(3):
            seen.append((told(app, 0), of_the_gpu(app)))
            await pilot.press("g")
        assert [power for power, _ in seen] == ["power       100 W", "power       300 W", "power       100 W"]
        assert ["GPU of A" in line for _, line in seen] == [True, False, True]


@on_a_thread
async def test_the_gpu_that_is_shown_is_named_with_what_cools_and_what_slows_it(night: Night) -> None:
    for index, (gpu, reasons) in enumerate([(A, 0x0), (B, 0x4 | 0x20 | 0x80)]):
        read_gpu(
            night.home, 100.0, gpu=gpu, facts={"name": "NVIDIA H100 80GB HBM3", "index": index}, event_reasons=reasons
        )
    lane = {"run": None, "phase": "cooling", "since_mono_ns": time.monotonic_ns() - 60 * 10**9}
    with said_by_a_daemon(night.home, gpu=lane | {"gpus": [A], "cooling_to_c": {A: 37.0}}):
        app = Watch(night.home)
        async with app.run_test(size=(80, 24)) as pilot:
            lines = []
            for _ in range(2):
                lines.append(of_the_gpu(app))
                await pilot.press("g")
            height = app.query_one("#gpu").size.height
    assert lines == [
        "GPU 0 H100 80GB HBM3 (aaaaaaaa): not throttled, cooling from 41 C to 37 C",
        "GPU 1 H100 80GB HBM3 (bbbbbbbb): THROTTLED (software thermal, power brake)",
    ]
    assert height == 1


@on_a_thread
async def test_what_has_not_changed_is_not_drawn_again(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    read_gpu(night.home, 100.0)
    app = Watch(night.home, clock_from_now())
    async with app.run_test(size=(80, 24)) as pilot:
        app._look()
        await pilot.pause()
        drawn: list[str] = []
        for kind in (Static, Sparkline, DataTable):
            monkeypatch.setattr(kind, "refresh", lambda widget, *_, **__: drawn.append(str(widget)))
        app._look()
        assert drawn == []
        app.query_one("#gpu", Words).say("another")
        assert len(drawn) == 1
