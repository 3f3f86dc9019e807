"""What becomes of a run after a failed attempt. Pure: a function of the attempts so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from lemctl.clock import utc_text
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
    now: datetime,
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
        at_utc = utc_text(now + timedelta(seconds=wait_s)) if wait_s else None
        return Fate(Queued(not_before_utc=at_utc, why=f"retry after {fault}"))
    if fault in SKIPS_EXPERIMENT:
        if any(p.fault == fault for p in past):
            return Fate(failed, skip_experiment=True)
        return Fate(Queued(why=f"to confirm {fault}"))
    return Fate(failed)


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


def breaker_trips(faults: Sequence[str | None], consecutive: int) -> str | None:
    """The fault that the newest `consecutive` ended runs share; None when any of them was done or failed otherwise.

    `faults` is newest first, None for a run that is done.
    """
    newest = faults[:consecutive]
    if len(newest) < consecutive or newest[0] is None or any(f != newest[0] for f in newest):
        return None
    return newest[0]
