"""How much work the windows hold: seconds, requests, tokens. The denominators of every other metric.

Closed batches are counted whole. Where requests overlap the edges (open loop, engines with batching of their own) a
prompt counts at its first token, an output token at its own time, a request at its end.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeVar

from lemctl.judge.measured import NS_PER_S, Measured, ServedRequest
from lemctl.judge.metric import NotKnownError

T = TypeVar("T")

FAILED_STOPS = frozenset({"error", "cancelled"})
WORK_INPUTS = ("windows", "requests", "counting")


def duration_s(measured: Measured) -> float:
    """Seconds inside the windows. Raises NotKnownError without a window of positive length."""
    total_ns = sum(window.t_end_ns - window.t_begin_ns for window in measured.windows)
    if total_ns <= 0:
        raise NotKnownError("no window was measured")
    return total_ns / NS_PER_S


def is_inside(t_ns: int, measured: Measured) -> bool:
    """Whether a moment lies in one of the windows (begin included, end not)."""
    return any(window.t_begin_ns <= t_ns < window.t_end_ns for window in measured.windows)


def requests_counted(measured: Measured) -> list[ServedRequest]:
    """The requests that count as finished work of the windows, failed ones included."""
    if measured.counting == "by_token_time":
        return [request for request in measured.requests if is_inside(request.t_end_ns, measured)]
    indices = {window.window for window in measured.windows}
    return [request for request in measured.requests if request.window in indices]


def requests_answered(measured: Measured) -> list[ServedRequest]:
    """Those of `requests_counted` that ended neither in an error nor cancelled."""
    return [request for request in requests_counted(measured) if request.stop not in FAILED_STOPS]


def count_tokens_in(measured: Measured) -> int:
    """Prompt tokens processed in the windows. Raises NotKnownError where that needs times the engine does not tell."""
    if measured.counting == "whole_requests":
        return sum(request.tokens_in for request in requests_counted(measured))
    firsts = ((r, r.t_first_ns) for r in measured.requests if not _is_lost(r, r.t_first_ns))
    return sum(request.tokens_in for request, t_ns in firsts if is_inside(_told(t_ns, "first-token times"), measured))


def count_tokens_out(measured: Measured) -> int:
    """Output tokens produced in the windows. Raises NotKnownError like `count_tokens_in`."""
    if measured.counting == "whole_requests":
        return sum(request.tokens_out for request in requests_counted(measured))
    told = [_told(r.token_ns, "token times") for r in measured.requests if not _is_lost(r, r.token_ns)]
    return sum(
        bisect_left(times_ns, window.t_end_ns) - bisect_left(times_ns, window.t_begin_ns)
        for times_ns in told
        for window in measured.windows
    )


def arrived_ns(request: ServedRequest) -> int:
    """When it came: the moment it was due, where the load has such; a late submission must not shorten a latency."""
    return request.t_submit_ns if request.t_due_ns is None else request.t_due_ns


def requests_in_flight(measured: Measured) -> float:
    """Mean number of requests between arrival and end, over the windows. Raises NotKnownError without a window."""
    overlaps_ns = (
        max(0, min(request.t_end_ns, window.t_end_ns) - max(arrived_ns(request), window.t_begin_ns))
        for request in measured.requests
        for window in measured.windows
    )
    return sum(overlaps_ns) / NS_PER_S / duration_s(measured)


def _is_lost(request: ServedRequest, told: object) -> bool:
    """Whether it failed before it had times: it has no tokens to count then, and says nothing of the engine."""
    return told is None and request.stop in FAILED_STOPS


def _told(value: T | None, what: str) -> T:
    if value is None:
        raise NotKnownError(f"the engine gives no {what}, which counting by token time needs")
    return value
