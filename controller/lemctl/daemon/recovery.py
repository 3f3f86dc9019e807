"""After a crash: what a dead daemon left behind is ended, and its runs go back to the queue."""

from __future__ import annotations

from dataclasses import dataclass

from lemctl.clock import Clock
from lemctl.daemon.retries import after_interruption
from lemctl.engines.executor import Executor
from lemctl.errors import RunFailed
from lemctl.store import commands, live, moves, read_runs, sessions
from lemctl.store.database import Store

REASON = "the daemon ended while this was under way"


@dataclass(frozen=True)
class Recovered:
    """What was found."""

    interrupted: int
    sessions: int
    leftovers: int


def recover(store: Store, executors: list[Executor], clock: Clock) -> Recovered:
    """End leftover runners and containers first, so that nothing writes any more; then put the state right."""
    leftovers = sum(_swept(executor) for executor in executors)
    interrupted, ended = interrupt_all(store, clock, REASON)
    with store.transaction() as tx:
        commands.reject_leftovers(tx, clock)
        live.clear(tx)
    return Recovered(interrupted, ended, leftovers)


def interrupt_all(store: Store, clock: Clock, reason: str) -> tuple[int, int]:
    """End every attempt and session that has no end, in one transaction; how many of each. Nothing may still run."""
    with store.transaction() as tx:
        found = read_runs.in_flight(tx)
        for one in found:
            past = read_runs.past_attempts(tx, one.run_id, one.attempt_id)
            status = after_interruption(one.attempt_id, past)
            moves.end_without_fault(tx, one.attempt_id, one.run_id, clock, "interrupted", reason, status)
        return len(found), sessions.end_all(tx, reason, clock)


def _swept(executor: Executor) -> int:
    try:
        return executor.sweep()
    except RunFailed:
        return 0  # no container engine answers: then none of our containers can serve, and `up` will say so
