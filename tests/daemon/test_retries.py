"""What becomes of a run after a failed or interrupted attempt, and when a campaign should pause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from lemctl.clock import SimulatedClock, utc_text
from lemctl.daemon.breaker import breaker_trips
from lemctl.daemon.retries import BACK_OFF_S, MAX_INTERRUPTIONS, after_failure, after_interruption
from lemctl.errors import FAULT_KINDS, RETRIED, SKIPS_EXPERIMENT, FaultKind

NOW = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)
CLOCK = SimulatedClock(NOW)


@dataclass(frozen=True)
class Past:
    outcome: str
    fault: str | None = None


def failed(*faults: str) -> list[Past]:
    return [Past("failed", fault) for fault in faults]


INTERRUPTED = Past("interrupted")


@pytest.mark.parametrize("fault", sorted(RETRIED))
def test_trouble_of_the_surroundings_is_tried_again_up_to_the_limit(fault: FaultKind) -> None:
    for tries in range(2):
        fate = after_failure(1, fault, "x", failed(*[fault] * tries), 2, CLOCK)
        assert fate.status.kind == "Queued"
        assert fate.status.not_before_utc == utc_text(NOW + timedelta(seconds=BACK_OFF_S[tries]))
    assert after_failure(1, fault, "x", failed(fault, fault), 2, CLOCK).status.kind == "Failed"


def test_different_troubles_share_one_limit() -> None:
    assert after_failure(1, "silent", "x", failed("infra", "invalid"), 2, CLOCK).status.kind == "Failed"


def test_interruptions_use_up_no_retry() -> None:
    past = [INTERRUPTED, *failed("infra"), INTERRUPTED, INTERRUPTED]
    assert after_failure(1, "infra", "x", past, 2, CLOCK).status.kind == "Queued"


def test_without_retries_the_first_failure_stands() -> None:
    assert after_failure(1, "infra", "x", [], 0, CLOCK).status.kind == "Failed"


def test_the_back_off_grows_and_then_stays() -> None:
    waits = []
    for tries in range(6):
        status = after_failure(1, "infra", "x", failed(*["infra"] * tries), 9, CLOCK).status
        assert status.kind == "Queued"
        assert status.not_before_utc is not None
        waits.append((datetime.fromisoformat(status.not_before_utc) - NOW).total_seconds())
    assert waits == [5, 30, 120, 600, 600, 600]


def test_a_scale_of_zero_waits_for_nothing() -> None:
    status = after_failure(1, "infra", "x", [], 1, CLOCK, back_off_scale=0).status
    assert status.kind == "Queued"
    assert status.not_before_utc is None


@pytest.mark.parametrize("fault", sorted(SKIPS_EXPERIMENT))
def test_an_answer_is_confirmed_once_and_then_ends_the_experiment(fault: FaultKind) -> None:
    first = after_failure(1, fault, "x", [], 2, CLOCK)
    assert (first.status.kind, first.skip_experiment) == ("Queued", False)
    second = after_failure(2, fault, "x", failed(fault), 2, CLOCK)
    assert (second.status.kind, second.skip_experiment) == ("Failed", True)
    between = after_failure(2, fault, "x", [*failed(fault), INTERRUPTED, *failed("infra")], 2, CLOCK)
    assert between.skip_experiment


@pytest.mark.parametrize("fault", sorted(set(FAULT_KINDS) - RETRIED - SKIPS_EXPERIMENT))
def test_every_other_failure_is_final(fault: FaultKind) -> None:
    fate = after_failure(7, fault, "why", [], 5, CLOCK)
    assert fate.status.kind == "Failed"
    assert (fate.status.attempt, fate.status.fault, fate.status.message) == (7, fault, "why")


def test_a_run_interrupted_ten_times_in_a_row_is_given_up_and_not_before() -> None:
    nine = [INTERRUPTED] * (MAX_INTERRUPTIONS - 1)
    assert after_interruption(1, nine[1:]).kind == "Queued"
    assert after_interruption(1, nine).kind == "Failed"
    assert after_interruption(1, [*nine, *failed("infra")]).kind == "Queued"


@pytest.mark.parametrize(
    ("newest_first", "consecutive", "trips"),
    [
        (["infra"] * 3, 3, "infra"),
        (["infra"] * 5, 3, "infra"),
        (["infra"] * 2, 3, None),
        (["infra", "infra", None], 3, None),
        ([None, "infra", "infra", "infra"], 3, None),
        (["infra", "silent", "infra"], 3, None),
        ([], 3, None),
        ([None, None, None], 3, None),
        (["oom_gpu"], 1, "oom_gpu"),
    ],
)
def test_the_breaker_trips_on_the_same_fault_in_a_row(
    newest_first: list[FaultKind | None], consecutive: int, trips: FaultKind | None
) -> None:
    assert breaker_trips(newest_first, consecutive) == trips
