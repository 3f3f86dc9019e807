"""What a runner writes of an attempt: a record for each request, its windows, and the result whose presence is success.

Shared by both ends, as the protocol is. Standard library only, Python 3.10 to 3.13.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lem_runner.protocol import CONTRACT_VERSION, ContractError, json_object

StopReason = Literal["length", "eos", "stop", "cancelled", "error"]
#: `whole_requests`: windows hold whole batches. `by_token_time`: requests overlap the edges, tokens count by time.
Counting = Literal["whole_requests", "by_token_time"]


@dataclass(frozen=True)
class RequestRecord:
    """What became of one inference request. Times are monotonic ns; None means that this engine does not tell.

    `t_due_ns`: when a load with arrivals of its own wanted it submitted. `queue_s`, `prefill_s` and `cached_tokens` are
    the engine's own figures (`backends.Generated`).
    `replica` is the one that did it, where there are several.
    `output_ids` are the new token ids, the end token included where one was made: what `tokens_out` counts, and
    `output_sha256` hashes.
    """

    index: int
    window: int
    batch: int
    prompt_sha256: str
    tokens_in: int
    tokens_out: int
    t_submit_ns: int
    t_first_ns: int | None
    t_end_ns: int
    token_ns: list[int] | None
    stop: StopReason
    output_sha256: str | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    cached_tokens: int | None = None
    t_due_ns: int | None = None
    output_ids: list[int] | None = None
    replica: int | None = None

    def encode(self) -> bytes:
        """One JSON line."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> RequestRecord:
        """Parse one line; raises `ContractError`."""
        try:
            return cls(**json_object(line))
        except TypeError as error:
            raise ContractError(f"request record: {error}") from error


@dataclass(frozen=True)
class WindowRecord:
    """One measured interval, closed at batch boundaries after device synchronisation; its counts are those of its
    requests. Of a result that counts by token time, what `counted_inside` finds, and a batch for each request."""

    window: int
    t_begin_ns: int
    t_end_ns: int
    batches: int
    requests: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class AttemptResult:
    """`<attempt>.result.json`: written to a temporary name, fsynced, renamed. Its presence is the success.

    `gauges`: what the engine counted of itself over the window (`backends.Engine.gauges`). `counting`: whether windows
    hold whole requests, or requests overlap their edges. `load`: how the window of such a load was found, else empty
    (`load.Span.facts`).
    """

    contract: int
    attempt: str
    engine_key: str
    windows: list[WindowRecord]
    requests: int
    requests_sha256: str
    effective: dict[str, Any]
    memory: dict[str, Any]
    warmup: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    gauges: dict[str, float | None] = field(default_factory=dict)
    counting: Counting = "whole_requests"
    load: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AttemptResult:
        """Parse what `to_json` made; raises `ContractError`."""
        try:
            parts = dict(data)
            windows = [WindowRecord(**window) for window in parts.pop("windows")]
            result = cls(windows=windows, **parts)
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"result: {error}") from error
        if result.contract != CONTRACT_VERSION:
            raise ContractError(f"result of contract {result.contract!r}, this controller speaks {CONTRACT_VERSION}")
        return result


def counted_inside(requests: Iterable[RequestRecord], t_begin_ns: int, t_end_ns: int) -> tuple[int, int, int]:
    """(requests, prompt tokens, output tokens) of an interval, its begin included, its end not.

    A request counts at its end, its prompt at the first token, an output token at its own time.
    """
    ended = tokens_in = tokens_out = 0
    for request in requests:
        ended += t_begin_ns <= request.t_end_ns < t_end_ns
        if request.t_first_ns is not None and t_begin_ns <= request.t_first_ns < t_end_ns:
            tokens_in += request.tokens_in
        times_ns = request.token_ns or []
        tokens_out += bisect_left(times_ns, t_end_ns) - bisect_left(times_ns, t_begin_ns)
    return ended, tokens_in, tokens_out


def requests_file(attempt: str) -> str:
    """File name of the per-request records of an attempt."""
    return f"{attempt}.requests.jsonl"


def result_file(attempt: str) -> str:
    """File name of the result of an attempt."""
    return f"{attempt}.result.json"
