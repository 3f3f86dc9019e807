"""Reading what a runner writes: its event file, line by line as it grows, and its finished files, checked by hash.

Garbage, a gap in the sequence or a file that is not what its hash says is `bad_result`: nothing is guessed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from lem_runner.prompts import ids_sha256
from lem_runner.protocol import ContractError, Event
from lem_runner.results import AttemptResult, Counting, RequestRecord, counted_inside, requests_file, result_file
from lemctl.engines.entrusted import open_entrusted, read_entrusted
from lemctl.errors import RunFailed

#: No event is near this long; a longer line is not ours.
MAX_EVENT_B = 1 << 20
MAX_FILE_B = 2 << 30
#: Nor is a session's whole stream: a year of signs of life is not as much.
MAX_STREAM_B = 2 << 30
_CHUNK_B = 1 << 16
#: At most so many chunks at one look, so that a runner that floods us cannot keep us from our limits.
_CHUNKS_A_LOOK = 64


class EventTail:
    """Follows one `events.jsonl`. Opened without following links: the folder belongs to the runner."""

    def __init__(self, path: Path):
        self.path = path
        self.next_seq = 0
        self._fd: int | None = None
        self._rest = b""
        self._total_b = 0
        self._pending: deque[bytes] = deque()

    def read(self) -> Iterator[Event]:
        """The events that have come and were not given yet. Raises `RunFailed(bad_result)`."""
        while self._pending:
            yield self._decode(self._pending.popleft())
        if self._fd is None:
            try:
                self._fd = open_entrusted(self.path, os.O_RDONLY)
            except FileNotFoundError:
                return
            except OSError as error:
                raise RunFailed("bad_result", f"the event file cannot be read: {error}") from error
        for _ in range(_CHUNKS_A_LOOK):
            if not (chunk := os.read(self._fd, _CHUNK_B)):
                return
            self._total_b += len(chunk)
            if self._total_b > MAX_STREAM_B:
                raise RunFailed("bad_result", f"the events are longer than {MAX_STREAM_B} bytes")
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > MAX_EVENT_B:
                raise RunFailed("bad_result", f"an event is longer than {MAX_EVENT_B} bytes")
            self._pending.extend(lines)
            while self._pending:  # one at a time: a caller that has what it wanted leaves the others for the next call
                yield self._decode(self._pending.popleft())

    def close(self) -> None:
        """Release the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _decode(self, line: bytes) -> Event:
        try:
            event = Event.decode(line)
        except ContractError as error:
            raise RunFailed("bad_result", f"event {self.next_seq}: {error}", repr(line[:500])) from error
        if event.seq != self.next_seq:
            raise RunFailed("bad_result", f"event {event.seq} where {self.next_seq} was due: one was lost or doubled")
        self.next_seq += 1
        return event


@dataclass(frozen=True)
class Finished:
    """The checked files of a successful attempt."""

    result: AttemptResult
    requests: list[RequestRecord]


