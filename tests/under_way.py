"""A campaign in the middle of its night, the same each time: results, failures, a run that is tried again, one that the
gate keeps waiting while its GPU cools, and a second campaign behind it. Built through the store's own moves."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "store"))

from build import BOOT, Night, plan_of

from lemctl.paths import Home
from lemctl.store.moves import begin_attempt, to_cooling
from lemctl.store.sessions import NewSession, attach
from lemctl.store.sessions import begin as begin_session
from live_screen import AHEAD, GPU, ahead_utc, read_gpu, said_by_a_daemon

BESIDE = "GPU-11111111-1111-1111-1111-111111111111"
MISSED = "CUDA error: device-side assert triggered"


@contextmanager
def under_way(home: Home) -> Iterator[None]:
    """For as long as a test looks at it."""
    night = Night(home)
    night.add(plan_of("night", batch_sizes=(1, 2, 4, 8), cycles=100))
    night.add(plan_of("later", cycles=1), priority=-1)
    night.activate()
    first, second, third, fourth, fifth, sixth, *_ = night.runs("night")
    night.finish(first, figures={"energy_per_output_token": 0.455}, gpus=(GPU,))
    night.finish(second, "SUSPECT", figures={"energy_per_output_token": 0.119, "output_tokens_per_s": 160.0})
    night.fail(third, "engine_error", MISSED, "Traceback\n  boom")
    night.fail(fourth, "oom_gpu", "CUDA out of memory: 2.0 GB more were asked for")
    night.fail(fifth, "invalid", "a foreign process on the GPU", retry=True)
    _cool(night, home, sixth)
    night.close()
    read_gpu(home, 300.0, AHEAD, facts={"name": "NVIDIA H100 80GB HBM3"}, at=_cooling)
    beside = {"name": "NVIDIA H100 80GB HBM3", "index": 1}
    read_gpu(home, 412.0, AHEAD, gpu=BESIDE, facts=beside, temp_c=89, event_reasons=0x4 | 0x40)
    lane: dict[str, Any] = {
        "campaign": "night",
        "run": sixth,
        "cycle": 2,
        "phase": "cooling",
        "waits_for": "52.0 C, waiting for 37.0 C (12 s so far, about 40 s more)",
        "gpus": [GPU],
        "cooling_to_c": {GPU: 37.0},
        "since_utc": ahead_utc(),
        "since_mono_ns": time.monotonic_ns() - (AHEAD.start + 60) * 10**9,
    }
    with said_by_a_daemon(home, **{"gpu-00000000": lane}):
        yield


def _cool(night: Night, home: Home, run: int) -> None:
    """The attempt that is under way, with what its engine has said."""
    with night.store.transaction() as tx:
        attempt = begin_attempt(tx, run, "gpu-00000000", night.clock, BOOT, "host-1")
        new = NewSession(attempt.uuid, "host-1", "gpu-00000000", "replay", "local", "engine", "key", "{}", BOOT)
        attach(tx, attempt.id, begin_session(tx, new, night.clock))
        to_cooling(tx, attempt, night.clock)
    folder = home.sessions / attempt.uuid
    folder.mkdir(parents=True)
    lines = [f"loading shard {shard} of 40" for shard in range(1, 41)]
    (folder / "stderr.log").write_text("\n".join([*lines, "engine ready: 16.1 GB of weights"]) + "\n")


def _cooling(age_s: int) -> dict[str, Any]:
    """Work, then an exponential fall towards 35 C in the last 60 readings."""
    from_end_s = age_s - AHEAD.start
    if from_end_s > 60:
        return {"power_mw": 690_000 + 5_000 * (from_end_s % 4), "temp_c": 74, "event_reasons": 0x4}
    temp_c = round(35 + 39 * math.exp((from_end_s - 60) / 40))
    return {
        "power_mw": 70_000 + 500 * temp_c,
        "temp_c": temp_c,
        "gpu_utilisation_pct": 0,
        "sm_clock_mhz": 1200,
        "event_reasons": 0,
    }
