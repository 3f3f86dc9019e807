"""The presets: layers of a campaign file that stand below the file itself and above the defaults.

They are written in the file's own words, so that a preset can say nothing that a file could not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def preset_table() -> tuple[tuple[str, ...], list[tuple[str, list[Any]]]]:
    """The presets' names, and for each key that any of them sets its value in each, None where it sets none."""
    columns = [flat(values) for values in PRESETS.values()]
    found = dict.fromkeys(key for column in columns for key in column)
    order = list(dict.fromkeys(key.partition(".")[0] for key in found))
    keys = sorted(found, key=lambda key: order.index(key.partition(".")[0]))
    return tuple(PRESETS), [(key, [column.get(key) for column in columns]) for key in keys]


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A preset by dotted keys."""

    def walk(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in tree.items():
            if isinstance(value, Mapping) and name != "cycles":
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    return dict(walk(values, ""))
