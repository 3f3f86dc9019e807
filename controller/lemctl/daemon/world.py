"""This host, put together for the daemon: its executors, its lanes with their instruments, where models lie."""

from __future__ import annotations

import hashlib
from typing import Any

from lem_runner.protocol import canonical_json
from lemctl.clock import Clock
from lemctl.daemon.experiment import World
from lemctl.daemon.instruments import Instruments, NoSensors
from lemctl.daemon.lanes import Lane, OpenSession
from lemctl.engines.executor import Executor, LocalExecutor
from lemctl.engines.prepared import locate, model_config
from lemctl.engines.runner_copy import copy_runner
from lemctl.paths import runner_source
from lemctl.settings import Settings
from lemctl.store import sessions
from lemctl.store.campaigns import Campaign
from lemctl.store.database import Store


class Host:
    """Made once, at the daemon's start: the runner is copied then, and stays as it was."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, boot_id: str):
        self._settings = settings
        self._store = store
        self._clock = clock
        self._boot_id = boot_id
        self._runner = copy_runner(runner_source(), settings.paths.runner)
        self._executors: dict[str, Executor] = {}
        self._lane: Lane | None = None

    def world(self) -> World:
        """What experiments need."""
        settings = self._settings
        return World(
            self._runner.hash,
            lambda spec: locate(spec, settings),
            lambda spec: model_config(spec["model"], settings),
            self._environments,
            settings.retry_back_off_scale,
        )

    def executors_to_sweep(self) -> list[Executor]:
        """The executors that any unfinished session used; local ones always, that look costs little."""
        in_use = sessions.executors_in_use(self._store.connection) - {"simulate"}
        return [self._executor(name) for name in sorted({"local"} | in_use)]

    def lane_for(self, campaign: Campaign) -> Lane:
        """The lane with the campaign's executor and devices, locked. One lane at a time: one measured run per host."""
        lane = self._lane
        gpus = self._gpus(campaign)
        name = "-".join(["gpu", *(uuid[-8:] for uuid in gpus)]) if gpus else "cpu"
        executor = self._executor(campaign.executor)
        if lane is None or lane.name != name or lane.executor is not executor or lane.closed:
            lane = Lane(name, gpus, self._store, self._clock, executor, self._instruments(gpus), self._boot_id)
            lane.lock(self._settings.lock_dir)
            self._lane = lane
        return lane

    def _gpus(self, campaign: Campaign) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def _instruments(self, gpus: tuple[str, ...]) -> Instruments:  # noqa: ARG002
        return NoSensors("this lane has no GPU", self._clock.monotonic_ns)

    def _executor(self, name: str) -> Executor:
        if name not in self._executors:
            if name == "docker":
                from lemctl.engines.docker import DockerExecutor

                self._executors[name] = DockerExecutor(self._settings, self._runner)
            else:
                self._executors[name] = LocalExecutor(self._settings.paths, self._runner)
        return self._executors[name]

    def _environments(self, opened: OpenSession) -> list[tuple[str, str, str]]:
        container: dict[str, Any] = {
            "backend": opened.need.backend.name,
            "place": {k: v for k, v in opened.need.parts.items() if k not in ("engine", "model", "backend", "gpus")},
            "runner": {k: v for k, v in opened.hello.items() if k not in ("pid", "boot_id")},
        }
        return [_environment("container", container)]


def _environment(kind: str, document: dict[str, Any]) -> tuple[str, str, str]:
    text = canonical_json(document)
    return kind, hashlib.sha256(text.encode()).hexdigest()[:16], text
