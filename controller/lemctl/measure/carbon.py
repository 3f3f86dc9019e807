"""codecarbon, offline, in a process of its own: `python -m lemctl.measure.carbon SETTINGS_JSON`.

Its imports are heavy and its trackers start threads, so it stays out of the daemon. It is used for CPU and memory only:
its GPU reading is 0 without a word where `nvidia-smi` is missing, and ours is the figure. Never the online tracker:
that asks location services, and failing that assumes a country.

Writes one JSON line a second to stdout until stdin ends:

    {"t_mono_ns": ..., "cpu_j": ..., "ram_j": ..., "cpu_basis": "measured" | "estimated"}     cumulative
    {"unavailable": reason}                                                                  once, then exit 4
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Any

J_PER_KWH = 3.6e6
EXIT_UNAVAILABLE = 4


def make_tracker(country_iso_code: str, region: str | None, period_s: float) -> Any:
    """The offline tracker with everything off that writes, reads GPUs or talks to a network."""
    from codecarbon import OfflineEmissionsTracker

    return OfflineEmissionsTracker(
        country_iso_code=country_iso_code,
        region=region,
        measure_power_secs=period_s,
        save_to_file=False,
        save_to_api=False,
        log_level=logging.ERROR,
        gpu_ids=[],
        allow_multiple_runs=True,
    )


def read_tracker(tracker: Any, t_mono_ns: int) -> dict[str, Any]:
    """Cumulative energies of CPU and memory in J, and whether the CPU's comes from a counter or from its TDP."""
    modes = [getattr(part, "_mode", None) for part in getattr(tracker, "_hardware", ())]
    has_counter = any(mode in {"intel_rapl", "intel_power_gadget"} for mode in modes)
    return {
        "t_mono_ns": t_mono_ns,
        "cpu_j": tracker._total_cpu_energy.kWh * J_PER_KWH,
        "ram_j": tracker._total_ram_energy.kWh * J_PER_KWH,
        "cpu_basis": "measured" if has_counter else "estimated",
    }


def main(arguments: Sequence[str]) -> int:
    """Track until the controller closes stdin."""
    settings = json.loads(arguments[0])
    # codecarbon prints; the pipe is for our lines alone.
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(message: dict[str, Any]) -> None:
        os.write(out, json.dumps(message).encode() + b"\n")

    try:
        tracker = make_tracker(settings["country_iso_code"], settings["region"], settings["period_s"])
        tracker.start()
    except Exception as error:  # noqa: BLE001 - an optional meter: whatever it dies of is the reason for its absence
        tell({"unavailable": f"{type(error).__name__}: {error}"})
        return EXIT_UNAVAILABLE
    try:
        with contextlib.suppress(BrokenPipeError):
            while not select.select([sys.stdin], [], [], settings["period_s"])[0]:
                tracker._measure_power_and_energy()
                tell(read_tracker(tracker, time.monotonic_ns()))
    finally:
        tracker.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
