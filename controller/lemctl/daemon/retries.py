"""What becomes of a run after a failed attempt. A function of the attempts so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lemctl.clock import Clock, Deadline
from lemctl.errors import RETRIED, SKIPS_EXPERIMENT, FaultKind
from lemctl.store.status import Failed, Queued, RunStatus

#: Waits before the second, third, ... attempt: trouble of the surroundings often passes by itself.
BACK_OFF_S = (5.0, 30.0, 120.0, 600.0)
#: So many interruptions of one run in a row, and it is the run that brings the daemon down.
MAX_INTERRUPTIONS = 10


class Past(Protocol):
    """An earlier attempt of the same run: its outcome, and its fault if it failed."""

    @property
    def outcome(self) -> str: ...  # noqa: D102
    @property
    def fault(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True)
class Fate:
    """The run's next status; `skip_experiment` when its remaining cycles would fail alike."""

    status: RunStatus
    skip_experiment: bool = False


def after_failure(
    attempt: int,
    fault: FaultKind,
    message: str,
    past: Sequence[Past],
    retry_max: int,
    clock: Clock,
    back_off_scale: float = 1.0,
) -> Fate:
    """Queued for another try, or Failed.

    `past` holds the attempts before this one. Trouble of the surroundings is tried again up to `retry_max` times; want
    of GPU memory and a refused request are confirmed once; everything else is an answer.
    """
    failed = Failed(attempt=attempt, fault=fault, message=message)
    if fault in RETRIED:
        tries = sum(1 for p in past if p.outcome == "failed" and p.fault in RETRIED)
        if tries >= retry_max:
            return Fate(failed)
        wait_s = BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)] * back_off_scale
        return Fate(_queued(wait_s, clock, f"retry after {fault}"))
    if fault in SKIPS_EXPERIMENT:
        if any(p.fault == fault for p in past):
            return Fate(failed, skip_experiment=True)
        return Fate(Queued(why=f"to confirm {fault}"))
    return Fate(failed)


def _queued(wait_s: float, clock: Clock, why: str) -> Queued:
    if not wait_s:
        return Queued(why=why)
    until = Deadline.after(wait_s, clock)
    return Queued(
        not_before_utc=until.at_utc, not_before_boottime_ns=until.boottime_ns, not_before_boot=until.boot, why=why
    )


def after_interruption(attempt: int, past: Sequence[Past]) -> RunStatus:
    """Back to the queue, unless this run was interrupted ten times in a row."""
    in_a_row = 1
    for p in reversed(past):
        if p.outcome != "interrupted":
            break
        in_a_row += 1
    if in_a_row >= MAX_INTERRUPTIONS:
        return Failed(attempt=attempt, fault="infra", message=f"interrupted {in_a_row} times in a row")
    return Queued(why="interrupted")
