"""What of a row is a prompt, and which files of a hub repository hold the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lem_runner.datasets import DataError, read_rows
from lem_runner.forms import Form, prompts_of
from lem_runner.hub_files import ChoiceError, choose_files


def read(tmp_path: Path, rows: list[Any], form: Form | None = None) -> list[str]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(prompts_of([path], form or Form()))


@pytest.mark.parametrize(
    ("row", "form", "prompt"),
    [
        ({"question": "Q?", "choices": ["x", "y"]}, Form(form="choices"), "Q?\nA. x\nB. y\nAnswer:"),
        ({"system_prompt": "S.", "question": "Q?"}, Form(form="system"), "S.\n\nQ?"),
        ({"system_prompt": "", "question": "Q?"}, Form(form="system"), "Q?"),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}, Form(), "u"),
        ({"conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]}, Form(), "h"),
        ({"instruction": "do", "input": "it", "text": "no"}, Form("instruction"), "do\n\nit"),
        ({"problem": "P"}, Form(), "P"),
    ],
)
def test_rows_of_each_form(tmp_path: Path, row: dict[str, Any], form: Form, prompt: str) -> None:
    assert read(tmp_path, [row], form) == [prompt]


def test_filters_compare_values_as_they_are_written(tmp_path: Path) -> None:
    rows = [{"prompt": f"{level}{tag}", "level": level, "tag": tag} for level in (1, 2, 3) for tag in "ab"]
    assert read(tmp_path, rows, Form(where={"level": [1, "3"], "tag": "b"})) == ["1b", "3b"]
    assert read(tmp_path, rows, Form(where={"level": 4})) == []


@pytest.mark.parametrize(
    ("row", "form", "told"),
    [
        ({"answer": "x", "id": 1}, Form(), r"line 1: no column prompt or text or .* with text \(it has answer, id\)"),
        ({"prompt": 7}, Form("prompt"), r"no column prompt with text \(it has prompt\)"),
        ({"question": "Q?", "choices": []}, Form(form="choices"), "no columns question and choices"),
        ({"prompt": "x"}, Form(where={"lang": "en"}), r"no column lang to filter by \(it has prompt\)"),
        ("bare", Form("prompt"), "a string or an object is needed, found str"),
    ],
)
def test_a_row_without_a_prompt_says_what_it_has(tmp_path: Path, row: Any, form: Form, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(tmp_path, [row], form)


def test_json_lines_under_the_other_name_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    assert list(prompts_of([tmp_path / "a.json"], Form())) == ["one", "two"]


def test_parquet_is_read_by_its_columns(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["one", None, " "], "kind": [1, 1, 2]}), path)
    assert [value for _, value in read_rows(path, {"prompt"})] == [{"prompt": "one"}, {"prompt": None}, {"prompt": " "}]
    assert list(prompts_of([path], Form("prompt", where={"kind": 2}))) == []
    with pytest.raises(DataError, match=r"row 0: no column ask with text \(it has prompt, kind\)"):
        list(prompts_of([path], Form("ask")))
    path.write_bytes(b"no")
    with pytest.raises(DataError, match="no Parquet file"):
        list(read_rows(path))


SHARDS = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"]
SPLITS = [{"split": "train", "path": "main/train-*"}, {"split": "test", "path": ["main/test.jsonl"]}]
CARD = [
    {"config_name": "main", "data_files": SPLITS},
    {"config_name": "extra", "default": True, "data_files": "extra/**/*.jsonl"},
]
LAID_OUT = ["README.md", "main/train-0.jsonl", "main/test.jsonl", "extra/a/b.jsonl", "extra/c.jsonl"]


@pytest.mark.parametrize(
    ("names", "configs", "part", "chosen"),
    [
        (SHARDS, [], {}, SHARDS[:2]),
        (SHARDS, [], {"split": "test"}, SHARDS[2:]),
        (["en/train/0000.parquet", "fr/train/0000.parquet"], [], {"config": "fr"}, ["fr/train/0000.parquet"]),
        (["train.jsonl", "train.csv", "train.parquet"], [], {}, ["train.parquet"]),
        (["prompts.jsonl", "README.md"], [], {}, ["prompts.jsonl"]),
        (["a_train.jsonl", "a_test.jsonl"], [], {"split": "test"}, ["a_test.jsonl"]),
        (["1M.parquet", "3M.parquet"], [], {"files": "1M.parquet"}, ["1M.parquet"]),
        (LAID_OUT, CARD, {}, ["extra/a/b.jsonl", "extra/c.jsonl"]),
        (LAID_OUT, CARD, {"config": "main"}, ["main/train-0.jsonl"]),
        (LAID_OUT, CARD, {"config": "main", "split": "test"}, ["main/test.jsonl"]),
    ],
)
def test_a_part_of_a_repository_is_found(
    names: list[str], configs: list[dict[str, Any]], part: dict[str, str], chosen: list[str]
) -> None:
    assert choose_files(names, configs, part.get("config"), part.get("split"), part.get("files")) == chosen


@pytest.mark.parametrize(
    ("names", "configs", "part", "told"),
    [
        (["script.py"], [], {}, "no data file (it has no data files)"),
        (SHARDS, [], {"split": "dev"}, "no file of split dev (it has data/train-00000"),
        (SHARDS, [], {"config": "fr"}, "no folder of configuration fr"),
        (LAID_OUT, CARD, {"config": "none"}, "no configuration none; there are main, extra"),
        (
            LAID_OUT,
            CARD,
            {"config": "main", "split": "dev"},
            "no split dev in configuration main; there",
        ),
        (["x.parquet"], [], {"files": "y*"}, "no file y* (it has x.parquet)"),
    ],
)
def test_a_part_that_is_not_there_is_told_with_what_is(
    names: list[str], configs: list[dict[str, Any]], part: dict[str, str], told: str
) -> None:
    with pytest.raises(ChoiceError) as refused:
        choose_files(names, configs, part.get("config"), part.get("split"), part.get("files"))
    assert told in str(refused.value)
