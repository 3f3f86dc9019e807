"""The engine of the small hours: runners that take simulated time and do what the host's script says, and what must
hold whenever one of them begins a run.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lem_runner.protocol import RunSpec
from lem_runner.results import AttemptResult, RequestRecord, WindowRecord
from lemctl.campaign.hours import read_hours
from lemctl.cancel import Cancel
from lemctl.engines.backends import Backend
from lemctl.engines.events import Finished
from lemctl.engines.executor import Opened, Place
from lemctl.engines.session import OnEvent
from lemctl.engines.watchdogs import Ladder, Limits
from lemctl.errors import RunFailed

if TYPE_CHECKING:
    from small_hours import Host


class FaultyExecutor:
    """Runners that do what the host's script says."""

    name = "local"

    def __init__(self, host: Host):
        self.host = host

    def identity(self, backend: Backend) -> dict[str, Any]:
        return {"executor": self.name, "backend": backend.name}

    def obstacle(self) -> str | None:
        return "the Docker engine does not answer" if self.host.engine_is_away else None

    def disks(self) -> list[Path]:
        return []

    def path_of(self, host_path: Path) -> str:
        return str(host_path)

    def open(self, place: Place, limits: Limits) -> Opened:
        if self.host.engine_is_away:
            raise RunFailed("infra", "the Docker engine does not answer")
        return Opened(FaultySession(self.host), None)

    def release(self, lane: str) -> None:
        pass

    def sweep(self) -> int:
        return 0


class FaultySession:
    """Loads in 10 s, runs for `run_s`, and lets happen what the script holds."""

    def __init__(self, host: Host):
        self.host = host
        self.spec: RunSpec | None = None
        self.ladder = Ladder()

    def greet(self, cancel: Cancel) -> dict[str, Any]:
        return {"contract": 1, "packages": {}}

    def load(self, attempt: str, spec: RunSpec, cancel: Cancel, on_event: OnEvent) -> dict[str, Any]:
        try:
            check_begin(self.host, attempt)
        except AssertionError as violation:
            self.host.violations.append(str(violation))
        reused, self.spec = self.spec is not None, spec
        self.host.clock.advance(0.0 if reused else 10.0)
        self._happen()
        cancel.raise_if_set()
        return {"reused": reused, "effective": {}}

    def idle(self, cancel: Cancel, seconds: float) -> None:
        self.host.clock.advance(seconds)

    def go(self, attempt: str, cancel: Cancel, on_event: OnEvent) -> Finished:
        assert self.spec is not None
        begin_ns = self.host.clock.monotonic_ns()
        self._happen()
        self.host.clock.advance(self.host.run_s)
        cancel.raise_if_set()
        if self.host.faults:
            kind = self.host.faults.pop(0)
            raise RunFailed(kind, f"made to fail with {kind}")
        end_ns, tokens, size = self.host.clock.monotonic_ns(), 4, 2
        window = WindowRecord(0, begin_ns, end_ns, 1, size, 8 * size, tokens * size)
        records = [
            RequestRecord(n, 0, 0, f"{n:064d}", 8, tokens, begin_ns, begin_ns + 1000, end_ns, None, "length")
            for n in range(size)
        ]
        result = AttemptResult(
            contract=1, attempt=attempt, engine_key="", windows=[window], requests=size, requests_sha256="",
            effective={}, memory={}, warmup={"ended": "none"},
        )  # fmt: skip
        return Finished(result, records)

    def is_alive(self) -> bool:
        return True

    def end(self, reason: str) -> str:
        return "quit"

    def log_offsets(self) -> dict[str, int]:
        return {"stdout": 0, "stderr": 0}

    def _happen(self) -> None:
        if self.host.script:
            self.host.script.pop(0)(self.host)
            self.host.daemon.tick()  # the main thread, beside the worker


class Nowhere:
    model_path = None
    tokenizer = None
    prompts = Path("/nowhere.jsonl")
    prompts_sha256 = ""
    sources = MappingProxyType[str, Any]({})


def check_begin(host: Host, attempt: str) -> None:
    """A run begins only in an active campaign, within its hours, and where its own results say that it will end."""
    ((started, run, experiment, document, status),) = host.rows(
        "SELECT a.started_utc, r.id, r.experiment, c.document, c.status FROM attempts a JOIN runs r ON r.id = a.run_id"
        " JOIN campaigns c ON c.id = r.campaign_id WHERE a.uuid = ?",
        attempt,
    )
    assert status == "Active", f"run {run} began in a campaign that is {status}"
    assert host.rows("SELECT count(*) FROM attempts WHERE outcome IS NULL") == [(1,)]
    hours = read_hours(json.loads(document))
    if hours is None:
        return
    began = datetime.fromisoformat(started)
    window = hours.window_at(began)
    assert window.opens <= began, f"run {run} began at {began}, before {window.opens}"
    took = host.rows(
        "SELECT (ended_mono_ns - started_mono_ns) / 1e9 - json_extract(a.facts, '$.phases.loading_s')"
        " FROM attempts a JOIN runs r ON r.id = a.run_id WHERE a.outcome = 'ok' AND r.experiment = ?",
        experiment,
    )
    if 0 < len(took) < 10:  # the longest one is what it may take; an engine that is open need not be loaded again
        assert (window.closes - began).total_seconds() >= max(took)[0] - 1.0, f"run {run} passes the close"
