"""A daemon that waits with a campaign in hand looks several times a second: what it looks at then must cost little, and
what it begins on must be true in that moment."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lemctl.clock import SimulatedClock
from lemctl.daemon.disk import HostDisk
from lemctl.daemon.lanes import Lane
from lemctl.daemon.obstacles import Obstacles
from lemctl.engines.docker import DockerExecutor
from lemctl.engines.runner_copy import RunnerCopy
from lemctl.store.database import Store
from night import Night, campaign_text

LOOKS = 50


class Client:
    """A docker client on the PATH that counts its calls, of an engine that lives or not."""

    def __init__(self, folder: Path):
        self._log, self._dead, self.engine_data = folder / "calls", folder / "dead", folder / "engine-data"
        self.engine_data.mkdir()
        endpoint = {"Host": "unix:///run/docker.sock", "SkipTLSVerify": False}
        context = json.dumps([{"Name": "default", "Endpoints": {"docker": endpoint}, "Metadata": {}}])
        info = json.dumps({"DockerRootDir": str(self.engine_data), "ServerVersion": "29.0"})
        script = folder / "bin" / "docker"
        script.parent.mkdir()
        script.write_text(f"""#!/bin/sh
echo "$*" >> {self._log}
[ -e {self._dead} ] && echo "Cannot connect to the Docker daemon" >&2 && exit 1
case "$*" in *context*) echo '{context}' ;; *info*) echo '{info}' ;; *) echo '{{}}' ;; esac
""")
        script.chmod(0o755)

    def calls(self) -> int:
        """So many since the last count."""
        count = len(self._log.read_text().splitlines()) if self._log.exists() else 0
        self._log.unlink(missing_ok=True)
        return count

    def die(self) -> None:
        self._dead.touch()


class Waiting:
    """The front campaign of a real store, on a docker lane with a stranger on its GPU, and disks of any size."""

    def __init__(self, store: Store, night: Night, client: Client):
        self.clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.stranger: str | None = None
        self.free_b = {client.engine_data: 1e12}
        executor = DockerExecutor(night.settings, RunnerCopy(night.home.runner, "hash"))
        instruments = SimpleNamespace(obstacle=lambda: self.stranger)
        self.lane = cast("Lane", SimpleNamespace(executor=executor, instruments=instruments))
        disk = HostDisk(night.home, self.clock, 1e9, 0, lambda folder: self.free_b.get(folder, 1e12))
        self.memory: str | None = None
        self.obstacles = Obstacles(store, self.clock, disk, lambda: self.memory)
        self.campaign: Any = None

    def look(self) -> str | None:
        return self.obstacles.find(self.campaign, {}, self.lane, lambda campaign, spec: self.lane)[1]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return Client(tmp_path)


def test_waiting_for_a_stranger_for_memory_or_for_disk_asks_no_container_engine_and_beginning_asks_it(
    night: Night, client: Client
) -> None:
    campaign = night.add(campaign_text()).campaign
    with Store.open(night.home, "write") as store:
        waiting = Waiting(store, night, client)
        waiting.campaign = campaign

        waiting.stranger = "other processes use the GPU: 4711"
        assert {waiting.look() for _ in range(LOOKS)} == {waiting.stranger}
        waiting.stranger, waiting.memory = None, "memory of this host: none"
        assert {waiting.look() for _ in range(LOOKS)} == {waiting.memory}
        assert client.calls() == 0

        waiting.memory = None
        waiting.free_b[client.engine_data] = 0.0
        told = {waiting.look() for _ in range(LOOKS)}
        assert len(told) == 1
        assert f"0 MB left at {client.engine_data}" in str(told)
        assert 0 < client.calls() <= 3, "the engine's answer, and once where its data lie"

        waiting.free_b[client.engine_data] = 1e12
        assert waiting.look() is None
        assert client.calls() == 1
        client.die()
        assert "no Docker engine answers" in str(waiting.look()), "an engine that died a moment ago begins no run"
        assert {waiting.look() for _ in range(LOOKS)} != {None}
        assert client.calls() <= 3
