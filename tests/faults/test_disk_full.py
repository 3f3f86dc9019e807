"""A disk that is full, on real small file systems, in each of the places where one can be: new runs stop, the state is
still written, people are told, and the campaign goes on by itself when there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import Filler, mounted

from lemctl.clock import SimulatedClock, SystemClock
from lemctl.daemon.disk import Ballast, HostDisk
from lemctl.paths import Home
from night import Night, campaign_text

NOTIFY = "notify: {urls_from: LEM_NOTIFY_NOWHERE, on: [disk_low]}"
#: Runs of some 0.3 s.
LONG = campaign_text(cycles=6, more=NOTIFY).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20")
TOLD = "SELECT body FROM outbox WHERE event = 'disk_low'"


def waits_for_room(night: Night, folder: Path) -> bool:
    return f"MB left at {folder}" in night.waits_for()


def goes_on_by_itself(night: Night, filler: Filler) -> None:
    """Nobody resumes anything: the room alone does it."""
    assert night.campaign() == "Active"
    assert night.daemon is not None
    assert night.daemon.poll() is None
    before = len(night.attempts())
    filler.remove()
    night.wait_campaign(ceiling_s=60)
    assert len(night.attempts()) > before
    assert night.statuses() == ["Done"] * 6
    assert {outcome for outcome, *_ in night.attempts()} <= {"ok", "interrupted"}, night.attempts()


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_full_disk_of_the_database_holds_the_campaign_until_there_is_room(tmp_path: Path, kind: str) -> None:
    variables = {"LEM_MIN_FREE_DISK_MB": "4", "LEM_BALLAST_MB": "3"}
    with mounted(tmp_path / "disk", 32, kind) as filler, Night(tmp_path / "disk", variables) as night:
        night.add(LONG)
        night.begin()
        night.wait_for(night.home.ballast.exists, "ballast")
        night.wait_until_under_way()
        filler.fill()
        night.wait_for(lambda: waits_for_room(night, night.home.root), "word of the full disk")
        assert not night.home.ballast.exists()
        assert night.rows("SELECT count(*) FROM attempts WHERE outcome IS NULL") == [(0,)]
        ((told,),) = night.rows(TOLD)
        assert "goes on by itself when there is room" in told
        goes_on_by_itself(night, filler)
        night.wait_for(night.home.ballast.exists, "the ballast laid out again")
        assert night.end() == 0
        night.audit()


def test_a_full_disk_at_the_daemons_start_is_met_with_the_ballast(tmp_path: Path) -> None:
    variables = {"LEM_MIN_FREE_DISK_MB": "4", "LEM_BALLAST_MB": "3"}
    with mounted(tmp_path / "disk", 24, "tmpfs") as filler, Night(tmp_path / "disk", variables) as night:
        night.add(LONG)
        night.begin()
        night.wait_for(night.home.ballast.exists, "ballast")
        night.wait_until_under_way()
        night.kill()
        filler.fill()
        night.begin()
        night.wait_for(lambda: waits_for_room(night, night.home.root), "word of the full disk")
        assert night.attempts()[-1][0] == "interrupted"
        goes_on_by_itself(night, filler)
        night.end()
        night.audit()


def test_a_full_disk_of_the_sessions_costs_no_retry_and_is_waited_for(tmp_path: Path) -> None:
    """The runner cannot write its events and ends; the database has room and says so."""
    with Night(tmp_path / "night", {"LEM_MIN_FREE_DISK_MB": "2"}) as night:
        night.home.create()
        with mounted(night.home.sessions, 8, "tmpfs") as filler:
            night.home.sessions.chmod(0o711)
            night.add(LONG.replace(NOTIFY, f"{NOTIFY}\nretry: {{max: 0}}"))
            night.begin()
            night.wait_until_under_way()
            filler.fill()
            night.wait_for(lambda: waits_for_room(night, night.home.sessions), "word of the full disk")
            outcome, _, message = night.attempts()[-1]
            assert outcome == "interrupted"
            assert str(message).startswith("the disk is full: ")
            assert len(night.rows(TOLD)) == 1
            goes_on_by_itself(night, filler)
            assert night.end() == 0
            night.audit()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Home, Filler]]:
    with mounted(tmp_path / "disk", 8, "tmpfs") as filler:
        home = Home(tmp_path / "disk" / "home")
        home.create()
        yield home, filler


def test_a_ballast_takes_real_room_and_gives_it_back(small: tuple[Home, Filler]) -> None:
    home, filler = small
    ballast = Ballast(home.ballast, 2_000_000)
    assert ballast.lay_out()
    filler.fill()
    with pytest.raises(OSError, match="No space"):
        (home.root / "x").write_bytes(bytes(100_000))
    assert ballast.give_up()
    (home.root / "x").write_bytes(bytes(1_900_000))
    assert not ballast.give_up()
    assert not ballast.lay_out()
    assert not ballast.is_there()
    assert home.ballast.exists() is False


def test_the_ballast_never_takes_what_runs_need(small: tuple[Home, Filler]) -> None:
    home, _ = small
    clock = SimulatedClock(SystemClock().utc())
    disk = HostDisk(home, clock, min_free_b=7_000_000, ballast_b=2_000_000)
    disk.tick()
    assert not home.ballast.exists()
    assert disk.lack() is None
    disk = HostDisk(home, clock, min_free_b=5_000_000, ballast_b=2_000_000)
    disk.tick()
    assert home.ballast.stat().st_mode & 0o777 == 0o600
    assert disk.lack() is None


def test_a_disk_that_cannot_be_asked_holds_nothing_up(tmp_path: Path) -> None:
    disk = HostDisk(Home(tmp_path), SystemClock(), min_free_b=1, ballast_b=0)
    assert disk.lack([tmp_path / "gone"]) is None
