"""Preparing prompts: what is chosen, what it is called, and what is said when something is missing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lem_runner.datasets import DataError
from lem_runner.forms import Form, prompts_of
from lem_runner.prompts import Prompt, model_folder_name, prompt_key, tokenizer_identity, tokenizer_sha256

RANDOM_MODEL = {
    "kind": "random",
    "name": "shape",
    "config": {"model_type": "llama", "vocab_size": 512, "eos_token_id": 7},
}


class Job:
    """A prefetch job in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompts_dir = folder / "prompts"
        self.body: dict[str, Any] = {
            "model": RANDOM_MODEL,
            "models_dir": str(folder / "models"),
            "prompts_dir": str(self.prompts_dir),
            "datasets": [],
            "download": False,
        }

    def run(self, *datasets: dict[str, Any], **changes: Any) -> subprocess.CompletedProcess[str]:
        self.body["datasets"] = list(datasets)
        self.body.update(changes)
        path = self.folder / "job.json"
        path.write_text(json.dumps(self.body))
        command = [sys.executable, "-m", "lem_runner", "prefetch", str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=_environment())

    def metas(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.prompts_dir.glob("*.meta.json"))]

    def prompts(self, key: str) -> list[Prompt]:
        lines = (self.prompts_dir / f"{key}.jsonl").read_bytes().splitlines()
        return [Prompt.decode(line) for line in lines]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def drawn(**changes: Any) -> dict[str, Any]:
    return {"kind": "random", "input_len": 16, "prompts": 5, "seed": 1, "template": "none", **changes}


def text_file(path: Path, **changes: Any) -> dict[str, Any]:
    return {"kind": "file", "path": str(path), "prompts": 2, "seed": 1, "template": "none", **changes}


def test_random_prompts_have_the_exact_length_and_no_special_ids(job: Job) -> None:
    done = job.run(drawn())
    assert done.returncode == 0, done.stderr
    (meta,) = job.metas()
    prompts = job.prompts(meta["key"])
    assert [len(prompt.ids) for prompt in prompts] == [16] * 5
    assert all(prompt.text is None for prompt in prompts)
    ids = {token for prompt in prompts for token in prompt.ids}
    assert not ids & {0, 1, 2, 7}
    assert max(ids) < 512
    content = (job.prompts_dir / f"{meta['key']}.jsonl").read_bytes()
    assert meta["sha256"] == hashlib.sha256(content).hexdigest()
    assert (meta["prompts"], meta["tokens"], meta["min_length"], meta["max_length"]) == (5, 80, 16, 16)


def test_the_host_computes_the_same_key(job: Job) -> None:
    dataset = drawn()
    identity = tokenizer_identity(RANDOM_MODEL, None)
    key = prompt_key(dataset, 5, 1, "none", identity)
    assert job.run({**dataset, "key": key}).returncode == 0
    assert [meta["key"] for meta in job.metas()] == [key]


