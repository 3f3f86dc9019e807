"""Which prompts go together, and when to stop: pure functions of lengths, counts and durations.

No clock and no engine here; `attempt.py` brings both.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Iterator, Sequence
from typing import Literal

from lem_runner.protocol import MeasureSpec, Replica, Warmup, WorkloadSpec

#: The steady state is judged on the latencies of this many batches.
STEADY_BATCHES = 5

WarmupEnd = Literal["none", "one_batch", "steady", "capped"]
#: Positions in the list of prompts.
Batch = tuple[int, ...]


def one_pass(lengths: Sequence[int], workload: WorkloadSpec, seed: int, *, is_filled: bool = False) -> list[Batch]:
    """Every prompt once, in batches of `batch_size`; `lengths` are the prompts' lengths in tokens.

    `static`: in the given order. `dynamic`: prompts of similar length together (less padding), the batches themselves
    in an order drawn from `seed`, so that a window that ends early has not seen the short ones alone.
    The last batch is smaller where the numbers do not divide, unless `is_filled`: then it is topped up, with the first
    prompts (`static`) or the next longest ones (`dynamic`).
    """
    size = workload.batch_size
    positions = list(range(len(lengths)))
    is_dynamic = workload.batching == "dynamic"
    if is_dynamic:
        positions.sort(key=lambda position: (lengths[position], position))
    batches = [tuple(positions[start : start + size]) for start in range(0, len(positions), size)]
    if is_filled and batches and len(batches[-1]) < size:
        missing = size - len(batches[-1])
        spare = positions[::-1] if is_dynamic else positions
        batches[-1] += tuple(spare[place % len(spare)] for place in range(missing))
    if is_dynamic:
        random.Random(seed).shuffle(batches)  # noqa: S311
    return batches


def schedule(lengths: Sequence[int], workload: WorkloadSpec, measure: MeasureSpec, seed: int) -> Iterator[Batch]:
    """The batches of a window: one pass, or full batches without end when the window has a length."""
    if measure.window_s is None:
        yield from one_pass(lengths, workload, seed)
        return
    yield from endless(lengths, workload, seed)


def endless(lengths: Sequence[int], workload: WorkloadSpec, seed: int) -> Iterator[Batch]:
    """Full batches, pass after pass; a prompt comes again only when all have been used (or to fill a pass's end)."""
    batches = one_pass(lengths, workload, seed, is_filled=True)
    while batches:
        yield from batches


def dealt(batches: Iterator[Batch], replica: Replica | None) -> Iterator[Batch]:
    """Those that are this runner's: all, or every so many-th where several share them."""
    return batches if replica is None else itertools.islice(batches, replica.index, None, replica.of)


def place(number: int, replica: Replica | None) -> int:
    """Which one of the whole schedule's batches the `number`-th dealt one is: what it is seeded by."""
    return number if replica is None else replica.index + replica.of * number


def warmup_end(warmup: Warmup, batch_s: Sequence[float], is_device_steady: bool = True) -> WarmupEnd | None:
    """Why the warm-up is over after batches of these durations in seconds; None while it is not."""
    if warmup.kind == "none":
        return "none"
    if not batch_s:
        return None
    if warmup.kind == "one_batch":
        return "one_batch"
    spent_s = sum(batch_s)
    if spent_s >= warmup.min_s and is_device_steady and is_steady(batch_s, warmup.cv_limit):
        return "steady"
    return "capped" if spent_s >= warmup.max_s else None


def is_steady(batch_s: Sequence[float], cv_limit: float) -> bool:
    """True when the last five durations vary by less than `cv_limit` (sample standard deviation over mean)."""
    last = batch_s[-STEADY_BATCHES:]
    if len(last) < STEADY_BATCHES:
        return False
    mean = statistics.fmean(last)
    return mean > 0 and statistics.stdev(last) / mean < cv_limit


def repeat_note(requests: int, distinct: int) -> str | None:
    """What to say when a window used prompts more than once."""
    if requests <= distinct:
        return None
    return f"the window repeated prompts: {requests} requests from {distinct} distinct prompts"
