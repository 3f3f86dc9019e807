"""Which prompts go together and when a warm-up ends."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lem_runner.protocol import MeasureSpec, Warmup, WorkloadSpec
from lem_runner.workload import endless, is_steady, one_pass, repeat_note, schedule, warmup_end

lengths_strategy = st.lists(st.integers(1, 500), min_size=1, max_size=60)


def work(batch_size: int, batching: str = "static") -> WorkloadSpec:
    return WorkloadSpec("p", "0", 1, 1, "fixed", "offline", batch_size, batching)  # type: ignore[arg-type]


@given(lengths_strategy, st.integers(1, 16), st.sampled_from(["static", "dynamic"]), st.integers(0, 9))
def test_one_pass_uses_every_prompt_exactly_once(lengths: list[int], size: int, batching: str, seed: int) -> None:
    batches = one_pass(lengths, work(size, batching), seed)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert sum(len(batch) < size for batch in batches) <= 1


@given(lengths_strategy, st.integers(1, 16), st.sampled_from(["static", "dynamic"]), st.integers(0, 9))
def test_endless_batches_are_full_and_use_all_prompts_of_a_pass(
    lengths: list[int], size: int, batching: str, seed: int
) -> None:
    batches = list(islice(endless(lengths, work(size, batching), seed), -(-len(lengths) // size)))
    assert all(len(batch) == size for batch in batches)
    used = [place for batch in batches for place in batch]
    assert set(used) == set(range(len(lengths)))
    assert len(used) - len(lengths) < size


def test_static_keeps_the_given_order() -> None:
    assert one_pass([9, 1, 5, 3, 7], work(2), 0) == [(0, 1), (2, 3), (4,)]


@given(lengths_strategy, st.integers(1, 8), st.integers(0, 99))
def test_dynamic_pads_no_more_than_static(lengths: list[int], size: int, seed: int) -> None:
    def padding(batching: str) -> int:
        batches = one_pass(sorted(lengths, key=lambda length: (length * 7919) % 101), work(size, batching), seed)
        ordered = sorted(lengths, key=lambda length: (length * 7919) % 101)
        return sum(max(ordered[p] for p in batch) * len(batch) - sum(ordered[p] for p in batch) for batch in batches)

    assert padding("dynamic") <= padding("static") or len(lengths) % size != 0


def test_dynamic_spreads_lengths_over_the_window() -> None:
    """Sorted batches in sorted order would let a short window see the short prompts alone."""
    batches = one_pass(list(range(1, 101)), work(4, "dynamic"), seed=3)
    firsts = [batch[0] for batch in batches]
    assert firsts != sorted(firsts)
    assert batches == one_pass(list(range(1, 101)), work(4, "dynamic"), seed=3)
    assert batches != one_pass(list(range(1, 101)), work(4, "dynamic"), seed=4)


def test_schedule_ends_after_a_pass_only_without_a_window_length() -> None:
    lengths = [3, 4, 5]
    assert list(schedule(lengths, work(2), MeasureSpec(window_s=None), 0)) == [(0, 1), (2,)]
    assert len(list(islice(schedule(lengths, work(2), MeasureSpec(window_s=1.0), 0), 50))) == 50


@pytest.mark.parametrize(
    ("warmup", "batch_s", "end"),
    [
        (Warmup(kind="none"), [], "none"),
        (Warmup(kind="one_batch"), [], None),
        (Warmup(kind="one_batch"), [9.0], "one_batch"),
        (Warmup(kind="steady"), [1.0] * 4, None),
        (Warmup(kind="steady"), [1.0] * 5, "steady"),
        (Warmup(kind="steady", min_s=6.0), [1.0] * 5, None),
        (Warmup(kind="steady", min_s=6.0), [1.0] * 6, "steady"),
        (Warmup(kind="steady"), [5.0, 1.0, 1.0, 1.0, 1.0, 1.0], "steady"),
        (Warmup(kind="steady"), [1.0, 2.0, 1.0, 2.0, 1.0], None),
        (Warmup(kind="steady", max_s=7.0), [1.0, 2.0, 1.0, 2.0, 1.0], "capped"),
        (Warmup(kind="steady", max_s=2.0), [1.0, 1.0], "capped"),
    ],
)
def test_warm_up_ends_when_its_rule_says(warmup: Warmup, batch_s: list[float], end: str | None) -> None:
    assert warmup_end(warmup, batch_s) == end


def test_steady_is_strictly_below_the_limit() -> None:
    assert not is_steady([1.0] * 5, 0.0)
    assert is_steady([1.0] * 5, 1e-12)
    assert not is_steady([0.0] * 5, 0.5)


def test_repeats_are_said_only_when_there_are_any() -> None:
    assert repeat_note(10, 10) is None
    note = repeat_note(11, 10)
    assert note is not None
    assert "11" in note
