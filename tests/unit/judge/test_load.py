from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from lemctl.judge.load import count_in_flight, is_saturated

S = 1_000_000_000


@dataclass(frozen=True)
class Request:
    t_submit_ns: int
    t_end_ns: int
    window: int = 0
    prompt_sha256: str = "a"
    tokens_in: int = 1
    tokens_out: int = 1
    t_first_ns: int | None = None
    token_ns: tuple[int, ...] | None = None
    stop: str = "length"
    t_due_ns: int | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    cached_tokens: int | None = None


def serve(arrivals_per_s: float, served_per_s: float, seed: int, seconds: float = 60.0) -> list[Request]:
    """One server with a queue: Poisson arrivals, exponential service."""
    draw, arrived_s, free_s, requests = random.Random(seed), 0.0, 0.0, []
    while (arrived_s := arrived_s + draw.expovariate(arrivals_per_s)) < seconds:
        free_s = max(free_s, arrived_s) + draw.expovariate(served_per_s)
        requests.append(Request(round(arrived_s * S), round(free_s * S)))
    return requests


def test_a_queue_that_grows_is_saturated() -> None:
    assert all(is_saturated(serve(10.0, 7.0, seed), 0, 60 * S) for seed in range(30))


def test_a_server_with_room_is_rarely_called_saturated() -> None:
    called = sum(bool(is_saturated(serve(10.0, 20.0, seed), 0, 60 * S)) for seed in range(200))
    assert called <= 4


def test_too_few_requests_tell_nothing() -> None:
    assert is_saturated(serve(0.1, 0.01, 1), 0, 60 * S) is None
    assert is_saturated([], 0, 60 * S) is None


@pytest.mark.parametrize(("t_s", "expected"), [(0, 0), (1, 1), (2, 2), (3, 1), (5, 0)])
def test_in_flight_counts_from_submission_to_end(t_s: int, expected: int) -> None:
    assert count_in_flight([Request(1 * S, 3 * S), Request(2 * S, 5 * S)], t_s * S) == expected
