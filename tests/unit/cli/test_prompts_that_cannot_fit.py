"""Prompts longer than a model takes are refused before the night, wherever their length or the model's is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Lemctl

from lemctl.cli.campaign_file import read_plan
from lemctl.engines.prepared import prompt_path, prompt_sets, tokenizer_of
from lemctl.paths import Home
from lemctl.settings import load_settings

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 256,
}  # fmt: skip
TEXT = """\
name: x
model: path:tiny
backend: {backend}
workload: {{{dataset}, prompts: 8, max_new_tokens: 16}}
"""
QUESTIONS = "dataset: 'file:questions.txt'"
DRAWN = "dataset: random, lengths: {draw: 'uniform(245, 250)'}"
SHORT = "dataset: random, random: {input_len: 240}"


@pytest.fixture
def host(tmp_path: Path, engines: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of 256 positions and a file of questions; its folder."""
    monkeypatch.setenv("LEM_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("LEM_DATASETS_DIR", str(tmp_path / "datasets"))
    monkeypatch.setenv("LEM_MIN_FREE_DISK_MB", "0")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "questions.txt").write_text("Why?\n" * 8)
    configure(tmp_path)
    return tmp_path


def configure(host: Path, **changes: Any) -> None:
    folder = host / "models" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA, **changes}))


def campaign(host: Path, backend: str, dataset: str, more: str = "") -> Path:
    file = host / "campaign.yaml"
    file.write_text(TEXT.format(backend=backend, dataset=dataset) + more)
    return file


def prepare(file: Path, max_length: int) -> None:
    """What the preparation leaves beside the prompts."""
    settings = load_settings()
    experiments = read_plan(file, None, None, settings).plan.experiments
    (prompts,) = prompt_sets(experiments)
    path = prompt_path(prompts, tokenizer_of(experiments[0].spec["model"], settings), settings)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    path.with_suffix(".meta.json").write_text(json.dumps({"max_length": max_length}))


@pytest.mark.parametrize("backend", ["pytorch", "vllm"])
def test_drawn_lengths_are_held_against_the_models_own_positions(
    lemctl: Lemctl, home: Home, host: Path, backend: str
) -> None:
    said = lemctl("campaign", "start", str(campaign(host, backend, DRAWN)))
    assert said.code == 4
    assert f"path:tiny on {backend} cannot take its prompts: the longest has 250 tokens, with 16 new" in said.err
    assert "the 256 positions of the model; shorten workload.lengths.draw" in said.err
    assert said.err.count("\n") == 1
    assert not home.database.exists()


def test_a_plan_says_that_it_would_be_refused(lemctl: Lemctl, host: Path) -> None:
    planned = lemctl("campaign", "plan", str(campaign(host, "tensorrt", DRAWN)))
    assert planned.code == 0
    assert "it would be refused: path:tiny on tensorrt cannot take its prompts" in planned.err


@pytest.mark.parametrize("more", ["", "vllm.engine.max_model_len: 200\n"])
def test_the_longest_of_the_prepared_prompts_is_known(lemctl: Lemctl, host: Path, more: str) -> None:
    file = campaign(host, "vllm", QUESTIONS, more)
    assert "cannot take" not in lemctl("campaign", "start", str(file)).err
    prepare(file, 300)
    said = lemctl("campaign", "start", str(file))
    assert said.code == 4
    assert "the longest has 300 tokens" in said.err
    assert ("200 positions of engine.max_model_len" if more else "256 positions of the model") in said.err
    assert "set workload.lengths.truncate" in said.err


@pytest.mark.parametrize(
    ("backend", "dataset", "changes"),
    [
        ("vllm", SHORT, {}),
        ("vllm", DRAWN, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        ("vllm", DRAWN, {"max_position_embeddings": None}),
        ("replay", DRAWN, {}),
    ],
    ids=["fits", "scaled", "unstated", "no positions"],
)
def test_what_may_fit_is_not_refused(
    lemctl: Lemctl, host: Path, backend: str, dataset: str, changes: dict[str, Any]
) -> None:
    configure(host, **changes)
    said = lemctl("campaign", "start", str(campaign(host, backend, dataset)))
    assert "cannot take" not in said.err
    assert "missing: " in said.err
