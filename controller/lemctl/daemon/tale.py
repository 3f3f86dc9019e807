"""What is known of an attempt while it goes on: told to `status` as it happens, and kept as facts at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lem_runner.protocol import Event
from lemctl.clock import utc_text
from lemctl.daemon.judging import Judged
from lemctl.daemon.lanes import Lane, OpenSession
from lemctl.store import live
from lemctl.store.moves import Attempt
from lemctl.store.queue import QueuedRun

#: Which phases count towards which share of the time; the rest is overhead.
_SHARES = {
    "starting": "loading_s",
    "loading": "loading_s",
    "cooling": "cooling_s",
    "baseline": "baseline_s",
    "warmup": "warmup_s",
    "window": "measuring_s",
}


class Tale:
    """One attempt's story. Phases are timed by the controller's clock; the runner's events move it on within `go`."""

    def __init__(self, lane: Lane, run: QueuedRun, attempt: Attempt):
        self.judged: Judged | None = None
        self._lane = lane
        self._opened: OpenSession | None = None
        self._log_from: dict[str, int] = {}
        self._notes: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._phase = "starting"
        self._since_ns = lane.clock.monotonic_ns()
        self._since_utc = utc_text(lane.clock.utc())
        #: When each phase began: what a trace of the power is marked with.
        self._timeline: list[tuple[str, int]] = [("starting", self._since_ns)]
        self._live: dict[str, Any] = {
            "campaign": run.campaign.label,
            "run": run.id,
            "experiment": run.experiment,
            "cycle": run.cycle,
            "attempt": attempt.id,
            "gpus": list(lane.gpus),
            "waits_for": None,
            "cooling_to_c": {},
            "batches": 0,
            "tokens_out": 0,
        }

    def phase(self, name: str) -> None:
        """The attempt enters a phase."""
        self._close_phase()
        self._phase = name
        self._since_utc = utc_text(self._lane.clock.utc())
        if self._timeline[-1][0] != name:
            self._timeline.append((name, self._since_ns))
        self._live |= {"waits_for": None, "cooling_to_c": {}}
        self._tell()

    def waits_for(self, text: str, cooling_to_c: Mapping[str, float] | None = None) -> None:
        """What the current phase waits for, in words; GPU -> the temperature down to which it cools."""
        self._live |= {"waits_for": text, "cooling_to_c": dict(cooling_to_c or {})}
        self._tell()

    def engine(self, opened: OpenSession) -> None:
        """The session that serves the attempt."""
        self._opened = opened
        self._log_from = opened.session.log_offsets()
        self._live["session"] = opened.uuid
        self._live["engine_reused"] = opened.is_loaded

    def on_event(self, event: Event) -> None:
        """The runner's events: counters, and the phases within `go`."""
        if event.type == "window_begin":
            self.phase("window")
        elif event.type == "window_end":
            self.phase("writing")
        elif event.type == "alive":
            self._live["batches"] = event.data.get("batches")
            self._live["tokens_out"] = event.data.get("tokens_out")
            self._tell()

    def note(self, facts: dict[str, Any]) -> None:
        """Facts to keep with the attempt."""
        self._notes.update(facts)

    def facts(self) -> dict[str, Any]:
        """Everything to keep: how long each phase took and when it began, where the attempt's part of the logs lies,
        the notes."""
        self._close_phase()
        facts: dict[str, Any] = {
            "phases": {k: round(v, 6) for k, v in self._seconds.items()},
            "timeline": self._timeline,
            **self._notes,
        }
        if self._opened is not None:
            until = self._opened.session.log_offsets()
            facts["log"] = {name: [self._log_from.get(name, 0), until[name]] for name in until}
            facts["session"] = self._opened.uuid
            facts["session_dir"] = str(self._opened.folder)
        return facts

    def end(self) -> None:
        """The lane is free again."""
        with self._lane.store.transaction() as tx:
            live.drop(tx, f"lane:{self._lane.name}")

    def _close_phase(self) -> None:
        now_ns = self._lane.clock.monotonic_ns()
        share = _SHARES.get(self._phase, "overhead_s")
        self._seconds[share] = self._seconds.get(share, 0.0) + (now_ns - self._since_ns) / 1e9
        self._since_ns = now_ns

    def _tell(self) -> None:
        since = {"since_utc": self._since_utc, "since_mono_ns": self._since_ns}
        document = {**self._live, "phase": self._phase, **since}
        with self._lane.store.transaction() as tx:
            live.put(tx, f"lane:{self._lane.name}", document, self._lane.clock)
