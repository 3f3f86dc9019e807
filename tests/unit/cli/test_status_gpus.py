"""What `status` tells of the GPUs is what was stored last on this boot; NVML is not touched."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from build import Night, plan_of

from lemctl.cli.status_view import gpus_now
from lemctl.clock import boot_id
from lemctl.measure.throttling import slowed_by
from lemctl.report.status import DaemonState, GpuNow, Status, status_text
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
    lane = {"phase": "cooling", "since_mono_ns": now_ns - 45 * S, "gpus": ["GPU-1"], "cooling_to_c": {"GPU-1": 37.0}}
    (gpu,) = gpus_now(night.store, {"lane:gpu": lane})
    assert (gpu.name, gpu.power_w, gpu.temp_c, gpu.busy_pct, gpu.sm_clock_mhz) == ("H100", 70.0, 51, 0, None)
    assert (gpu.held, gpu.slowed_by) == ("THROTTLED", ("hardware thermal",))
    assert (gpu.cooling_from_c, gpu.cooling) == (74.0, "cooling from 74 C to 37 C")
    assert 0 < gpu.age_s < 30
    (working,) = gpus_now(night.store, {"lane:gpu": {"phase": "window", "since_mono_ns": now_ns}})
    assert working.cooling is None


def test_only_the_gpus_of_the_lane_that_cools_are_told_to_cool(night: Night) -> None:
    now_ns = time.monotonic_ns()
    names = ("GPU-1", "GPU-2", "GPU-3")
    with night.store.transaction() as tx:
        devices = {name: know_device(tx, name, {"name": "H100"}) for name in names}
    add_samples(night.store, devices, boot_id(), [Row(now_ns - S, {"temp_c": 60}, name) for name in names])
    cooling = {"phase": "cooling", "since_mono_ns": now_ns - 5 * S, "gpus": ["GPU-2"]}
    closing = {"phase": "closing", "since_mono_ns": now_ns - 5 * S, "gpus": ["GPU-3"], "cooling_to_c": {"GPU-3": 30.5}}
    told = [gpu.cooling for gpu in gpus_now(night.store, {"lane:a": cooling, "lane:b": closing})]
    assert told == [None, "cooling from 60 C", "cooling from 60 C to 30 C"]


def test_what_slows_a_gpu_down_has_a_line_of_its_own_in_the_status() -> None:
    gpu = GpuNow("GPU-1", "H100", 1.0, 300.0, 88.0, 100.0, 900.0, "THROTTLED", None, None, slowed_by(0x4 | 0x40 | 0x80))
    text = status_text(Status(DaemonState(None, None, None), [], None, [], [], [], [], "/", gpus=[gpu]))
    assert "H100: 300 W, 88 C, busy 100 %, 900 MHz, THROTTLED\n" in text
    assert "          throttled: hardware thermal, power brake" in text


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