def read_finished(folder: Path, attempt: str, announced: dict[str, object] | None) -> Finished | None:
    """The result of an attempt, or None when there is none. Raises `RunFailed(bad_result)` when it is not sound.

    `announced` is the data of the `result` event: without it (the runner died after writing) the result's own hash of
    the records is all there is to check.
    """
    raw = _read(folder / result_file(attempt))
    if raw is None:
        return None
    if announced is not None and hashlib.sha256(raw).hexdigest() != announced.get("sha256"):
        raise RunFailed("bad_result", "the result file is not the one that was announced")
    try:
        result = AttemptResult.from_json(json.loads(raw, parse_constant=_refuse_constant))
        _check_result(result, attempt)
    except (ContractError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunFailed("bad_result", f"the result file is not valid: {error}") from error
    return Finished(result, _requests(folder, result))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _check_result(result: AttemptResult, attempt: str) -> None:
    """Types and ranges that a dataclass does not check. Raises `ValueError`."""
    if result.attempt != attempt:
        raise ValueError(f"it is of attempt {result.attempt!r}")
    if not result.windows:
        raise ValueError("it has no window")
    if not all(isinstance(part, dict) for part in (result.effective, result.memory, result.warmup)):
        raise ValueError("effective, memory and warmup must be objects")
    if not all(isinstance(note, str) for note in result.notes):
        raise ValueError("notes must be texts")
    if result.counting not in get_args(Counting):
        raise ValueError(f"counting is {result.counting!r}, none of {', '.join(get_args(Counting))}")
    if not isinstance(result.gauges, dict) or not isinstance(result.load, dict):
        raise ValueError("gauges and load must be objects")
    if any(value is not None and type(value) not in (int, float) for value in result.gauges.values()):
        raise ValueError("gauges must be numbers")
    for window in result.windows:
        if any(type(value) is not int or value < 0 for value in vars(window).values()):
            raise ValueError(f"window {window.window!r}: every field is a count or a time, not negative")
        if window.t_end_ns <= window.t_begin_ns:
            raise ValueError(f"window {window.window} ends before it begins")


def _check_record(record: RequestRecord) -> None:
    """As `_check_result`, for one request."""
    counts = (record.window, record.tokens_in, record.tokens_out, record.t_submit_ns, record.t_end_ns)
    if any(type(value) is not int or value < 0 for value in counts):
        raise ValueError(f"request {record.index!r}: its counts and times must be whole numbers, not negative")
    times = [t for t in (record.t_first_ns, *(record.token_ns or ())) if t is not None]
    if any(type(t) is not int for t in times):
        raise ValueError(f"request {record.index!r}: token times must be whole numbers")
    if list(record.token_ns or ()) != sorted(record.token_ns or ()):
        raise ValueError(f"request {record.index!r}: token times must ascend")
    told = (record.queue_s, record.prefill_s, record.t_due_ns)
    if any(value is not None and type(value) not in (int, float) for value in told):
        raise ValueError(f"request {record.index!r}: what the engine tells must be numbers")
    if record.output_ids is not None:
        _check_output(record, record.output_ids)
    if record.cached_tokens is not None and not _is_count(record.cached_tokens):
        raise ValueError(f"request {record.index!r}: cached_tokens is {record.cached_tokens!r}")


def _check_output(record: RequestRecord, ids: list[int]) -> None:
    """Output tokens are counted again here, from the ids: no engine's own count is believed."""
    if not all(_is_count(token) for token in ids):
        raise ValueError(f"request {record.index!r}: its output ids must be whole numbers, not negative")
    if len(ids) != record.tokens_out or ids_sha256(ids) != record.output_sha256:
        raise ValueError(f"request {record.index!r}: {len(ids)} output ids are not the {record.tokens_out} told of")


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _requests(folder: Path, result: AttemptResult) -> list[RequestRecord]:
    raw = _read(folder / requests_file(result.attempt))
    if raw is None or hashlib.sha256(raw).hexdigest() != result.requests_sha256:
        raise RunFailed("bad_result", "the records of the requests are missing or not the ones that the result names")
    try:
        records = [RequestRecord.decode(line) for line in raw.splitlines()]
        for record in records:
            _check_record(record)
    except (ContractError, ValueError, TypeError) as error:
        raise RunFailed("bad_result", str(error)) from error
    _check_sums(result, records)
    return records


def _check_sums(result: AttemptResult, records: Sequence[RequestRecord]) -> None:
    """The windows' counts must be those of the records. Raises `RunFailed(bad_result)`."""
    if len(records) != result.requests:
        raise RunFailed("bad_result", f"{len(records)} request records where the result counts {result.requests}")
    for window in result.windows:
        own = [record for record in records if record.window == window.window]
        if result.counting == "by_token_time":
            requests, _, tokens = counted_inside(own, window.t_begin_ns, window.t_end_ns)
        else:
            requests, tokens = len(own), sum(record.tokens_out for record in own)
        if (requests, tokens) != (window.requests, window.tokens_out):
            recorded, counted = f"{requests} requests, {tokens} tokens", f"{window.requests}, {window.tokens_out}"
            raise RunFailed("bad_result", f"window {window.window}: {recorded} recorded, {counted} counted")


def _read(path: Path) -> bytes | None:
    try:
        return read_entrusted(path, MAX_FILE_B)
    except OSError as error:
        raise RunFailed("bad_result", f"{path.name} cannot be read: {error}") from error
