"""The order of runs: randomised complete blocks, all at random, or as written. Pure: the same seed, the same order.

Blocking follows Fisher's randomised complete blocks: drift of the machine during the night falls on all experiments of
a block alike, so that it can be told from their differences.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

Order = Literal["blocked", "shuffled", "as_written"]


def ordered(
    order: Order, engines: Sequence[Hashable], cycles: int, seed: int, reload_each_block: bool = False
) -> list[tuple[int, int]]:
    """(experiment, cycle) of every run, in order. `engines[i]` is the engine of experiment i; cycles count from 1."""
    return _ORDERS[order](engines, cycles, seed, reload_each_block)


def loads(engines_in_order: Sequence[Hashable], blocks: Sequence[int], reload_each_block: bool) -> list[bool]:
    """For each run of a queue: must an engine be loaded for it? A session serves the next run of the same engine."""
    result = []
    last: tuple[Hashable, int] | None = None
    for engine, block in zip(engines_in_order, blocks, strict=True):
        now = (engine, block if reload_each_block else 0)
        result.append(now != last)
        last = now
    return result


def _blocked(engines: Sequence[Hashable], cycles: int, seed: int, reload_each_block: bool) -> list[tuple[int, int]]:
    """A block is one cycle of every experiment, with a generator of its own: more cycles change no earlier block.

    The engine that ended a block serves first in the next, which saves a load; not where every block loads anew.
    """
    members: dict[Hashable, list[int]] = {}
    for experiment, engine in enumerate(engines):
        members.setdefault(engine, []).append(experiment)
    runs: list[tuple[int, int]] = []
    last: Hashable | None = None
    for cycle in range(1, cycles + 1):
        chance = _generator(seed, f"block {cycle}")
        turn = list(members)
        chance.shuffle(turn)
        if last is not None and not reload_each_block:
            turn.remove(last)
            turn.insert(0, last)
        for engine in turn:
            mine = list(members[engine])
            chance.shuffle(mine)
            runs.extend((experiment, cycle) for experiment in mine)
        last = turn[-1] if turn else None
    return runs


def _shuffled(engines: Sequence[Hashable], cycles: int, seed: int, _reload: bool) -> list[tuple[int, int]]:
    """Completely at random; an experiment's cycles are numbered in the order they come."""
    queue = [experiment for experiment in range(len(engines)) for _ in range(cycles)]
    _generator(seed, "shuffled").shuffle(queue)
    done = [0] * len(engines)
    runs = []
    for experiment in queue:
        done[experiment] += 1
        runs.append((experiment, done[experiment]))
    return runs


def _as_written(engines: Sequence[Hashable], cycles: int, _seed: int, _reload: bool) -> list[tuple[int, int]]:
    """Cycle by cycle, experiments as the file gives them."""
    return [(experiment, cycle) for cycle in range(1, cycles + 1) for experiment in range(len(engines))]


def _generator(seed: int, purpose: str) -> random.Random:
    # Seeding from text goes through sha512, so neighbouring seeds have nothing in common.
    return random.Random(f"{seed} {purpose}")  # noqa: S311 - an order, not a secret


_ORDERS: dict[str, Callable[[Sequence[Hashable], int, int, bool], list[tuple[int, int]]]] = {
    "blocked": _blocked,
    "shuffled": _shuffled,
    "as_written": _as_written,
}
