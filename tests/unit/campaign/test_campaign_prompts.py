"""Which prompts a campaign asks for: hub data sets, filters, lengths; and that what says nothing changes no hash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lem_runner.named_datasets import NAMED
from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import plan
from lemctl.campaign.references import dataset_reference
from lemctl.errors import CampaignFileError

Read = Callable[..., CampaignFile]
DRAWN = "dataset: random, random: {input_len: 4}"
HEAD = "name: small\nmodel: hf:org/name\nbackend: pytorch\n"


def workload_of(campaign: CampaignFile) -> dict[str, Any]:
    return dict(plan(campaign).experiments[0].spec["workload"])


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_named_data_set_is_its_repository(name: str) -> None:
    found = dataset_reference(f"{name}@v1", [], {})
    assert (found["kind"], found["name"], found["revision"]) == ("hub", NAMED[name].repository, "v1")
    assert found["split"] == NAMED[name].split


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("hub:org/name", ("org/name", None, None)),
        ("org/name", ("org/name", None, None)),
        ("hub:squad", ("squad", None, None)),
        ("hub:org/name@main:config.v2", ("org/name", "main", "config.v2")),
        ("org/name:en", ("org/name", None, "en")),
        ("hub:alpaca", ("alpaca", None, None)),
    ],
)
def test_any_hub_data_set_is_named_with_revision_and_configuration(written: str, expected: tuple[Any, ...]) -> None:
    found = dataset_reference(written, [], {})
    assert (found["name"], found["revision"], found["config"]) == expected


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("alpacca", "; did you mean alpaca?"),
        ("squad", "or hub:ORG/NAME"),
        ("hub:a/b/c", "no name of a hub data set"),
        ("hub:../x", "no name of a hub data set"),
        ("org/name@", "'' is no revision"),
        ("org/name@a/../b", "is no revision"),
        ("hub:org/name:", "is no configuration"),
        ("hub:", "no name of a hub data set"),
    ],
)
def test_what_names_no_data_set_is_refused_with_the_forms(written: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as refused:
        dataset_reference(written, [], {})
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_filters_and_lengths_are_part_of_the_experiment(read: Read) -> None:
    text = HEAD + (
        "workload:\n  dataset: mmlu\n  prompts: 10\n  select: {where: {subject: [law, art, law]}, min_tokens: 8}\n"
        "  lengths: {truncate: 64, pad: 64}\n"
    )
    found = workload_of(read(text))
    assert found["select"] == {"where": {"subject": ["art", "law"]}, "min_tokens": 8}
    assert found["lengths"] == {"truncate": 64, "pad": 64}
    assert (found["dataset"]["form"], found["dataset"]["split"]) == ("choices", "test")


def test_a_named_column_and_split_replace_those_of_a_named_data_set(read: Read) -> None:
    text = HEAD + "workload: {dataset: mmlu, prompts: 10, select: {column: question, split: dev}}\n"
    dataset = workload_of(read(text))["dataset"]
    assert (dataset["column"], dataset["form"], dataset["split"]) == ("question", None, "dev")


def test_lengths_can_be_swept(read: Read) -> None:
    text = HEAD + "workload: {dataset: gsm8k, prompts: 10}\nsweep: {workload.lengths.truncate: [64, 128]}\n"
    made = plan(read(text)).experiments
    assert [experiment.spec["workload"]["lengths"] for experiment in made] == [{"truncate": 64}, {"truncate": 128}]
    assert len({experiment.hash for experiment in made}) == 2


def test_what_says_nothing_changes_neither_experiment_nor_plan(read: Read, host: Path) -> None:
    plain = HEAD + "workload: {dataset: 'file:questions.jsonl', prompts: 1}\n"
    said = HEAD + "workload: {dataset: 'file:questions.jsonl', prompts: 1, select: {}, lengths: {keep: start}}\n"
    one, other = (plan(read(text)) for text in (plain, said))
    assert one.experiments[0].hash == other.experiments[0].hash
    assert set(one.experiments[0].spec["workload"]["dataset"]) == {"kind", "name", "sha256", "revision", "input_len"}


@pytest.mark.parametrize(
    ("workload", "key", "told"),
    [
        ("dataset: random", "workload.dataset", "random prompts need their length"),
        (f"{DRAWN}, lengths: {{draw: 'uniform(1, 2)'}}", "workload.lengths.draw", "either drawn"),
        (f"{DRAWN}, lengths: {{truncate: 2}}", "workload.lengths.truncate", "have their length"),
        (f"{DRAWN}, select: {{column: x}}", "workload.select.column", "not chosen from"),
        ("dataset: 'file:questions.jsonl', select: {split: test}", "workload.select.split", "only hub data sets"),
        ("dataset: gsm8k, select: {min_tokens: 9, max_tokens: 3}", "workload.select.min_tokens", "above max_tokens"),
        ("dataset: gsm8k, lengths: {truncate: 4, pad: 9}", "workload.lengths.pad", "more than truncate leaves"),
        ("dataset: gsm8k, lengths: {draw: 'zipf(1)'}", "workload.lengths.draw", "is no distribution of lengths"),
        ("dataset: gsm8k, lengths: {draw: 'uniform(1, 9)', pad: 3}", "workload.lengths.draw", "nothing to do"),
        ("dataset: gsm8k, lengths: {pad: 9, keep: end}", "workload.lengths.keep", "has no effect"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_at_its_key(read: Read, workload: str, key: str, told: str) -> None:
    with pytest.raises(CampaignFileError) as refused:
        plan(read(HEAD + f"workload: {{prompts: 1, {workload}}}\n"))
    assert refused.value.key == key
    assert told in str(refused.value)
