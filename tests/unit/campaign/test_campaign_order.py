from __future__ import annotations

import itertools
from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemctl.campaign.order import loads, ordered

ENGINES = ["a", "b", "a", "c", "b", "a"]
Order = Literal["blocked", "shuffled", "as_written"]
ORDERS: list[Order] = ["blocked", "shuffled", "as_written"]


@given(
    order=st.sampled_from(ORDERS),
    engines=st.lists(st.sampled_from("abcd"), min_size=1, max_size=12),
    cycles=st.integers(1, 6),
    seed=st.integers(0, 2**63 - 1),
    reload=st.booleans(),
)
def test_every_order_has_each_experiment_and_cycle_once_and_is_repeatable(
    order: Order, engines: list[str], cycles: int, seed: int, reload: bool
) -> None:
    runs = ordered(order, engines, cycles, seed, reload)
    assert Counter(runs) == Counter({(e, c): 1 for e in range(len(engines)) for c in range(1, cycles + 1)})
    assert runs == ordered(order, engines, cycles, seed, reload)
    for experiment in range(len(engines)):
        assert [c for e, c in runs if e == experiment] == list(range(1, cycles + 1))


def blocks(seed: int, cycles: int, reload: bool = False) -> list[list[int]]:
    runs = ordered("blocked", ENGINES, cycles, seed, reload)
    size = len(ENGINES)
    return [[e for e, _ in runs[start : start + size]] for start in range(0, len(runs), size)]


def visits(block: list[int]) -> list[str]:
    names = [ENGINES[e] for e in block]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


@pytest.mark.parametrize("seed", range(20))
def test_a_block_visits_each_engine_once(seed: int) -> None:
    for block in blocks(seed, 4):
        assert sorted(block) == list(range(len(ENGINES)))
        assert sorted(visits(block)) == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(20))
def test_the_engine_that_ends_a_block_begins_the_next_and_saves_a_load(seed: int) -> None:
    done = blocks(seed, 5)
    for before, after in itertools.pairwise(done):
        assert visits(after)[0] == visits(before)[-1]
    runs = ordered("blocked", ENGINES, 5, seed)
    assert sum(loads([ENGINES[e] for e, _ in runs], [c for _, c in runs], False)) == 3 + 4 * 2


def test_reloading_each_block_loads_every_engine_in_every_block() -> None:
    runs = ordered("blocked", ENGINES, 5, 1, True)
    assert sum(loads([ENGINES[e] for e, _ in runs], [c for _, c in runs], True)) == 15


def test_blocks_differ_and_seeds_differ() -> None:
    assert len({tuple(block) for block in blocks(3, 8)}) > 4
    assert len({tuple(blocks(seed, 1)[0]) for seed in range(8)}) > 4


def test_every_engine_comes_first_about_as_often_where_blocks_reload() -> None:
    first = Counter(visits(block)[0] for seed in range(100) for block in blocks(seed, 3, True))
    assert min(first.values()) > 60


def test_more_cycles_change_no_earlier_block() -> None:
    assert blocks(7, 6)[:3] == blocks(7, 3)


def test_as_written_goes_cycle_by_cycle() -> None:
    assert ordered("as_written", ["a", "b"], 2, 9) == [(0, 1), (1, 1), (0, 2), (1, 2)]


def test_shuffled_mixes_cycles() -> None:
    runs = ordered("shuffled", ["a"] * 20, 5, 4)
    assert [c for _, c in runs] != sorted(c for _, c in runs)