def test_a_key_that_no_longer_fits_is_refused(job: Job, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("one\ntwo\n")
    dataset = text_file(data)
    key = prompt_key(dataset, 2, 1, "none", tokenizer_identity(RANDOM_MODEL, None))
    data.write_text("one\nchanged\n")
    done = job.run({**dataset, "key": key})
    assert done.returncode == 1
    assert "changed" in done.stderr
    assert job.metas() == []


def test_key_follows_content_not_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("one\n")
    second.write_text("one\n")

    def key(path: Path, **changes: Any) -> str:
        dataset = text_file(path, **changes)
        return prompt_key(dataset, dataset["prompts"], dataset["seed"], dataset["template"], "t")

    assert key(first) == key(second)
    assert len({key(first), key(first, seed=2), key(first, prompts=3), key(first, template="chat")}) == 4
    assert key(first) != key(first, column="text")
    second.write_text("two\n")
    assert key(first) != key(second)


def test_text_of_a_random_model_becomes_its_bytes(job: Job, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("grün\n\nblue\n")
    assert job.run(text_file(tmp_path / "data.txt")).returncode == 0
    (meta,) = job.metas()
    prompts = job.prompts(meta["key"])
    assert {prompt.text for prompt in prompts} == {"grün", "blue"}
    for prompt in prompts:
        assert prompt.text is not None
        assert bytes(prompt.ids) == prompt.text.encode()


def test_selection_follows_the_seed(job: Job, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("".join(f"prompt {number}\n" for number in range(100)))
    datasets = [text_file(tmp_path / "data.txt", prompts=10, seed=seed) for seed in (1, 1, 2)]
    assert job.run(*datasets).returncode == 0
    chosen = [[prompt.text for prompt in job.prompts(meta["key"])] for meta in job.metas()]
    assert len(chosen) == 2
    assert chosen[0] != chosen[1]
    assert all(len(set(texts)) == 10 for texts in chosen)


def test_what_is_prepared_is_not_prepared_again(job: Job) -> None:
    job.run(drawn())
    (path,) = job.prompts_dir.glob("*.jsonl")
    before = path.stat().st_ino
    assert job.run(drawn()).returncode == 0
    assert path.stat().st_ino == before
    (job.prompts_dir / path.name.replace(".jsonl", ".meta.json")).unlink()
    assert job.run(drawn()).returncode == 0
    assert path.stat().st_ino != before


def test_progress_is_one_json_line_a_step(job: Job) -> None:
    lines = [json.loads(line) for line in job.run(drawn(), drawn(seed=2)).stdout.splitlines()]
    assert all(set(line) == {"step", "done", "total", "message"} for line in lines)
    assert (lines[-1]["step"], lines[-1]["done"], lines[-1]["total"]) == ("prompts", 2, 2)


def test_one_bad_data_set_does_not_stop_the_others(job: Job, tmp_path: Path) -> None:
    done = job.run(text_file(tmp_path / "missing.txt"), drawn())
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "missing.txt" in done.stderr
    assert len(job.metas()) == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "table", "name": "alpaca"}, "alpaca: kind 'table' is none of random, file, hub"),
        ({"kind": "hub", "name": "some/set"}, "data set 'some/set' is not in"),
        ({"prompts": 0}, "prompts is 0"),
        ({"input_len": None}, "input_len"),
        ({"template": "chat"}, "template 'chat'"),
        ({"template": "poem"}, "neither none nor chat"),
    ],
)
def test_a_data_set_that_cannot_be_is_one_clear_line(job: Job, change: dict[str, Any], text: str) -> None:
    done = job.run(drawn(**change))
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_too_few_prompts_are_not_made_up(job: Job, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("one\n")
    done = job.run(text_file(tmp_path / "data.txt"))
    assert done.returncode == 1
    assert "1 prompts, 2 are asked for" in done.stderr


def test_bytes_need_a_vocabulary_of_256(job: Job, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("one\ntwo\n")
    done = job.run(
        text_file(tmp_path / "data.txt"), model={"kind": "random", "name": "s", "config": {"vocab_size": 64}}
    )
    assert done.returncode == 1
    assert "256" in done.stderr


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ({"kind": "path", "name": "none-such"}, "none-such"),
        ({"kind": "path", "name": "../../etc"}, "not a path"),
        ({"kind": "hf", "name": "some/model"}, "some--model"),
        ({"kind": "random", "name": "s", "config": {}}, "vocab_size"),
        ({"kind": "zip", "name": "s"}, "zip"),
    ],
)
def test_a_missing_model_is_one_clear_line(job: Job, model: dict[str, Any], text: str) -> None:
    done = job.run(drawn(), model=model)
    assert done.returncode == 1
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_job_that_cannot_be_read_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    command = [sys.executable, "-m", "lem_runner", "prefetch", str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_drawn_ids_need_no_tokenizer_of_a_stored_model(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"vocab_size": 100, "eos_token_id": [5, 6]}')
    done = job.run(drawn(), model={"kind": "path", "name": "tiny"})
    assert done.returncode == 0, done.stderr
    (meta,) = job.metas()
    ids = {token for prompt in job.prompts(meta["key"]) for token in prompt.ids}
    assert not ids & {0, 1, 2, 5, 6}
    assert meta["tokenizer_sha256"] == tokenizer_sha256(folder)
    (tmp_path / "data.txt").write_text("one\ntwo\n")
    done = job.run(text_file(tmp_path / "data.txt"))
    assert done.returncode == 1
    assert "no tokenizer files" in done.stderr


def test_tokenizer_hash_follows_content_and_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 100}')
    hashes = [tokenizer_sha256(tmp_path)]
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    assert tokenizer_sha256(tmp_path) == hashes[0]
    (tmp_path / "tokenizer.json").write_text("{}")
    hashes.append(tokenizer_sha256(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("{{ x }}")
    hashes.append(tokenizer_sha256(tmp_path))
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 101}}')
    hashes.append(tokenizer_sha256(tmp_path))
    assert len(set(hashes)) == 4


