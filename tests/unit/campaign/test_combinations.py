"""What an engine refuses of its work at run time, and the campaign shows: refused in one line, where it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lem_runner import portable
from lem_runner.protocol import LOAD_MODES
from lemctl.campaign import plan as planning
from lemctl.campaign.combinations import RULES
from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import plan
from lemctl.errors import CampaignFileError

Read = Callable[..., CampaignFile]

HEAD = """\
name: x
model: hf:org/name
backend: {backend}
workload: {{dataset: random, random: {{input_len: 100}}, prompts: 64, max_new_tokens: 28}}
{lines}
"""
CLOSED = "workload.load: {mode: closed, concurrency: 4}"
POISSON = "workload.load: {mode: poisson, rate: 4/s}"
CONTINUOUS = "workload.load: {batching: continuous, batch_size: 4}"
BATCHES = "workload.load: {batch_size: 8}"
SINGLY = "workload.load: {batch_size: 1}"
DRAFTING = {
    "assistant_model": ("engine", "path:tiny"),
    "prompt_lookup_num_tokens": ("sampling", 3),
    "assistant_early_exit": ("sampling", 4),
    "use_mtp": ("sampling", True),
}


@pytest.fixture(autouse=True)
def catalogues(host: Path) -> None:
    """Every engine serves every load, and pytorch drafts."""
    drafting = [
        {"name": name, "type": "any", "default": None, "group": group, "stability": "stable"}
        for name, (group, _) in DRAFTING.items()
    ]
    own = {"pytorch": drafting, "vllm": [], "replay": [], "tensorrt": []}
    for name in ("tensor_parallel", "data_parallel"):
        own["pytorch"].append({"name": name, "type": "int", "default": 1, "group": "engine", "stability": "stable"})
    own["tensorrt"].append(
        {"name": "max_seq_len", "type": "int", "default": None, "group": "engine", "stability": "stable"}
    )
    for backend, rows in own.items():
        folder = host / "images" / backend
        folder.mkdir(exist_ok=True)
        body = {"backend": backend, "engine_version": "1.2.3", "parameters": rows, "loads": LOAD_MODES}
        (folder / "params.json").write_text(json.dumps(body))


def campaign(backend: str, *lines: str) -> str:
    return HEAD.format(backend=backend, lines="\n".join(lines))


def drafting_line(name: str) -> str:
    group, value = DRAFTING[name]
    return f"pytorch.{group}.{name}: {json.dumps(value)}"


def ranks(name: str) -> str:
    return f"engine.{name}: 2"


@pytest.mark.parametrize(
    ("backend", "parameter", "load", "words"),
    [
        ("pytorch", "engine.data_parallel: 2", CLOSED, "cannot serve mode closed; set engine.data_parallel to 1"),
        ("pytorch", "engine.data_parallel: 2", POISSON, "cannot serve mode poisson"),
        ("replay", "engine.data_parallel: 2", CONTINUOUS, "cannot serve continuous batching"),
        ("pytorch", "engine.data_parallel: 9", BATCHES, "64 prompts in batches of 8 are 8, fewer than 9 replicas; at"),
        ("pytorch", ranks("tensor_parallel"), CLOSED, "mode closed is served by one process, not by 2; set engine.ten"),
        ("pytorch", ranks("tensor_parallel"), CONTINUOUS, "continuous batching is served by one process"),
        ("pytorch", ranks("pipeline_parallel"), POISSON, "mode poisson is served by one process"),
        *(("pytorch", drafting_line(name), BATCHES, "for batches of 8; set workload.load.batch") for name in DRAFTING),
        *(("pytorch", drafting_line(name), CLOSED, "tokens are not drafted under mode closed") for name in DRAFTING),
        ("vllm", "engine.max_model_len: 127", BATCHES, "prompts of 100 tokens and 28 new ones are 128, more than 127"),
        ("replay", "engine.max_model_len: 127", CLOSED, "more than 127; raise engine.max_model_len"),
        ("tensorrt", "engine.max_model_len: 127", BATCHES, "more than 127; raise engine.max_model_len"),
        ("tensorrt", "tensorrt.engine.max_seq_len: 127", BATCHES, "more than 127; raise engine.max_seq_len"),
    ],
)
def test_what_an_engine_cannot_do_is_one_line_with_its_place(
    read: Read, backend: str, parameter: str, load: str, words: str
) -> None:
    with pytest.raises(CampaignFileError) as caught:
        plan(read(campaign(backend, load, parameter)))
    assert words in str(caught.value)
    assert (caught.value.key, caught.value.line) == (parameter.partition(":")[0], 6)
    assert f"{backend} cannot do this" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "parameter", "load"),
    [
        ("pytorch", "engine.data_parallel: 8", BATCHES),
        ("pytorch", "engine.data_parallel: 1", CLOSED),
        ("vllm", "engine.data_parallel: 2", POISSON),
        ("pytorch", ranks("tensor_parallel"), BATCHES),
        ("vllm", ranks("tensor_parallel"), CLOSED),
        ("tensorrt", ranks("pipeline_parallel"), POISSON),
        *(("pytorch", drafting_line(name), SINGLY) for name in DRAFTING),
        ("vllm", "engine.max_model_len: 128", BATCHES),
        ("tensorrt", "tensorrt.engine.max_seq_len: 128", BATCHES),
    ],
)
def test_what_an_engine_can_do_is_planned(read: Read, backend: str, parameter: str, load: str) -> None:
    assert len(plan(read(campaign(backend, load, parameter))).experiments) == 1


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        # The draw is the seed's: what the preparation will draw is known, and is not the mean.
        ("dataset: random, lengths: {draw: 'normal(90, 30)'}", "shorten workload.lengths.draw"),
        ("dataset: random, lengths: {draw: 'mix(40: 0.5, 101: 0.5)'}", "prompts of 101 tokens and 28 new ones are 129"),
        ("dataset: 'file:questions.jsonl', lengths: {pad: 101}", "shorten workload.lengths.pad"),
    ],
)
def test_lengths_that_are_drawn_or_filled_up_are_known_too(read: Read, dataset: str, words: str) -> None:
    text = campaign("vllm", "engine.max_model_len: 128", BATCHES)
    text = text.replace("dataset: random, random: {input_len: 100}", dataset)
    with pytest.raises(CampaignFileError) as caught:
        plan(read(text))
    assert words in str(caught.value)
    assert (caught.value.key, caught.value.line) == ("engine.max_model_len", 5)
    assert len(plan(read(text.replace("len: 128", "len: 512"))).experiments) == 1


def test_lengths_that_only_the_prompts_know_are_left_to_the_run(read: Read) -> None:
    text = campaign("vllm", "engine.max_model_len: 32", BATCHES)
    text = text.replace("dataset: random, random: {input_len: 100}", "dataset: file:questions.jsonl")
    assert len(plan(read(text)).experiments) == 1


@pytest.mark.parametrize(
    ("swept", "key"),
    [
        ("{engine.tensor_parallel: [1, 2]}", "sweep.engine.tensor_parallel"),
        ("{pytorch.engine.tensor_parallel: [1, 2]}", "sweep.pytorch.engine.tensor_parallel"),
    ],
)
def test_the_place_is_where_it_is_swept(read: Read, swept: str, key: str) -> None:
    with pytest.raises(CampaignFileError) as caught:
        plan(read(campaign("pytorch", CLOSED, f"sweep: {swept}")))
    assert (caught.value.key, caught.value.line) == (key, 6)


def test_an_excluded_combination_is_nobodys_mistake(read: Read) -> None:
    text = campaign(
        "pytorch",
        "sweep: {engine.tensor_parallel: [1, 2], workload.load.batching: [static, continuous]}",
        "exclude: [{engine.tensor_parallel: 2, workload.load.batching: continuous}]",
    )
    assert len(plan(read(text)).experiments) == 3


def test_rules_are_looked_up_once_for_each_engine(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    real = planning.restrictions
    monkeypatch.setattr(planning, "restrictions", lambda *given: looked.append(given) or real(*given))
    numbers = list(range(1, 41))
    text = campaign("vllm", f"sweep: {{workload.max_new_tokens: {numbers}, engine.dtype: [float16, bfloat16]}}")
    assert len(plan(read(text)).experiments) == 80
    assert len(looked) == 2


def test_every_rule_is_for_an_engine_that_there_is() -> None:
    for rule in RULES:
        assert rule.names.keys() <= set(portable.BACKENDS), rule.name
