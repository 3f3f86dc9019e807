"""Latencies of one request, in s. They count from the moment when it was due, where its load has such moments."""

from __future__ import annotations

from lemctl.judge.measured import NS_PER_S, ServedRequest
from lemctl.judge.metric import NotKnownError
from lemctl.judge.work import arrived_ns

_NO_FIRST = "the engine gives no first-token times"


def ttft_s(request: ServedRequest) -> float:
    """Arrival to the first output token. Raises NotKnownError where the engine does not tell it."""
    if request.t_first_ns is None:
        raise NotKnownError(_NO_FIRST)
    return (request.t_first_ns - arrived_ns(request)) / NS_PER_S


def tpot_s(request: ServedRequest) -> float | None:
    """Time per output token after the first; None for a request of one token. Raises like `ttft_s`."""
    if request.t_first_ns is None:
        raise NotKnownError(_NO_FIRST)
    if request.tokens_out < 2:
        return None
    return (request.t_end_ns - request.t_first_ns) / NS_PER_S / (request.tokens_out - 1)


def e2e_s(request: ServedRequest) -> float:
    """Arrival to the last output token."""
    return (request.t_end_ns - arrived_ns(request)) / NS_PER_S
