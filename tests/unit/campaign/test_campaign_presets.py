"""The presets say what their published table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import plan
from lemctl.campaign.presets import PRESETS

Read = Callable[..., CampaignFile]

TABLE: list[dict[str, Any]] = [
    {"preset": "quick-test", "batch_size": 1, "tokens": 32, "batching": "static", "window_s": None, "baseline_s": 0.0,
     "warmup": ("one_batch", 0.0), "gap_s": 0.0, "cycles": 1, "dtype": "auto", "reload": False},
    {"preset": "throughput", "batch_size": 8, "tokens": 128, "batching": "dynamic", "window_s": 30.0,
     "baseline_s": 10.0, "warmup": ("steady", 0.0), "gap_s": 10.0, "cycles": 3, "dtype": "auto", "reload": False},
    {"preset": "benchmark", "batch_size": 1, "tokens": 128, "batching": "static", "window_s": 60.0, "baseline_s": 30.0,
     "warmup": ("steady", 0.0), "gap_s": 60.0, "cycles": 5, "dtype": "float16", "reload": False},
    {"preset": "publication", "batch_size": 1, "tokens": 128, "batching": "static", "window_s": 120.0,
     "baseline_s": 30.0, "warmup": ("steady", 30.0), "gap_s": 60.0, "cycles": 7, "dtype": "float16", "reload": True},
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["preset"])
def test_a_preset_sets_what_its_row_says(read: Read, small: str, row: dict[str, Any]) -> None:
    text = small.replace("cycles: 2\n", "cycles: 7\n" if row["preset"] == "publication" else "")
    done = plan(read(text, preset=row["preset"]))
    spec = done.experiments[0].spec
    measure = spec["measure"]
    assert {
        "preset": done.document["preset"],
        "batch_size": spec["workload"]["load"]["batch_size"],
        "tokens": spec["workload"]["max_new_tokens"],
        "batching": spec["workload"]["load"]["batching"],
        "window_s": measure["window_s"],
        "baseline_s": measure["baseline_s"],
        "warmup": (measure["warmup"]["kind"], measure["warmup"]["min_s"]),
        "gap_s": done.document["gate"]["gap_s"],
        "cycles": done.document["cycles"],
        "dtype": spec["engine"]["dtype"],
        "reload": done.document["reload_each_block"],
    } == row
    assert measure["warmup"]["max_s"] == 180.0
    assert measure["one_pass"] is (row["window_s"] is None)
    assert spec["sampling"] == {"do_sample": False, "seed": 0}


def test_every_preset_is_in_the_table() -> None:
    assert [row["preset"] for row in TABLE] == list(PRESETS)
