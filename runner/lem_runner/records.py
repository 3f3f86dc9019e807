"""What an attempt leaves behind: the per-request records and the result, each whole or not at all."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lem_runner.backends import Generated
from lem_runner.failures import SessionFolderError
from lem_runner.prompts import Prompt, ids_sha256
from lem_runner.results import Counting, RequestRecord, WindowRecord


@dataclass(frozen=True)
class BatchOutcome:
    """One batch as it happened; turned into records only after the window."""

    prompts: list[Prompt]
    t_submit_ns: int
    generated: list[Generated]


def request_records(window: int, batches: Iterable[BatchOutcome]) -> list[RequestRecord]:
    """One record per request, numbered in the order of submission."""
    records: list[RequestRecord] = []
    for number, batch in enumerate(batches):
        for prompt, made in zip(batch.prompts, batch.generated, strict=True):
            records.append(request_record(len(records), window, number, prompt, batch.t_submit_ns, made))
    return records


def request_record(
    index: int, window: int, batch: int, prompt: Prompt, t_submit_ns: int, made: Generated, t_due_ns: int | None = None
) -> RequestRecord:
    """What is kept of one request."""
    return RequestRecord(
        index=index,
        window=window,
        batch=batch,
        prompt_sha256=prompt.sha256,
        tokens_in=len(prompt.ids),
        tokens_out=len(made.tokens),
        t_submit_ns=t_submit_ns,
        t_first_ns=made.t_first_ns,
        t_end_ns=made.t_end_ns,
        token_ns=made.token_ns,
        stop=made.stop,
        output_sha256=ids_sha256(made.tokens),
        queue_s=made.queue_s,
        prefill_s=made.prefill_s,
        cached_tokens=made.cached_tokens,
        t_due_ns=t_due_ns,
        output_ids=made.tokens,
    )


@dataclass(frozen=True)
class Outcome:
    """What a window gave, ready to be written: `counting`, `load` and `gauges` as in `AttemptResult`."""

    window: WindowRecord
    requests: list[RequestRecord]
    gauges: dict[str, float | None]
    counting: Counting = "whole_requests"
    load: dict[str, Any] = field(default_factory=dict)


def window_record(window: int, t_begin_ns: int, t_end_ns: int, batches: list[BatchOutcome]) -> WindowRecord:
    """The sums over one window."""
    return WindowRecord(
        window=window,
        t_begin_ns=t_begin_ns,
        t_end_ns=t_end_ns,
        batches=len(batches),
        requests=sum(len(batch.generated) for batch in batches),
        tokens_in=sum(len(prompt.ids) for batch in batches for prompt in batch.prompts),
        tokens_out=sum(len(made.tokens) for batch in batches for made in batch.generated),
    )


def publish(path: Path, content: bytes) -> str:
    """Write a file so that a kill at any moment leaves all of it or nothing; returns its sha256.

    `SessionFolderError` if it cannot be written.
    """
    try:
        _write_whole(path, content)
    except OSError as error:
        raise SessionFolderError(f"{path.name} cannot be written: {error.strerror}") from error
    return hashlib.sha256(content).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: what JSON does not know becomes its text, a number that is none becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)
