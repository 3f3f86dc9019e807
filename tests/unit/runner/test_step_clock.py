"""The clock that `generate` streams its tokens to: what it counts, and that it costs next to nothing."""

from __future__ import annotations

import time

from lem_runner.backends.pytorch import StepClock


class Tokens:
    """As many ids as a tensor would have."""

    def __init__(self, count: int) -> None:
        self.count = count

    def numel(self) -> int:
        return self.count


def test_the_prompt_has_no_time_and_each_token_of_a_request_has_one() -> None:
    clock = StepClock(4)
    clock.put(Tokens(4 * 32))
    assert clock.steps_ns == []
    clock.put(Tokens(4))
    clock.put(Tokens(4 * 3))  # drafted: three of each request at once
    clock.end()
    assert len(clock.steps_ns) == 4
    assert clock.steps_ns == sorted(clock.steps_ns)
    assert len(set(clock.steps_ns[1:])) == 1


def test_a_step_s_time_costs_microseconds() -> None:
    clock, tokens, puts = StepClock(8), Tokens(8), 50_000
    begin_s = time.process_time()
    for _ in range(puts):
        clock.put(tokens)
    assert (time.process_time() - begin_s) / puts < 20e-6
