"""Metrics of the load itself: what was offered, how it was kept, how much of it was with the engine at a time."""

from __future__ import annotations

from collections.abc import Callable

from lemctl.judge import latency
from lemctl.judge.measured import NS_PER_S, Measured, ServedRequest
from lemctl.judge.metric import MetricRegistry, NotKnownError, Value, divided, known
from lemctl.judge.statistics import quantile
from lemctl.judge.work import (
    FAILED_STOPS,
    WORK_INPUTS,
    duration_s,
    is_inside,
    requests_answered,
    requests_counted,
    requests_in_flight,
)

LOAD_METRICS = MetricRegistry()
_metric = LOAD_METRICS.metric
#: The latencies that a campaign may set a target for.
_TARGETS: dict[str, Callable[[ServedRequest], float | None]] = {
    "ttft": latency.ttft_s,
    "tpot": latency.tpot_s,
    "e2e": latency.e2e_s,
}


def _arrivals(measured: Measured) -> list[tuple[int, int]]:
    """(due, submitted) in ns of the requests that were due in the windows."""
    due = [(request.t_due_ns, request.t_submit_ns) for request in measured.requests if request.t_due_ns is not None]
    if not due:
        raise NotKnownError("the load has no arrivals of its own: requests wait for others to end")
    return [(due_ns, submit_ns) for due_ns, submit_ns in due if is_inside(due_ns, measured)]


def _met_targets(measured: Measured) -> list[bool]:
    """Of each request that ended in the windows, whether it kept every declared latency; a failed one did not."""
    targets_s = known(measured.targets_s)
    return [
        request.stop not in FAILED_STOPS and all(_keeps(request, name, limit_s) for name, limit_s in targets_s.items())
        for request in requests_counted(measured)
    ]


def _keeps(request: ServedRequest, name: str, limit_s: float) -> bool:
    """A request of one token has no time per output token to miss."""
    found = _TARGETS[name](request)
    return found is None or found <= limit_s


@_metric("1/s", (*WORK_INPUTS, "targets_s"))
def goodput(measured: Measured) -> Value:
    """Requests that met every latency target of the campaign, over the windows' duration (arXiv 2401.09670)."""
    return divided(Value(sum(_met_targets(measured))), duration_s(measured), "seconds")


@_metric("1", (*WORK_INPUTS, "targets_s"))
def goodput_share(measured: Measured) -> Value:
    """Share of the requests that ended in the windows, failed ones included, that met every latency target."""
    met = _met_targets(measured)
    return divided(Value(sum(met)), len(met), "requests")


@_metric("1/s", ("windows", "requests"))
def offered_requests_per_s(measured: Measured) -> Value:
    """Arrivals of an open loop over the windows' duration; `requests_per_s` is what was answered of them."""
    return divided(Value(len(_arrivals(measured))), duration_s(measured), "seconds")


@_metric("1", ("windows", "requests"))
def in_flight_mean(measured: Measured) -> Value:
    """Mean number of requests between arrival and end, over the windows."""
    if not measured.requests:
        raise NotKnownError("no request was served")
    return Value(requests_in_flight(measured))


@_metric("1", WORK_INPUTS)
def prefix_cache_hit_rate(measured: Measured) -> Value:
    """Share of the prompts' tokens that a prefix cache served."""
    counted = requests_answered(measured)
    if any(request.cached_tokens is None for request in counted):
        raise NotKnownError("the engine does not tell what its prefix cache served")
    cached = sum(request.cached_tokens or 0 for request in counted)
    return divided(Value(cached), sum(request.tokens_in for request in counted), "prompt tokens")


def _register_lateness(percent: int) -> None:
    meaning = (
        f"{percent}th percentile of how late the load generator handed an arrival over; a part of every latency here."
    )

    @_metric("s", ("windows", "requests"), name=f"arrival_lateness_p{percent}", meaning=meaning)
    def arrival_lateness(measured: Measured) -> Value:
        found = quantile([(submit_ns - due_ns) / NS_PER_S for due_ns, submit_ns in _arrivals(measured)], percent / 100)
        if found is None:
            raise NotKnownError("no request arrived in the windows")
        return Value(found)


for _percent in (50, 90):
    _register_lateness(_percent)
