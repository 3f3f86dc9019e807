"""The stand-in's interface of TensorRT-LLM against the published catalogue that it is a copy of, where that is at hand.

The product does not need the catalogue: it lies beside the checkout where the interface is worked on, or nowhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[2]
COPY = TESTS / "standin" / "interface.json"
PUBLISHED = TESTS.parents[1] / "shared" / "params" / "tensorrt_llm.json"
#: Under which key the catalogue has what the stand-in has under another.
RENAMED = {"BuildConfig": "BuildConfig_0.17"}


def interface() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(COPY.read_text())
    return found


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published catalogue is not beside the checkout")
@pytest.mark.parametrize("part", sorted(interface()))
def test_the_copy_says_what_the_catalogue_says(part: str) -> None:
    """Arguments, sampling parameters, configs, enums: each name with its type, default and label."""
    assert interface()[part] == json.loads(PUBLISHED.read_text())[RENAMED.get(part, part)]


def test_no_part_that_engines_are_set_by_is_missing() -> None:
    arguments = {"BaseLlmArgs", "TorchLlmArgs", "TrtLlmArgs"}
    assert {*arguments, "SamplingParams", "configs", "QuantAlgo", "BuildConfig"} <= set(interface())
