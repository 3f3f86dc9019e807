"""How much arithmetic and memory traffic the served requests stand for, from the model's own config. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lem_runner.protocol import RequestRecord
from lemctl.judge.flops import UnknownShapeError, decode_bytes_per_step, parameter_flops, read_shape, total_flops
from lemctl.judge.measured import Absent, Flops

ELEMENT_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}


def count_work(
    config: Mapping[str, Any] | None, effective: Mapping[str, Any], batch: int, requests: Sequence[RequestRecord]
) -> dict[str, Flops | float | Absent]:
    """`flops` and `decode_bytes_per_step` for `Measured`, absent with a reason where the shape does not tell.

    `effective` is what the engine reports of itself: its `dtype` and, for models without a known shape, `parameters`.
    """
    lengths = [(r.tokens_in, r.tokens_out) for r in requests]
    if config is None:
        return _without_shape("the model's config is not at hand", effective, lengths)
    try:
        shape = read_shape(config)
    except UnknownShapeError as error:
        return _without_shape(str(error), effective, lengths)
    dtype = str(effective.get("dtype", "")).removeprefix("torch.")
    element_b = ELEMENT_BYTES.get(dtype)
    traffic: float | Absent = Absent(f"the bytes of an element are not known for dtype {dtype or 'untold'}")
    if element_b is not None and lengths:
        context = statistics.fmean(tokens_in + tokens_out / 2 for tokens_in, tokens_out in lengths)
        traffic = decode_bytes_per_step(shape, batch, context, element_b, element_b)
    return {"flops": total_flops(shape, lengths), "decode_bytes_per_step": traffic}


def _without_shape(
    reason: str, effective: Mapping[str, Any], lengths: Sequence[tuple[int, int]]
) -> dict[str, Flops | float | Absent]:
    parameters = effective.get("parameters")
    flops: Flops | Absent = Absent(reason)
    if isinstance(parameters, int):
        flops = parameter_flops(parameters, sum(tokens_in + tokens_out for tokens_in, tokens_out in lengths))
    return {"flops": flops, "decode_bytes_per_step": Absent(reason)}
