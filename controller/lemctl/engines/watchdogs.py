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
    memory_s: float = 30.0
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


def signs(event: Event) -> dict[str, dict[str, Any]]:
    """What an `alive` tells of each replica, and of each rank but the first, by the name that a person reads; empty
    where there are none.

    Raises `RunFailed(bad_result)` where it is not as the contract says.
    """
    replicas, ranks = _told_of(event, "replicas"), _told_of(event, "ranks")
    return {
        **{f"replica {index} of {len(replicas)}": one for index, one in enumerate(replicas)},
        **{f"rank {index} of {len(ranks) + 1}": one for index, one in enumerate(ranks, start=1)},
    }


def _told_of(event: Event, whom: str) -> list[dict[str, Any]]:
    told = event.data.get(whom, [])
    if not isinstance(told, list) or not all(
        isinstance(one, dict) and type(one.get("silent_s")) in (int, float) for one in told
    ):
        raise RunFailed("bad_result", f"event {event.seq}: what it tells of its {whom} is not sound")
    return told


class Counters:
    """Two counts of one worker: in warm-up and windows they must move."""

    def __init__(self, limit_s: float, prefix: str = ""):
        self._limit_s = limit_s
        self._prefix = prefix
        self._last: tuple[Any, Any] = (None, None)
        self.moved_at = time.monotonic()

    def see(self, alive: dict[str, Any]) -> None:
        """Raises `RunFailed(timed_out)` when they have not moved for too long."""
        counters = (alive.get("batches"), alive.get("tokens_out"))
        is_counting = alive.get("phase") in ("warmup", "window")
        if not is_counting or counters != self._last:
            self.moved_at = time.monotonic()
            self._last = counters if is_counting else self._last
        elif time.monotonic() - self.moved_at > self._limit_s:
            text = f"no progress for {self._limit_s:.0f} s (batches done: {counters[0]})"
            raise RunFailed("timed_out", self._prefix + text)


class Progress:
    """The counters of a runner must move, and those of each replica below it."""

    def __init__(self, limit_s: float):
        self._limit_s = limit_s
        self._whole = Counters(limit_s)
        self._replicas: dict[str, Counters] = {}

    def see(self, event: Event) -> None:
        """Raises `RunFailed(timed_out)` when some have not moved for too long."""
        if event.type != "alive":
            for counters in (self._whole, *self._replicas.values()):
                counters.moved_at = time.monotonic()
            return
        for name, sign in signs(event).items():
            self._replicas.setdefault(name, Counters(self._limit_s, f"{name}: ")).see(sign)
        self._whole.see(event.data)


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
