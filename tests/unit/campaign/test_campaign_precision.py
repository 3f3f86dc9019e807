"""Cycles that go on until a figure is precise enough, and precisions that cannot be."""

from __future__ import annotations

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.errors import CampaignFileError

BASE = {
    "name": "name: x",
    "model": "model: hf:a/b",
    "backend": "backend: pytorch",
    "workload.dataset": "workload.dataset: random",
    "input_len": "workload.random.input_len: 4",
}


def test_the_publication_preset_repeats_until_it_is_precise() -> None:
    text = "\n".join(BASE.values())
    made = plan(loads(text, preset="publication"))
    assert made.document["cycles"] == {
        "until": {"metric": "energy_per_output_token", "half_width": 0.02},
        "min": 5,
        "max": 40,
    }
    assert len(made.runs) == 40 * len(made.experiments)


@pytest.mark.parametrize(
    ("cycles", "order", "words"),
    [
        ("{until: {half_width: 2}}", "blocked", "such as 2%"),
        ("{until: {half_width: '0%'}}", "blocked", "such as 2%"),
        ("{until: {half_width: '2%'}, min: 9, max: 5}", "blocked", "min 9 is above max 5"),
        ("{until: {half_width: '2%'}}", "shuffled", "has none"),
    ],
)
def test_an_impossible_precision_is_refused(cycles: str, order: str, words: str) -> None:
    text = "\n".join([*BASE.values(), f"cycles: {cycles}", f"order: {order}"])
    with pytest.raises(CampaignFileError, match=words):
        plan(loads(text))