@pytest.mark.parametrize("name", ["a/b/c", "../x", "a b", "", "a/..%2f"])
def test_no_model_name_leaves_the_models_folder(name: str) -> None:
    with pytest.raises(ValueError):
        model_folder_name(name)


def test_model_folders_differ_by_revision() -> None:
    assert model_folder_name("meta-llama/Llama-3.1-8B") == "meta-llama--Llama-3.1-8B"
    assert model_folder_name("meta-llama/Llama-3.1-8B", "v1") == "meta-llama--Llama-3.1-8B--v1"


@pytest.mark.parametrize(
    ("file", "content", "rows"),
    [
        ("a.txt", "one\n\n two \n", ["one", " two "]),
        ("a.txt", "\ufeffone\n", ["one"]),
        ("a.jsonl", '{"prompt": "one"}\n"two"\n\n', ["one", "two"]),
        (
            "a.jsonl",
            '{"instruction": "add", "input": "1 2"}\n{"instruction": "go", "input": ""}\n',
            ["add\n\n1 2", "go"],
        ),
        ("a.jsonl", '{"question": "why", "answer": "so"}\n', ["why"]),
        ("a.jsonl", '{"text": "line\\u2028inside"}\n', ["line\u2028inside"]),
        ("a.json", '[{"text": "one"}, "two"]', ["one", "two"]),
        ("a.csv", 'id,prompt\n1,"one, and\ntwo"\n2,three\n', ["one, and\ntwo", "three"]),
    ],
)
def test_rows_of_each_format(tmp_path: Path, file: str, content: str, rows: list[str]) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert list(prompts_of([tmp_path / file], Form())) == rows


def test_a_named_column_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "no", "body": "yes"}\n')
    assert list(prompts_of([tmp_path / "a.jsonl"], Form("body"))) == ["yes"]


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("a.arrow", b"", "ends in one of"),
        ("a.txt", b"\xff\xfe", "UTF-8"),
        ("a.json", b'{"a": 1}', "a list of prompts"),
        ("a.json", b"[1]", "item 0"),
        ("a.jsonl", b'{"prompt": "x"}\n{"answer": 1}\n', "line 2: no column prompt or text or question or instruction"),
        ("a.jsonl", b"{\n", "line 1: no JSON"),
        ("a.csv", b"id,body\n1,x\n", "it has id, body"),
    ],
)
def test_a_file_without_prompts_says_where(tmp_path: Path, file: str, content: bytes, text: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=text):
        list(prompts_of([tmp_path / file], Form()))


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=20))
def test_json_lines_come_back_as_written(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    path.write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows), encoding="utf-8")
    assert list(prompts_of([path], Form())) == rows
