"""Speed metrics: throughput, and latencies per request (definitions as in the NVIDIA NIM and vLLM benchmark guides)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

from lemctl.judge import latency
from lemctl.judge.measured import NS_PER_S, Measured, ServedRequest
from lemctl.judge.metric import MetricRegistry, NotKnownError, Value, divided
from lemctl.judge.statistics import quantile
from lemctl.judge.work import (
    WORK_INPUTS,
    count_tokens_in,
    count_tokens_out,
    duration_s,
    requests_answered,
    requests_counted,
)

SPEED_METRICS = MetricRegistry()
P99_NEEDS_REQUESTS = 1000
#: The points of a latency's distribution that are kept with every attempt.
PERCENTILES = (0, 1, 5, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 95, 99, 100)
_metric = SPEED_METRICS.metric


@_metric("s", ("windows",))
def duration(measured: Measured) -> Value:
    """Seconds inside the windows."""
    return Value(duration_s(measured))


@_metric("1", WORK_INPUTS)
def requests(measured: Measured) -> Value:
    """Requests that ended in the windows, failed ones included."""
    return Value(len(requests_counted(measured)))


@_metric("1", WORK_INPUTS)
def requests_failed(measured: Measured) -> Value:
    """Requests of the windows that ended in an error or cancelled."""
    return Value(len(requests_counted(measured)) - len(requests_answered(measured)))


@_metric("token", WORK_INPUTS)
def tokens_in(measured: Measured) -> Value:
    """Prompt tokens processed in the windows."""
    return Value(count_tokens_in(measured))


@_metric("token", WORK_INPUTS)
def tokens_out(measured: Measured) -> Value:
    """Output tokens produced in the windows."""
    return Value(count_tokens_out(measured))


@_metric("token/s", WORK_INPUTS)
def output_tokens_per_s(measured: Measured) -> Value:
    """Output throughput: output tokens over the windows' duration."""
    return divided(Value(count_tokens_out(measured)), duration_s(measured), "seconds")


@_metric("token/s", WORK_INPUTS)
def total_tokens_per_s(measured: Measured) -> Value:
    """Prompt and output tokens over the windows' duration."""
    return divided(Value(count_tokens_in(measured) + count_tokens_out(measured)), duration_s(measured), "seconds")


@_metric("1/s", WORK_INPUTS)
def requests_per_s(measured: Measured) -> Value:
    """Answered requests over the windows' duration."""
    return divided(Value(len(requests_answered(measured))), duration_s(measured), "seconds")


def _ttft_s(requests: Iterable[ServedRequest]) -> Iterator[float]:
    return map(latency.ttft_s, requests)


def _tpot_s(requests: Iterable[ServedRequest]) -> Iterator[float]:
    return (found for request in requests if (found := latency.tpot_s(request)) is not None)


def inter_token_s(requests: Iterable[ServedRequest]) -> Iterator[float]:
    """Gaps between neighbouring output tokens of each request, in s. Raises NotKnownError without token times."""
    for request in requests:
        if request.token_ns is None:
            raise NotKnownError("the engine gives no token times")
        yield from ((later - earlier) / NS_PER_S for earlier, later in pairwise(request.token_ns))


def _e2e_s(requests: Iterable[ServedRequest]) -> Iterator[float]:
    return map(latency.e2e_s, requests)


def _queue_s(requests: Iterable[ServedRequest]) -> Iterator[float]:
    for request in requests:
        if request.queue_s is None:
            raise NotKnownError("the engine does not tell how long requests wait in its queue")
        yield request.queue_s


def _prefill_s(requests: Iterable[ServedRequest]) -> Iterator[float]:
    for request in requests:
        if request.prefill_s is None:
            raise NotKnownError("the engine does not tell how long prefill takes")
        yield request.prefill_s


_LATENCIES: tuple[tuple[str, str, Callable[[Iterable[ServedRequest]], Iterator[float]]], ...] = (
    ("ttft", "time to first token: arrival to the first output token", _ttft_s),
    ("itl", "inter-token latency: gaps between neighbouring output tokens, pooled over requests", inter_token_s),
    ("tpot", "time per output token after the first: (end - first token) / (output tokens - 1)", _tpot_s),
    ("e2e", "end-to-end latency: arrival to the last output token", _e2e_s),
    ("queue", "time in the engine's queue, as the engine tells it", _queue_s),
    ("prefill", "time from the queue's end to the first token, as the engine tells it", _prefill_s),
)


def _register_latency(
    name: str, meaning: str, percent: int, times_s: Callable[[Iterable[ServedRequest]], Iterator[float]]
) -> None:
    limited = f"; only from {P99_NEEDS_REQUESTS:,} requests on" if percent == 99 else ""

    @_metric("s", WORK_INPUTS, name=f"{name}_p{percent}", meaning=f"{percent}th percentile of the {meaning}{limited}.")
    def percentile(measured: Measured) -> Value:
        answered = requests_answered(measured)
        if percent == 99 and len(answered) < P99_NEEDS_REQUESTS:
            raise NotKnownError(f"p99 needs {P99_NEEDS_REQUESTS:,} requests, the windows hold {len(answered):,}")
        found = quantile(list(times_s(answered)), percent / 100)
        if found is None:
            raise NotKnownError("no answered request in the windows has such a latency")
        return Value(found)


for _name, _meaning, _times in _LATENCIES:
    for _percent in (50, 90, 99):
        _register_latency(_name, _meaning, _percent, _times)


def latency_distributions(measured: Measured) -> dict[str, dict[str, Any]]:
    """name -> `n` times, their `percent` points and the `s` (seconds) at each; without latencies that are not known."""
    answered = requests_answered(measured)
    found: dict[str, dict[str, Any]] = {}
    for name, _, times_s in _LATENCIES:
        try:
            ordered = sorted(times_s(answered))
        except NotKnownError:
            continue
        points = [quantile(ordered, percent / 100) for percent in PERCENTILES] if ordered else []
        if points:
            found[name] = {
                "n": len(ordered),
                "percent": PERCENTILES,
                "s": [float(f"{p:.6g}") for p in points if p is not None],
            }
    return found
