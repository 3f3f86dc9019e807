"""A lane: the set of GPUs that one run uses alone, its locks on them, and the one session that may be open on it."""

from __future__ import annotations

import json
import logging
import os
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lemctl.campaign.load import is_one_by_one
from lemctl.cancel import Cancel
from lemctl.clock import Clock
from lemctl.daemon.instruments import BaselineRecord, Instruments
from lemctl.daemon.locks import FileLock, take_lane_locks
from lemctl.engines.backends import BACKENDS, Backend
from lemctl.engines.executor import EngineSession, Executor, Place, engine_key
from lemctl.engines.watchdogs import Limits
from lemctl.errors import RunFailed
from lemctl.measure.host import HostMeters
from lemctl.store import sessions
from lemctl.store.database import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineNeed:
    """What a run asks of its lane. Equal `key` (and block, where blocks reload) may share a session."""

    backend: Backend
    key: str
    parts: dict[str, Any]
    isolation: str
    block: int | None
    limits: Limits


@dataclass
class OpenSession:
    """A greeted session and its row."""

    row: int
    uuid: str
    folder: Path
    session: EngineSession
    need: EngineNeed
    hello: dict[str, Any]
    container_id: str | None
    is_loaded: bool = False


class Lane:
    """Owned by one worker thread at a time."""

    def __init__(
        self,
        name: str,
        gpus: tuple[str, ...],
        store: Store,
        clock: Clock,
        executor: Executor,
        instruments: Instruments,
        boot_id: str,
        held: tuple[str, ...] = (),
    ):
        """`held` are GPUs that the lane keeps others off and does not use itself."""
        self.name = name
        self.gpus = gpus
        self.held = held
        self.store = store
        self.clock = clock
        self.executor = executor
        self.instruments = instruments
        #: CPU and memory of the host; none in a simulation.
        self.host_meters: HostMeters | None = None
        self.boot_id = boot_id
        self.open: OpenSession | None = None
        self.closed = False
        #: B0 by campaign: the device without any context.
        self.unloaded: dict[int, BaselineRecord] = {}
        #: B1 by place (image or interpreter): a device context without an engine.
        self.contexts: dict[str, BaselineRecord] = {}
        self._locks: list[FileLock] = []

    def lock(self, folder: Path) -> None:
        """Own the lane's devices on this host; raises `Locked` when another daemon does."""
        if not self._locks:
            names = (*self.gpus, *self.held) or ("cpu",)
            self._locks = take_lane_locks(folder, names, f"pid {os.getpid()}, state folder {self.store.home.root}")

    def engine(self, need: EngineNeed, cancel: Cancel) -> OpenSession:
        """The open session if it may serve, else a new one, greeted. Raises `RunFailed`."""
        if self.open is not None:
            if self._serves(self.open, need):
                return self.open
            self.end_session("ok", "another engine is due" if self.open.session.is_alive() else "it had died")
        self._prove_free(cancel, need.limits.memory_s)
        return self._open_session(need, cancel)

    def has_open(self, spec: dict[str, Any], engine: dict[str, Any]) -> bool:
        """Whether an engine as this experiment needs is loaded and stays; `engine` are its resolved parameters."""
        if self.open is None or not self.open.is_loaded or self.open.need.isolation != "engine":
            return False
        return all(self.open.need.parts.get(name) == value for name, value in _engine_asked(spec, engine).items())

    def _prove_free(self, cancel: Cancel, patience_s: float) -> None:
        """The device's memory is back at its floor before another engine starts: else the container goes, and if that
        does not help either, the device is kept out. Raises `RunFailed`: gpu_lost, or contaminated where others are
        on it."""

        def wait(seconds: float) -> None:
            self.clock.wait(cancel.event, seconds)
            cancel.raise_if_set()

        if (held := self.instruments.memory_obstacle(wait, patience_s)) is None:
            return
        _log.warning("lane %s: %s: its containers are taken down", self.name, held)
        self._release()
        if (obstacle := self.instruments.memory_obstacle(wait, patience_s)) is not None:
            if (others := self.instruments.obstacle()) is not None:
                raise RunFailed("contaminated", f"{obstacle}; {others}")
            _log.error("lane %s: %s: the device is kept out", self.name, obstacle)
            raise RunFailed("gpu_lost", obstacle)

    def end_session(self, manner: str, reason: str) -> None:
        """End the open session, if any; `manner` "ok" asks it to leave, anything else ends it by force."""
        if self.open is None:
            return
        opened, self.open = self.open, None
        rung = opened.session.end(manner)
        steps = opened.session.ladder.text()
        how = f"{reason}; {steps}" if steps else reason
        if rung != "quit":
            _log.warning("lane %s: session %s was ended by force: %s (%s)", self.name, opened.uuid, how, rung)

        def write() -> None:
            with self.store.transaction() as tx:
                sessions.end(tx, opened.row, f"{how} ({rung})", self.clock)

        self.store.with_room(write)

    def close(self, reason: str) -> None:
        """End the session, take down containers, stop meters, give the devices back. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        with ExitStack() as always:
            always.callback(self._unlock)
            always.callback(self.instruments.close)
            if self.host_meters is not None:
                always.callback(self.host_meters.stop)
            always.callback(self._release)
            self.end_session("ok", reason)

    def _unlock(self) -> None:
        for lock in self._locks:
            lock.release()
        self._locks = []

    def _release(self) -> None:
        with suppress(RunFailed):  # no container engine answers: the next start of a daemon sweeps
            self.executor.release(self.name)

    def _serves(self, opened: OpenSession, need: EngineNeed) -> bool:
        same = opened.need.key == need.key and opened.need.block == need.block and opened.session.is_alive()
        return same and need.isolation == "engine" and opened.need.isolation == "engine"

    def _open_session(self, need: EngineNeed, cancel: Cancel) -> OpenSession:
        name = uuid.uuid4().hex
        folder = self.store.home.sessions / name
        folder.mkdir(mode=0o700)
        with self.store.transaction() as tx:
            row = sessions.begin(
                tx,
                sessions.NewSession(
                    name, self.store.host_id(), self.name, need.backend.name, self.executor.name, need.isolation,
                    need.key, json.dumps(need.parts), self.boot_id,
                ),
                self.clock,
            )  # fmt: skip
        place = Place(need.backend, folder, self.name, self.gpus, need.isolation == "container")
        try:
            started = self.executor.open(place, need.limits)
        except BaseException as error:
            with self.store.transaction() as tx:
                sessions.end(tx, row, f"not opened: {error}", self.clock)
            raise
        self.open = OpenSession(row, name, folder, started.session, need, {}, started.container_id)
        self.open.hello = started.session.greet(cancel)
        with self.store.transaction() as tx:
            sessions.greeted(tx, row, self.open.hello, started.container_id, need.parts.get("image_id"))
        return self.open


def engine_parts(
    spec: dict[str, Any], engine: dict[str, Any], place: dict[str, Any], runner_hash: str, gpus: tuple[str, ...]
) -> tuple[str, dict[str, Any]]:
    """(key, what it is made of): backend, model, resolved engine parameters, where it runs, the runner, the GPUs."""
    parts = {**_engine_asked(spec, engine), "runner": runner_hash, "gpus": list(gpus), **place}
    return engine_key(parts), parts


def _engine_asked(spec: dict[str, Any], engine: dict[str, Any]) -> dict[str, Any]:
    """What an experiment asks of an engine, wherever it runs; `engine` are its resolved parameters."""
    asked = {"backend": spec["backend"], "model": spec["model"], "engine": engine}
    if BACKENDS[spec["backend"]].has_two_kinds:
        asked["serves"] = "requests" if is_one_by_one(spec["workload"]["load"]) else "batches"
    return asked
