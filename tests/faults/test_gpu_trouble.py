"""Who owns a GPU: nobody measures beside somebody else, and a GPU whose memory does not come back is kept out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lemctl.cancel import Cancel
from lemctl.clock import SystemClock
from lemctl.daemon.instruments import NoSensors
from lemctl.daemon.lanes import Lane
from lemctl.daemon.locks import holder_text
from lemctl.errors import RunFailed
from lemctl.paths import Home
from lemctl.store.database import Store
from night import Night, campaign_text

sys.path.append(str(Path(__file__).parents[1] / "nvml_stub"))

from nvml_stub import NvmlStub

GPU = "measure: {window: 3s, baseline: 0s}\ngate: {kind: fixed, gap: 0s}\ngpus: [0]\nretry: {max: 0}"


@pytest.fixture
def host(tmp_path: Path) -> NvmlStub:
    return NvmlStub(tmp_path)


def test_a_run_waits_for_a_process_of_others_and_burns_no_retry(tmp_path: Path, host: NvmlStub) -> None:
    with Night(tmp_path / "night", host.host_environment()) as night:
        stranger = subprocess.Popen(["sleep", "600"])
        try:
            host.gpu().set_processes(stranger.pid)
            night.add(campaign_text(more=GPU))
            night.begin()
            said = f"other processes use the GPU: {stranger.pid} (sleep) on {host.uuid()}"
            night.wait_for(lambda: said in night.waits_for(), "word of the stranger")
            assert night.attempts() == []
            assert night.campaign() == "Active"
        finally:
            stranger.kill()
            stranger.wait()
            host.gpu().set_processes()
        night.wait_campaign(ceiling_s=60)  # by itself
        assert [outcome for outcome, *_ in night.attempts()] == ["ok"]
        assert night.end() == 0
        night.audit()


def samplers_of(daemon_pid: int) -> list[int]:
    """Process ids of the samplers that a daemon has."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == daemon_pid and b"lemctl.measure.sampler" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_between_runs_a_dead_sampler_gets_a_successor_and_a_lost_gpu_is_kept_out(
    tmp_path: Path, host: NvmlStub
) -> None:
    """A process of others keeps the first run from beginning: so there is a time between runs."""
    more = GPU + "\nnotify: {urls_from: LEM_NOTIFY_NOWHERE, on: [gpu_lost]}"
    with Night(tmp_path / "night", host.host_environment()) as night:
        host.gpu().set_processes(1)
        night.add(campaign_text(more=more))
        daemon = night.begin()
        night.wait_for(lambda: "other processes use the GPU" in night.waits_for(), "word of the stranger")
        (sampler,) = samplers_of(daemon.pid)
        os.kill(sampler, signal.SIGKILL)
        died_s = time.monotonic()
        night.wait_for(lambda: "the sampler ended with code -9" in night.waits_for(), "word of the sampler's end")
        assert "; tried again at " in night.waits_for()
        night.wait_for(lambda: "other processes use the GPU" in night.waits_for(), "another sampler")
        assert time.monotonic() - died_s >= 5.0
        assert samplers_of(daemon.pid) != [sampler]

        host.gpu().lost = 1
        night.wait_campaign("Paused")
        ((kept_out, why),) = night.rows("SELECT uuid, quarantine_reason FROM devices WHERE quarantined_utc IS NOT NULL")
        assert kept_out == host.uuid()
        assert f"GPU {host.uuid()} is lost" in why
        assert night.rows("SELECT event, title FROM outbox") == [("gpu_lost", "night has lost a GPU")]
        assert night.attempts() == []
        night.wait_for(lambda: samplers_of(daemon.pid) == [], "end of the sampler")

        host.gpu().lost = 0
        host.gpu().set_processes()
        assert night.ask("resume", campaign="night").exit_code == 0
        night.wait_campaign(ceiling_s=60)
        assert [outcome for outcome, *_ in night.attempts()] == ["ok"]
        assert night.end() == 0
        night.audit()


