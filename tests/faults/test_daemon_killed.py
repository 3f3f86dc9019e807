"""SIGKILL and SIGTERM of the daemon: at every commit, at random moments, in each state of a run."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from dying_daemon import Lives

from lemctl.engines.processes import processes_on
from night import Night, campaign_text

#: Commits of a daemon's life from its recovery to its second result.
COMMITS_TO_SECOND_RESULT = 12


@pytest.fixture
def lives(night: Night) -> Iterator[Lives]:
    """Of daemons on the night's state folder."""
    with Lives(night) as made:
        yield made


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_every_commit_loses_nothing(night: Night, lives: Lives, moment: str) -> None:
    """Each life dies one commit later than the one before it; from the sixth on they leave results behind."""
    night.add(campaign_text(cycles=14))
    for number in range(1, COMMITS_TO_SECOND_RESULT + 1):
        lives.begin(moment, number)
        assert lives.wait() == -signal.SIGKILL, night.said()
    assert night.statuses().count("Done") >= 3
    finish(night, lives)
    assert night.statuses() == ["Done"] * 14


def test_a_kill_at_every_commit_of_a_campaigns_end_loses_nothing(night: Night, lives: Lives) -> None:
    """The only result (7th), the campaign's end (8th), and the session's end when the daemon is asked to leave."""
    for number in (7, 8, 9):
        for moment in ("before", "after"):
            night.add(campaign_text(f"night-{number}-{moment}"))
            lives.begin(moment, number)
            if number == 9:
                night.wait_for(lambda: not has_open_campaign(night), "end of the campaign")
                assert lives.terminate() == -signal.SIGKILL
            else:
                assert lives.wait() == -signal.SIGKILL
            lives.begin()
            night.wait_until_serving(lives.pid)
            night.wait_for(lambda: not has_open_campaign(night), "end of the campaign")
            assert lives.terminate() == 0
    night.audit()


def has_open_campaign(night: Night) -> bool:
    return night.rows("SELECT 1 FROM campaigns WHERE status NOT IN ('Finished', 'Cancelled')") != []


def finish(night: Night, lives: Lives, ceiling_s: float = 30) -> None:
    """A daemon that nothing happens to brings every campaign to its end; then nothing is lost."""
    lives.begin()
    night.wait_until_serving(lives.pid)
    night.wait_for(lambda: not has_open_campaign(night), "end of all campaigns", ceiling_s)
    assert lives.terminate() == 0
    night.audit()
    assert night.rows("SELECT count(*) FROM attempts WHERE outcome = 'failed'") == [(0,)]


def kill_at_random(night: Night, lives: Lives, kills: int, seed: int) -> None:
    """Kill at random moments of a life, start again at once, and let it finish in the end.

    A life lasts up to 1.6 times as long as the first result took, so that every third or so leaves one.
    """
    rng = random.Random(seed)
    runs = kills + kills // 2
    night.add(campaign_text(cycles=runs))
    began_s = time.monotonic()
    lives.begin()
    night.wait_for(lambda: "Done" in night.statuses(), "first result")
    lives.kill()
    first_result_s = time.monotonic() - began_s
    for _ in range(kills):
        lives.begin()
        time.sleep(rng.uniform(0.0, 1.6 * first_result_s))
        lives.kill()
    ended = night.rows("SELECT outcome, count(*) FROM attempts WHERE outcome IS NOT NULL GROUP BY 1 ORDER BY 1")
    assert [outcome for outcome, _ in ended] == ["interrupted", "ok"], f"the kills met no campaign: {ended}"
    finish(night, lives, ceiling_s=runs * 0.5 + 30)
    assert night.statuses() == ["Done"] * runs


def test_twenty_kills_at_random_moments_lose_nothing(night: Night, lives: Lives) -> None:
    kill_at_random(night, lives, 20, seed=1)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_two_hundred_kills_at_random_moments_lose_nothing(night: Night, lives: Lives) -> None:
    kill_at_random(night, lives, 200, seed=2)


#: A run that stays some time in each state; between them nothing waits.
SLOW = {
    "Starting": campaign_text(cycles=2, engine="load_s: 20"),
    "Cooling": campaign_text(cycles=2, more="gate: {kind: fixed, gap: 20s}"),
    "Running": campaign_text(cycles=2).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 300"),
}


@pytest.mark.parametrize("state", sorted(SLOW))
def test_sigterm_puts_the_run_under_way_back_and_leaves_nothing(night: Night, state: str) -> None:
    night.add(SLOW[state])
    night.begin()
    night.wait_until_under_way(state)
    night.runner_pid()
    assert night.end() == 0
    assert night.statuses() == ["Queued", "Queued"]
    assert night.attempts() == [("interrupted", None, "the daemon was asked to end")]
    assert night.campaign() == "Active"
    night.audit()


@pytest.mark.parametrize("state", sorted(SLOW))
def test_sigkill_in_each_state_interrupts_the_run_and_leaves_nothing(night: Night, lives: Lives, state: str) -> None:
    night.add(SLOW[state])
    lives.begin()
    night.wait_until_under_way(state)
    night.runner_pid()
    lives.kill()
    night.ask_only("pause", campaign="night")  # asked of the dead one: not obeyed by the next
    lives.begin()
    night.wait_for(lambda: len(night.attempts()) == 2, "second attempt")
    assert night.attempts()[0] == ("interrupted", None, "the daemon ended while this was under way")
    assert night.rows("SELECT exit_code FROM commands") == [(6,)]
    assert len(list(night.home.backups.glob("lem-*-recovery.db"))) == 1
    assert lives.terminate() == 0
    night.audit()


def test_a_run_that_brings_the_daemon_down_does_not_hold_the_night(night: Night, lives: Lives) -> None:
    """Ten interruptions in a row: it is the run. The next one gets its turn."""
    night.add(campaign_text(cycles=2))
    for _ in range(10):
        lives.begin("after", 3)
        assert lives.wait() == -signal.SIGKILL
    lives.begin()
    night.wait_campaign()
    assert lives.terminate() == 0
    assert night.statuses() == ["Failed", "Done"]
    ((data,),) = night.rows("SELECT status_data FROM runs WHERE status = 'Failed'")
    assert json.loads(data)["fault"] == "infra"
    assert json.loads(data)["message"] == "interrupted 10 times in a row"


def test_leftovers_of_a_killed_daemon_are_ended_by_the_next(night: Night, lives: Lives) -> None:
    """A runner that is stopped when its daemon dies sees no end of its input."""
    night.add(SLOW["Running"])
    lives.begin()
    night.wait_until_under_way()
    pid = night.runner_pid()
    os.kill(pid, signal.SIGSTOP)
    lives.kill()
    assert pid in processes_on(night.home.sessions)
    lives.begin()
    night.wait_for(lambda: pid not in processes_on(night.home.sessions), "end of the leftover")
    assert lives.terminate() == 0
    night.audit()
