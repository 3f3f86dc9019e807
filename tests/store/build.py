"""Builds databases for tests as the daemon would: through the store's own moves, on a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.clock import SimulatedClock
from lemctl.errors import FaultKind
from lemctl.paths import Home
from lemctl.store.campaigns import Added, add_campaign, find, front
from lemctl.store.database import Store
from lemctl.store.moves import (
    Attempt,
    FindingRow,
    MetricRow,
    WindowRow,
    begin_attempt,
    end_failed,
    end_ok,
    end_without_fault,
    note_facts,
    to_cooling,
    to_running,
)
from lemctl.store.sessions import NewSession, add_environment, attach
from lemctl.store.sessions import begin as begin_session
from lemctl.store.status import Failed, Queued
from lemctl.store.works import WorkRow, add_work

BEGIN = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)
BOOT = "00000000-0000-0000-0000-00000000b007"
NO_GPU = "no GPU: no meter ran"
#: Figures of a run as the daemon stores them; latencies in s.
FIGURES: Mapping[str, tuple[float, str]] = {
    "tokens_out": (256.0, "token"),
    "output_tokens_per_s": (80.0, "token/s"),
    "ttft_p50": (0.012, "s"),
    "itl_p50": (0.0105, "s"),
    "tpot_p50": (0.0105, "s"),
    "e2e_p50": (0.345, "s"),
    "e2e_p90": (0.352, "s"),
}


def plan_of(name: str = "demo", batch_sizes: tuple[int, ...] = (1, 8), cycles: int = 2, extra: str = "") -> Plan:
    """A small plan on the replay backend."""
    text = f"""
name: {name}
preset: quick-test
model: "path:tiny"
backend: replay
workload: {{dataset: random, random: {{input_len: 16}}, prompts: 8, max_new_tokens: 32}}
sweep: {{workload.load.batch_size: {list(batch_sizes)}}}
cycles: {cycles}
order: as_written
{extra}
"""
    return plan(loads(text, f"{name}.yaml"))


class Night:
    """A database in the making. Every method is one thing that the daemon does; times pass as told."""

    def __init__(self, home: Home):
        self.store = Store.open(home, "write")
        self.clock = SimulatedClock(BEGIN, start_mono_ns=1_000_000_000_000)

    def add(self, what: Plan, **options: object) -> Added:
        """Put a campaign in the line."""
        with self.store.transaction() as tx:
            return add_campaign(tx, what, f"name: {what.name}\n", "local", self.clock, "host-1", **options)  # type: ignore[arg-type]

    def activate(self) -> None:
        """The first campaign's turn comes."""
        with self.store.transaction() as tx:
            front(tx, self.clock)

    def runs(self, label: str = "demo") -> list[int]:
        """Ids of a campaign's runs in their order."""
        campaign = find(self.store.connection, label)
        rows = self.store.connection.execute(
            "SELECT id FROM runs WHERE campaign_id = ? ORDER BY position", (campaign.id,)
        )
        return [row[0] for row in rows]

    def begin(self, run: int) -> Attempt:
        """Up to Running."""
        with self.store.transaction() as tx:
            attempt = begin_attempt(tx, run, "cpu", self.clock, BOOT, "host-1")
            self.clock.advance(2.0)
            to_cooling(tx, attempt, self.clock)
            to_running(tx, attempt, self.clock)
            note_facts(tx, attempt.id, {"isolation": "engine", "engine_reused": attempt.id > 1, "phases": PHASES})
        return attempt

    def finish(
        self,
        run: int,
        verdict: Literal["VALID", "SUSPECT"] = "VALID",
        took_s: float = 10.0,
        figures: Mapping[str, float] | None = None,
        work: WorkRow | None = None,
        gpus: tuple[str, ...] = (),
        commit: str | None = None,
    ) -> None:
        """A run ends with a result; `figures` replaces single values of `FIGURES`."""
        attempt = self.begin(run)
        self._surround(attempt, gpus, commit)
        self.clock.advance(took_s - 2.0)
        findings = (
            [FindingRow("warmup_capped", "SUSPECT", "the warm-up reached its limit")] if verdict == "SUSPECT" else []
        )
        with self.store.transaction() as tx:
            if work is not None:
                add_work(tx, attempt.id, work)
            end_ok(tx, attempt, self.clock, verdict, [self._window()], metric_rows(figures), findings)

    def _surround(self, attempt: Attempt, gpus: tuple[str, ...], commit: str | None) -> None:
        """The session and the project of an attempt, where they are to matter."""
        with self.store.transaction() as tx:
            if gpus:
                engine = json.dumps({"gpus": list(gpus)})
                new = NewSession(attempt.uuid, "host-1", "gpu", "replay", "local", "engine", "key", engine, BOOT)
                attach(tx, attempt.id, begin_session(tx, new, self.clock))
            if commit is not None:
                document = json.dumps({"commit": commit})
                add_environment(tx, attempt.id, "project", f"project-{commit}", document, self.clock)

    def fail(self, run: int, fault: FaultKind, message: str, detail: str = "", retry: bool = False) -> None:
        """A run's attempt fails; with `retry` the run is queued again."""
        attempt = self.begin(run)
        self.clock.advance(3.0)
        with self.store.transaction() as tx:
            then = Queued(why=fault) if retry else Failed(attempt=attempt.id, fault=fault, message=message)
            windows, metrics = ([self._window()], metric_rows(None)) if fault == "invalid" else ([], [])
            end_failed(tx, attempt, self.clock, fault, message, detail, then, windows, metrics)

    def interrupt(self, run: int) -> None:
        """The daemon was stopped under a run."""
        attempt = self.begin(run)
        with self.store.transaction() as tx:
            end_without_fault(
                tx, attempt.id, run, self.clock, "interrupted", "the daemon was stopped", Queued(why="stop")
            )

    def close(self) -> None:
        """Close the database."""
        self.store.close()

    def _window(self) -> WindowRow:
        now_ns = self.clock.monotonic_ns()
        return WindowRow(0, now_ns - 3_200_000_000, now_ns, 1, 8, 128, 256)


PHASES = {"loading_s": 1.5, "cooling_s": 0.0, "baseline_s": 0.0, "warmup_s": 0.5, "measuring_s": 3.2, "overhead_s": 0.1}


def metric_rows(figures: Mapping[str, float] | None) -> list[MetricRow]:
    """Every figure of `FIGURES`, changed where given, and energy absent with its reason."""
    changed = figures or {}
    rows = [MetricRow(name, changed.get(name, value), unit) for name, (value, unit) in FIGURES.items()]
    energy = changed.get("energy_per_output_token")
    reason = None if energy is not None else NO_GPU
    return [*rows, MetricRow("energy_per_output_token", energy, "J/output token", None, reason)]