def test_two_campaigns_of_two_users_never_share_a_gpu(tmp_path: Path, host: NvmlStub) -> None:
    """Two state folders, one folder of locks for the host: the second waits, and is told for whom."""
    locks = tmp_path / "locks"
    first = Night(tmp_path / "a", host.host_environment(), locks)
    second = Night(tmp_path / "b", host.host_environment(), locks)
    with first, second:
        first.add(campaign_text(cycles=2, more=GPU))
        second.add(campaign_text(more=GPU))
        first.begin()
        first.wait_until_under_way()
        assert str(first.home.root) in str(holder_text(locks / host.uuid()))
        second.begin()
        second.wait_for(lambda: f"state folder {first.home.root}" in second.waits_for(), "word of who holds the GPU")
        assert second.attempts() == []
        assert (locks / host.uuid()).stat().st_mode & 0o777 == 0o666, "another user could not even ask"
        for night in (first, second):
            night.wait_campaign(ceiling_s=90)
        spans = "SELECT min(started_mono_ns), max(ended_mono_ns) FROM attempts"
        assert first.rows(spans)[0][1] < second.rows(spans)[0][0]
        for night in (first, second):
            assert night.end() == 0
        for night in (first, second):
            night.audit()


@pytest.mark.slow
def test_memory_that_an_engine_leaves_behind_keeps_the_gpu_out_until_a_person_resumes(
    tmp_path: Path, host: NvmlStub
) -> None:
    """The model GPU's memory stays taken after the first engine has gone. Nobody measures beside it."""
    more = GPU + "\nisolation: process\ntimeouts: {memory: 1s}\nnotify: {urls_from: LEM_NOTIFY_NOWHERE, on: [gpu_lost]}"
    with Night(tmp_path / "night", host.host_environment()) as night:
        night.add(campaign_text(cycles=3, more=more).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"))
        night.begin()
        night.wait_until_under_way()
        host.gpu().loaded_w = 40.0  # an engine's weights lie on it, from now on
        night.wait_for(lambda: night.campaign() == "Paused", "the pause", 60)
        held = f"GPU memory was not freed after the engine's end ({host.uuid()}: 16643 MB)"
        assert night.attempts() == [("ok", None, None), ("failed", "gpu_lost", held)]
        assert night.statuses() == ["Done", "Failed", "Queued"]
        kept_out = "SELECT uuid, quarantine_reason FROM devices WHERE quarantined_utc IS NOT NULL"
        assert night.rows(kept_out) == [(host.uuid(), held)]
        reason = night.rows("SELECT json_extract(status_data, '$.reason') FROM campaigns")[0][0]
        assert reason == "a GPU was lost: look after it, then resume"
        ((event, body),) = night.rows("SELECT event, body FROM outbox")
        assert event == "gpu_lost"
        assert body.startswith(f"{host.uuid()} is kept out ({held})")
        assert "`lemctl campaign resume night` lets it in again" in body
        log = (night.home.logs / "daemon.jsonl").read_text()
        assert f"{held}: its containers are taken down" in log
        assert f"{held}: the device is kept out" in log
        assert night.rows("SELECT count(*) FROM sessions") == [(1,)], "no engine was started beside it"

        host.gpu().loaded_w = 0.0
        assert night.ask("resume", campaign="night").exit_code == 0
        night.wait_campaign(ceiling_s=60)
        assert night.statuses() == ["Done", "Failed", "Done"]
        assert night.rows(kept_out) == []
        assert night.end() == 0
        night.audit()


@pytest.mark.slow
def test_memory_that_leaked_under_a_daemon_that_was_killed_is_no_floor_of_the_next(
    tmp_path: Path, host: NvmlStub
) -> None:
    more = GPU + "\ntimeouts: {memory: 1s}"
    with Night(tmp_path / "night", host.host_environment()) as night:
        night.add(campaign_text(cycles=2, more=more).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"))
        night.begin()
        night.wait_until_under_way()
        night.kill()
        host.gpu().loaded_w = 40.0  # what its runner held does not come back
        night.begin()
        night.wait_for(lambda: night.campaign() == "Paused", "the pause", 60)
        held = f"GPU memory was not freed after the engine's end ({host.uuid()}: 16643 MB)"
        assert [(outcome, fault) for outcome, fault, _ in night.attempts()] == [
            ("interrupted", None), ("failed", "gpu_lost"),
        ]  # fmt: skip
        assert night.attempts()[-1][2] == held
        assert night.end() == 0
        night.audit()


class Executor:
    """Counts what it is asked to take down."""

    name = "local"

    def __init__(self) -> None:
        self.released: list[str] = []

    def release(self, lane: str) -> None:
        self.released.append(lane)


class Clinging(NoSensors):
    """A device whose memory comes back at so many looks, if at all."""

    def __init__(self, looks: int):
        super().__init__("a test", lambda: 0)
        self.looks = looks

    def memory_obstacle(self, wait: Callable[[float], None], patience_s: float) -> str | None:
        wait(0.0)
        self.looks -= 1
        return "GPU memory was not freed after the engine's end (GPU-x: 900 MB)" if self.looks > 0 else None


@pytest.fixture
def lane_with(tmp_path: Path) -> Iterator[Callable[[int], Any]]:
    store = Store.open(Home(tmp_path / "home"), "write")

    def make(looks: int) -> Lane:
        executor: Any = Executor()
        return Lane("gpu", ("GPU-x",), store, SystemClock(), executor, Clinging(looks), "boot")

    yield make
    store.close()


def test_memory_that_comes_back_with_a_new_container_costs_no_more_than_that(lane_with: Any) -> None:
    lane = lane_with(2)
    lane._prove_free(Cancel(), 30.0)
    assert lane.executor.released == ["gpu"]


def test_memory_that_does_not_come_back_loses_the_gpu(lane_with: Any) -> None:
    lane = lane_with(99)
    with pytest.raises(RunFailed, match="memory was not freed") as lost:
        lane._prove_free(Cancel(), 30.0)
    assert lost.value.kind == "gpu_lost"
    assert lane.executor.released == ["gpu"]


def test_memory_that_others_hold_is_no_lost_gpu(lane_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = lane_with(99)
    monkeypatch.setattr(lane.instruments, "obstacle", lambda: "other processes use the GPU: 77 (python) on GPU-x")
    with pytest.raises(RunFailed, match=r"900 MB\); other processes use the GPU: 77") as fault:
        lane._prove_free(Cancel(), 30.0)
    assert fault.value.kind == "contaminated"
    assert lane.executor.released == ["gpu"]


def test_a_proof_of_memory_ends_when_it_is_cancelled(lane_with: Any) -> None:
    cancel = Cancel()
    cancel.set("cancelled", "enough")
    with pytest.raises(Exception, match="enough"):
        lane_with(99)._prove_free(cancel, 30.0)


def test_a_lane_listens_nowhere_so_that_no_port_or_socket_can_be_taken(night: Night) -> None:
    """Commands are rows, results are files: neither the daemon nor its runner has a socket that listens."""
    night.add(campaign_text(cycles=2).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 100"))
    daemon = night.begin()
    night.wait_until_under_way()
    listening = set()
    for table in ("tcp", "tcp6", "unix", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if table == "unix" and len(fields) > 6 and int(fields[3], 16) & 0x10000:
                listening.add(fields[6])
            elif table != "unix" and (table.startswith("udp") or fields[3] == "0A"):
                listening.add(fields[9])
    held = set()
    for pid in (daemon.pid, night.runner_pid()):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            target = str(fd.readlink()) if fd.is_symlink() else ""
            if target.startswith("socket:["):
                held.add(target[8:-1])
    assert held & listening == set()
    night.end()
    night.audit()
