"""Prompt preparation with a model's own tokenizer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from runner_process import RUNNER_ROOT

from lem_runner.prompts import Prompt, prompt_key, tokenizer_sha256

pytestmark = pytest.mark.engine

#: The tokenizer asked directly, as a person would.
TOKENIZE = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
plain = tokenizer(sys.argv[2])["input_ids"]
chat = tokenizer.apply_chat_template([{"role": "user", "content": sys.argv[2]}], add_generation_prompt=True)
print(json.dumps([plain, list(chat["input_ids"]) if hasattr(chat, "keys") else chat]))
"""
TEXT = "the cat sat, colder"


def _prefetch(python: str, folder: Path, job: dict[str, Any], **environment: str) -> subprocess.CompletedProcess[str]:
    path = folder / "job.json"
    path.write_text(json.dumps({"prompts_dir": str(folder / "prompts"), "models_dir": str(folder), **job}))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [python, "-m", "lem_runner", "prefetch", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, "PYTHONPATH": str(RUNNER_ROOT), **environment},
    )


def test_ids_are_those_of_the_models_own_tokenizer(engine_python: str, stored_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text(TEXT + "\n")
    datasets = [
        {"kind": "file", "path": str(data), "prompts": 1, "seed": 0, "template": template}
        for template in ("none", "chat")
    ]
    job = {"model": {"kind": "path", "name": "tiny", "path": str(stored_model)}, "datasets": datasets}
    done = _prefetch(engine_python, tmp_path, job)
    assert done.returncode == 0, done.stderr
    direct = subprocess.run(
        [engine_python, "-c", TOKENIZE, str(stored_model), TEXT], capture_output=True, text=True, check=True
    )
    identity = tokenizer_sha256(stored_model)
    for dataset, ids in zip(datasets, json.loads(direct.stdout), strict=True):
        key = prompt_key(dataset, 1, 0, str(dataset["template"]), identity)
        (line,) = (tmp_path / "prompts" / f"{key}.jsonl").read_bytes().splitlines()
        prompt = Prompt.decode(line)
        assert prompt.ids == ids
        assert len(prompt.ids) > 2
        assert prompt.text is not None
        assert TEXT in prompt.text


@pytest.mark.parametrize("template", ["none", "chat"])
def test_lengths_are_exact_and_what_the_template_writes_stays(
    engine_python: str, stored_model: Path, tmp_path: Path, template: str
) -> None:
    data = tmp_path / "data.txt"
    data.write_text(f"{TEXT}\n{TEXT * 9}\n")
    entry = {"kind": "file", "path": str(data), "prompts": 2, "seed": 0, "template": template}
    datasets = [{**entry, "lengths": lengths} for lengths in ({}, {"truncate": 40, "pad": 40})]
    job = {"model": {"kind": "path", "name": "tiny", "path": str(stored_model)}, "datasets": datasets}
    done = _prefetch(engine_python, tmp_path, job)
    assert done.returncode == 0, done.stderr
    identity = tokenizer_sha256(stored_model)
    natural, exact = (
        [Prompt.decode(line) for line in (tmp_path / "prompts" / f"{key}.jsonl").read_bytes().splitlines()]
        for key in (prompt_key(dataset, 2, 0, template, identity) for dataset in datasets)
    )
    assert sorted(len(prompt.ids) < 40 for prompt in natural) == [False, True]
    assert [len(prompt.ids) for prompt in exact] == [40, 40]
    for before, after in zip(natural, exact, strict=True):
        assert after.ids[:4] == before.ids[:4]
        if template == "chat":
            assert (after.text or "").startswith("<s>user: the cat")
            assert (after.text or "").endswith(" assistant:")


def test_hub_out_of_reach_is_one_clear_line(engine_python: str, tmp_path: Path) -> None:
    job = {"model": {"kind": "hf", "name": "some/model"}, "datasets": [], "download": True}
    done = _prefetch(engine_python, tmp_path, job, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "some/model" in done.stderr
    assert "cannot be reached" in done.stderr


def test_a_model_that_is_there_needs_no_hub(engine_python: str, stored_model: Path, tmp_path: Path) -> None:
    (tmp_path / "some--model").symlink_to(stored_model)
    drawn = {"kind": "random", "input_len": 8, "prompts": 2, "seed": 0, "template": "none"}
    job = {"model": {"kind": "hf", "name": "some/model"}, "datasets": [drawn], "download": True}
    done = _prefetch(engine_python, tmp_path, job, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
