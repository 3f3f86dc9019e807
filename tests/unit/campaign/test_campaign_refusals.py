"""Keys that the schema knows and this version does not honour are refused by name."""

from __future__ import annotations

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.campaign.refusals import NOT_YET
from lemctl.errors import CampaignFileError

#: For each row of the table, lines of a campaign file that ask for it.
ASKING = {
    "workload.dataset=hub": "workload.dataset: alpaca",
}

BASE = {
    "name": "name: x",
    "model": "model: hf:a/b",
    "backend": "backend: pytorch",
    "workload.dataset": "workload.dataset: random",
    "input_len": "workload.random.input_len: 4",
}


def test_every_refusal_is_tried() -> None:
    assert set(ASKING) == set(NOT_YET)


@pytest.mark.parametrize("row", sorted(NOT_YET))
def test_what_is_not_honoured_is_refused_by_name(row: str) -> None:
    key, _, _ = row.partition("=")
    lines = {**BASE, key: ASKING[row]}
    with pytest.raises(CampaignFileError) as caught:
        loads("\n".join(lines.values()) + "\n", "f.yaml")
    assert NOT_YET[row] in str(caught.value)
    assert caught.value.key == key
    assert caught.value.line is not None


@pytest.mark.parametrize("row", sorted(row for row in NOT_YET if row.startswith(("backend", "workload"))))
def test_nor_can_it_be_swept(row: str) -> None:
    key, _, _ = row.partition("=")
    value = ASKING[row].partition(": ")[2]
    text = "\n".join(BASE.values()) + f"\nsweep: {{{key}: [{value}]}}\n"
    with pytest.raises(CampaignFileError) as caught:
        loads(text, "f.yaml")
    assert NOT_YET[row] in str(caught.value)
    assert caught.value.line == 6


@pytest.mark.parametrize("row", sorted(row for row in NOT_YET if not row.startswith("cycles")))
def test_each_row_is_in_the_schema_and_would_be_accepted_without_its_refusal(row: str) -> None:
    """So that a row cannot outlive a key, nor hide a misspelt one."""
    key, _, _ = row.partition("=")
    lines = {**BASE, key: ASKING[row]}
    if row == "workload.dataset=hub":
        lines.pop("input_len")
    others = {name: sentence for name, sentence in NOT_YET.items() if name != row}
    assert loads("\n".join(lines.values()) + "\n", not_yet=others).name == "x"


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
