"""The rows of an export, in the order of `fields`: figures of attempts, and the samples around them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from lemctl.report.fields import READING_KEYS
from lemctl.store.database import Store
from lemctl.store.read_results import export_rows
from lemctl.store.read_traces import SampledAttempt, raw_samples

NS_PER_S = 1e9
_AXES = 7


def figure_rows(store: Store, campaign_id: int | None) -> Iterator[list[Any]]:
    """Every metric of every ended attempt of a campaign, or of all."""
    for row in export_rows(store.connection, campaign_id):
        values = list(row)
        values[_AXES] = json.loads(values[_AXES])
        yield values


def sample_rows(store: Store, attempts: list[SampledAttempt]) -> Iterator[list[Any]]:
    """Every reading that was taken while the attempts lasted, of every GPU that was read."""
    for one in attempts:
        attempt = one.attempt
        names = [name for name, _ in attempt.timeline]
        begins = [t_ns for _, t_ns in attempt.timeline]
        lead = [one.campaign, attempt.run, one.number, one.uuid]
        for gpu, series, t_ns, reading in raw_samples(
            store.connection, attempt.boot_id, attempt.begin_ns, attempt.end_ns
        ):
            place = bisect_right(begins, t_ns) - 1
            phase = names[place] if place >= 0 else None
            inside = any(begin_ns <= t_ns <= end_ns for begin_ns, end_ns in attempt.windows)
            when = [attempt.boot_id, t_ns, (t_ns - attempt.begin_ns) / NS_PER_S, phase, int(inside)]
            yield [*lead, gpu, series, *when, *(reading.get(key) for key in READING_KEYS), reading]
