"""The presets: layers of a campaign file that stand below the file itself and above the defaults.

They are written in the file's own words, so that a preset can say nothing that a file could not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A window of 60 s is the least that MLPerf Power accepts; 120 s halves the share of the counter's edge error.
_BENCHMARK: dict[str, Any] = {
    "engine": {"dtype": "float16"},
    "sampling": {"do_sample": False},
    "measure": {"window": "60s", "baseline": "30s", "warmup": {"kind": "steady", "max": "180s"}},
    "gate": {"gap": "60s"},
    "cycles": 5,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Nothing is waited for: its figures show that a campaign works, not what an engine needs.
    "quick-test": {
        "workload": {"max_new_tokens": 32, "load": {"batch_size": 1}},
        "measure": {"window": "one_pass", "baseline": "0s", "warmup": {"kind": "one_batch"}},
        "gate": {"kind": "fixed", "gap": "0s"},
        "cycles": 1,
    },
    "throughput": {
        "workload": {"load": {"batch_size": 8, "batching": "dynamic"}},
        "measure": {"window": "30s", "baseline": "10s", "warmup": {"kind": "steady", "max": "180s"}},
        "gate": {"gap": "10s"},
        "cycles": 3,
    },
    "benchmark": _BENCHMARK,
    "publication": {
        **_BENCHMARK,
        "measure": {"window": "120s", "baseline": "30s", "warmup": {"kind": "steady", "min": "30s", "max": "180s"}},
        "cycles": {"until": {"metric": "energy_per_output_token", "half_width": "2%"}, "min": 5, "max": 40},
        "reload_each_block": True,
    },
}
