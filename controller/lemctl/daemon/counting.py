"""How much arithmetic and memory traffic the served requests stand for, from the model's own config. Pure."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lem_runner.results import RequestRecord, WindowRecord
from lemctl.judge.flops import UnknownShapeError, decode_bytes_per_step, parameter_flops, read_shape, total_flops
from lemctl.judge.measured import Absent, Flops

ELEMENT_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}


@dataclass(frozen=True)
class Work:
    """The requests of the windows as (prompt tokens, output tokens): what they had at the windows' ends, and what of it
    they had at their begins already. `batch`: how many were decoded together, on average."""

    had: Sequence[tuple[int, int]]
    had_before: Sequence[tuple[int, int]]
    batch: float


def whole_work(requests: Sequence[RequestRecord], batch: int) -> Work:
    """Windows that hold whole batches."""
    return Work([(r.tokens_in, r.tokens_out) for r in requests], [], batch)


def work_between(requests: Sequence[RequestRecord], windows: Sequence[WindowRecord]) -> Work:
    """Windows whose edges requests overlap; a prompt is work done when its first token is there."""
    begun = [(r, r.t_first_ns, r.token_ns) for r in requests if r.t_first_ns is not None and r.token_ns is not None]
    had, had_before, decoding_ns = [], [], 0
    for window in windows:
        for request, first_ns, times_ns in begun:
            if count := bisect_left(times_ns, window.t_end_ns):
                had.append((request.tokens_in, count))
            if count := bisect_left(times_ns, window.t_begin_ns):
                had_before.append((request.tokens_in, count))
            decoding_ns += max(0, min(request.t_end_ns, window.t_end_ns) - max(first_ns, window.t_begin_ns))
    return Work(had, had_before, decoding_ns / sum(w.t_end_ns - w.t_begin_ns for w in windows))


def count_work(
    config: Mapping[str, Any] | None, effective: Mapping[str, Any], work: Work
) -> dict[str, Flops | float | Absent]:
    """`flops` and `decode_bytes_per_step` for `Measured`, absent with a reason where the shape does not tell.

    `effective` is what the engine reports of itself: its `dtype` and, for models without a known shape, `parameters`.
    """
    if config is None:
        return _without_shape("the model's config is not at hand", effective, work)
    try:
        shape = read_shape(config)
    except UnknownShapeError as error:
        return _without_shape(str(error), effective, work)
    dtype = str(effective.get("dtype", "")).removeprefix("torch.")
    element_b = ELEMENT_BYTES.get(dtype)
    traffic: float | Absent = Absent(f"the bytes of an element are not known for dtype {dtype or 'untold'}")
    if element_b is not None and work.had:
        context = statistics.fmean(tokens_in + tokens_out / 2 for tokens_in, tokens_out in work.had)
        traffic = decode_bytes_per_step(shape, work.batch, context, element_b, element_b)
    done, before = total_flops(shape, work.had), total_flops(shape, work.had_before)
    return {"flops": replace(done, flops=done.flops - before.flops), "decode_bytes_per_step": traffic}


def _without_shape(reason: str, effective: Mapping[str, Any], work: Work) -> dict[str, Flops | float | Absent]:
    parameters = effective.get("parameters")
    flops: Flops | Absent = Absent(reason)
    if isinstance(parameters, int):
        flops = parameter_flops(parameters, sum(map(sum, work.had)) - sum(map(sum, work.had_before)))
    return {"flops": flops, "decode_bytes_per_step": Absent(reason)}
