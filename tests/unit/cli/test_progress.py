"""The view of a campaign under way: what it prints, how it ends, and that it never hangs on a dead daemon."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from build import Night, plan_of
from command_line import Lemctl

from lemctl.cli import progress
from lemctl.clock import utc_text
from lemctl.errors import NoDaemon, OutsideHours
from lemctl.paths import Home
from lemctl.store import schedules
from lemctl.store.campaigns import close, find, settle
from lemctl.store.status import CampaignStopped


@pytest.fixture
def watched(night: Night, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A campaign of two runs under way, with a daemon that is taken for alive."""
    night.add(plan_of(batch_sizes=(1,)))
    night.activate()
    monkeypatch.setattr(progress, "daemon_pid", lambda _: 1)
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    return night


def carry_out(night: Night, fails: bool) -> None:
    """What the daemon would do, from a thread of its own: a run, then the other, then the end."""
    first, second = night.runs()
    night.finish(first)
    if fails:
        night.fail(second, "engine_error", "it broke")
    else:
        night.finish(second)
    with night.store.transaction() as tx:
        settle(tx, find(tx, "demo"), night.clock)


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 3)])
def test_every_run_is_shown_and_the_code_is_the_campaigns(
    watched: Night, home: Home, fails: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = threading.Thread(target=carry_out, args=(watched, fails))
    timer = threading.Timer(0.1, daemon.start)
    timer.start()
    assert progress.wait_for_end(home, 1) == code
    daemon.join()
    printed = capsys.readouterr().out
    assert "1/2  run 1 (replay batch_size=1, cycle 1) VALID in 10.0 s: tokens/s 80, TTFT p50 12 ms" in printed
    ending = "failed in 5.0 s: engine_error: it broke" if fails else "VALID in 10.0 s"
    assert f"2/2  run 2 (replay batch_size=1, cycle 2) {ending}" in printed
    assert "campaign demo: finished" in printed


def test_a_campaign_outside_its_hours_ends_the_wait_with_its_own_code(night: Night, home: Home) -> None:
    opens = datetime.now(UTC) + timedelta(hours=12)
    hours = f'hours: {{from: "{opens:%H:%M}", to: "{opens + timedelta(hours=1):%H:%M}", tz: UTC}}'
    night.add(plan_of(batch_sizes=(1,), extra=hours))
    night.activate()
    with pytest.raises(OutsideHours, match=f"goes on by itself .* {opens:%H:%M} UTC") as caught:
        progress.wait_for_end(home, 1)
    assert caught.value.exit_code == 75


def test_a_campaign_that_begins_later_ends_the_wait_too(night: Night, home: Home) -> None:
    added = night.add(plan_of(batch_sizes=(1,)))
    at_utc = utc_text(datetime.now(UTC) + timedelta(hours=3))
    with night.store.transaction() as tx:
        schedules.add(tx, added.campaign.id, "demo", night.clock, at_utc=at_utc)
    with pytest.raises(OutsideHours):
        progress.wait_for_end(home, 1)


def test_a_stopped_campaign_ends_the_wait_and_says_how_to_go_on(
    watched: Night, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with watched.store.transaction() as tx:
        close(tx, find(tx, "demo"), CampaignStopped(), watched.clock, "person")
    assert progress.wait_for_end(home, 1) == 3
    assert "`lemctl campaign resume demo` goes on" in capsys.readouterr().out


def test_ctrl_c_leaves_the_campaign_running_and_says_so(
    watched: Night, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    assert progress.wait_for_end(home, 1) == 130
    assert "campaign demo goes on" in capsys.readouterr().err


def test_a_daemon_that_ends_ends_the_wait(watched: Night, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "daemon_pid", lambda _: None)
    monkeypatch.setattr(progress, "ALIVE_EVERY_S", 0.0)
    with pytest.raises(NoDaemon, match="lemctl daemon start"):
        progress.wait_for_end(home, 1)


def test_waiting_for_a_campaign_that_has_ended_returns_its_code(watched: Night, lemctl: Lemctl) -> None:
    carry_out(watched, fails=True)
    assert lemctl("campaign", "wait", "demo").code == 3


def test_what_is_under_way_names_the_run_and_what_it_waits_for(night: Night) -> None:
    from lemctl.cli.describe import lane_line
    from lemctl.cli.status_view import lane_states
    from lemctl.store import live
    from lemctl.store.read_status import live as read_live

    night.add(plan_of())
    night.activate()
    run = night.runs()[0]
    night.fail(run, "silent", "no sign of life", retry=True)
    night.begin(run)
    with night.store.transaction() as tx:
        document = {"run": run, "phase": "cooling", "since_utc": "2026-01-05T22:00:05Z", "waits_for": "38 C"}
        live.put(tx, "lane:cpu", document, night.clock)
        live.put(tx, "lane:idle", {"run": None}, night.clock)
    now_s = night.clock.utc().timestamp()
    (lane,) = lane_states(night.store, read_live(night.store.connection), now_s)
    assert lane_line(lane) == "run 1 (replay batch_size=1, cycle 1, attempt 2): cooling for 2.0 s, waits for 38 C"
