"""`make compare` fails where the work of two engines is not proven to be the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "same_work.py"
TEXTS = {"compared": 60, "agreed": 60, "share": 1.0, "judged": True}
PAIR = {"first": {"name": "pytorch"}, "second": {"name": "vllm"}, "setting": {"batch_size": 4}, "differences": []}


def doubts(pairs: list[dict[str, Any]]) -> list[str]:
    specification = importlib.util.spec_from_file_location("same_work", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    found: list[str] = script.doubts({"comparisons": pairs})
    return found


def test_equal_texts_prove_it() -> None:
    assert doubts([{**PAIR, "texts": TEXTS}]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"differences": ["dtype: float16 against float32"]}, "dtype: float16 against float32"),
        ({"texts": None}, "no texts were judged"),
        ({"texts": {**TEXTS, "judged": False}}, "no texts were judged"),
        ({"texts": {**TEXTS, "compared": 0}}, "no texts were judged"),
        ({"texts": {**TEXTS, "agreed": 58, "share": 58 / 60}}, "58 of 60 texts agree"),
    ],
)
def test_anything_less_is_said_with_its_pair(change: dict[str, Any], said: str) -> None:
    assert doubts([{**PAIR, "texts": TEXTS, **change}]) == [f"vllm against pytorch batch_size=4: {said}"]


def test_a_report_that_compares_nothing_proves_nothing() -> None:
    assert doubts([]) == ["no pair of backends was compared"]
