"""The watchdogs of one attempt: limits of its phases, of silence and of progress, and what was done to end a runner."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lem_runner.protocol import Event
from lemctl.errors import RunFailed


@dataclass(frozen=True)
class Limits:
    """In seconds. The gate and the baselines are bounded by their own lengths, and by `total_s`."""

    hello_s: float = 60.0
    start_s: float = 1800.0
    silence_s: float = 60.0
    progress_s: float = 900.0
    warmup_s: float = 1800.0
    window_s: float = 7200.0
    writing_s: float = 600.0
    run_s: float = 7200.0
    total_s: float = 21600.0


class Phases:
    """The phases within `go`, as the runner's events move them on."""

    def __init__(self, limits: Limits):
        self._limits_s = {"warm-up": limits.warmup_s, "window": limits.window_s, "writing": limits.writing_s}
        self._name, self._since = "warm-up", time.monotonic()

    def see(self, event: Event) -> None:
        """Enter the phase that an event begins."""
        name = {"warm": "window", "window_begin": "window", "window_end": "writing"}.get(event.type)
        if name is not None:
            self._name, self._since = name, time.monotonic()

    def lateness(self, now: float) -> str | None:
        """In words, once the phase has lasted too long; `now` is monotonic seconds."""
        limit_s = self._limits_s[self._name]
        return f"{self._name} not over within {limit_s:.0f} s" if now - self._since > limit_s else None


class Progress:
    """The counters of warm-up and windows must move."""

    def __init__(self, limit_s: float):
        self.limit_s = limit_s
        self._counters: tuple[Any, Any] = (None, None)
        self._moved_at = time.monotonic()

    def see(self, event: Event) -> None:
        """Raises `RunFailed(timed_out)` when they have not moved for too long."""
        counters = (event.data.get("batches"), event.data.get("tokens_out"))
        counting = event.type == "alive" and event.data.get("phase") in ("warmup", "window")
        if event.type != "alive" or not counting or counters != self._counters:
            self._moved_at = time.monotonic()
            self._counters = counters if counting else self._counters
        elif time.monotonic() - self._moved_at > self.limit_s:
            raise RunFailed("timed_out", f"no progress for {self.limit_s:.0f} s (batches done: {counters[0]})")


class Ladder:
    """The steps taken to end a runner, each with its limit, how long it took and whether it sufficed."""

    def __init__(self) -> None:
        self._steps: list[str] = []

    def climb(self, name: str, limit_s: float | None, act: Callable[[], bool]) -> bool:
        """Take a step; whether it sufficed. `limit_s` None: what the step calls has limits of its own."""
        began_at = time.monotonic()
        sufficed = act()
        within = "" if limit_s is None else f" of {limit_s:g}"
        self._steps.append(f"{name} ({time.monotonic() - began_at:.1f}{within} s{'' if sufficed else ', in vain'})")
        return sufficed

    def text(self) -> str:
        """`stdin closed (10.0 of 10 s, in vain), killed (0.1 of 5 s)`; empty before the first."""
        return ", ".join(self._steps)
