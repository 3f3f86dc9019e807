"""What `status` tells of the GPUs is what was stored last on this boot; NVML is not touched."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from build import Night, plan_of

from lemctl.cli.status_view import gpus_now
from lemctl.clock import boot_id
from lemctl.store.read_status import next_queued
from lemctl.store.samples import add_samples, know_device

S = 1_000_000_000


@dataclass(frozen=True)
class Row:
    t_mono_ns: int
    reading: dict[str, Any]
    gpu: str = "GPU-1"
    series: str = "power"


def test_the_newest_reading_and_where_the_cooling_began(night: Night) -> None:
    now_ns = time.monotonic_ns()
    with night.store.transaction() as tx:
        devices = {"GPU-1": know_device(tx, "GPU-1", {"name": "H100"})}
    rows = [
        Row(now_ns - 60 * S, {"power_mw": 300_000, "temp_c": 80}),
        Row(now_ns - 40 * S, {"power_mw": 90_000, "temp_c": 74}),
        Row(now_ns - 1 * S, {"power_mw": 70_000, "temp_c": 51, "gpu_utilisation_pct": 0, "event_reasons": 0x40}),
    ]
    add_samples(night.store, devices, boot_id(), rows)
    add_samples(night.store, devices, "another boot", [Row(now_ns, {"temp_c": 99})])
    (gpu,) = gpus_now(night.store, {"lane:gpu": {"phase": "cooling", "since_mono_ns": now_ns - 45 * S}})
    assert (gpu.name, gpu.power_w, gpu.temp_c, gpu.busy_pct, gpu.sm_clock_mhz) == ("H100", 70.0, 51, 0, None)
    assert (gpu.held, gpu.cooling_from_c) == ("THROTTLED", 74.0)
    assert 0 < gpu.age_s < 30
    (working,) = gpus_now(night.store, {"lane:gpu": {"phase": "window", "since_mono_ns": now_ns}})
    assert working.cooling_from_c is None


def test_a_run_that_is_held_back_is_not_the_next(night: Night) -> None:
    night.add(plan_of())
    night.activate()
    first, second, *_ = night.runs()
    night.fail(first, "infra", "the engine was away", retry=True)
    with night.store.transaction() as tx:
        tx.execute(
            "UPDATE runs SET status_data = json_set(status_data, '$.not_before_utc', '2026-01-05T23:00:00.000000Z')"
            " WHERE id = ?",
            (first,),
        )
    held = next_queued(night.store.connection, 1, "2026-01-05T22:10:00.000000Z")
    due = next_queued(night.store.connection, 1, "2026-01-05T23:10:00.000000Z")
    assert held is not None
    assert held.run == second
    assert due is not None
    assert (due.run, due.why) == (first, "infra")
