"""What an engine reports against what it was given."""

from __future__ import annotations

from typing import Any

import pytest

from lemctl.judge.configuration import compared, suspicions


def both(given: dict[str, Any], told: dict[str, Any] | None, part: str = "engine") -> list[tuple[str, bool]]:
    found = compared({part: given}, None if told is None else {part: told})
    return [(difference.name, difference.is_grave) for difference in found]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"dtype": "float16"}, {"dtype": "torch.float16"}),
        ({"dtype": "half"}, {"dtype": "torch.float16"}),
        ({"quant_algo": "FP8"}, {"quant_algo": "QuantAlgo.fp8"}),
        ({"dtype": "auto"}, {"dtype": "bfloat16"}),
        ({"max_num_seqs": None}, {"max_num_seqs": 256}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"sizes": [1, 2]}, {"sizes": (1, 2)}),
        ({"dtype": "float16"}, {"attn": "sdpa"}),
        ({"cache": {"reuse": False}}, {"cache": {"reuse": False, "blocks": 7}}),
    ],
)
def test_what_agrees_or_is_not_told_is_no_difference(given: dict[str, Any], told: dict[str, Any]) -> None:
    assert both(given, told) == []


def test_an_engine_that_reports_nothing_differs_in_nothing() -> None:
    assert both({"dtype": "float16"}, None) == []


@pytest.mark.parametrize(
    ("given", "told", "name", "is_grave"),
    [
        ({"dtype": "float16"}, {"dtype": "bfloat16"}, "engine.dtype", True),
        ({"attn_implementation": "flash"}, {"attn_implementation": "sdpa"}, "engine.attn_implementation", True),
        (
            {"kv": {"enable_block_reuse": False}},
            {"kv": {"enable_block_reuse": True}},
            "engine.kv.enable_block_reuse",
            True,
        ),
        ({"deterministic": True}, {"deterministic": 0}, "engine.deterministic", True),
        ({"print_iter_log": True}, {"print_iter_log": False}, "engine.print_iter_log", False),
        ({"sizes": [1, 2]}, {"sizes": [1, 2, 3]}, "engine.sizes", False),
    ],
)
def test_what_differs_is_grave_where_it_changes_the_work(
    given: dict[str, Any], told: dict[str, Any], name: str, is_grave: bool
) -> None:
    assert both(given, told) == [(name, is_grave)]


def test_whatever_a_request_draws_with_is_grave() -> None:
    assert both({"salt": 1}, {"salt": 2}, "sampling") == [("sampling.salt", True)]


def test_only_grave_differences_are_suspicions() -> None:
    found = compared(
        {"engine": {"dtype": "float16", "print_iter_log": True}},
        {"engine": {"dtype": "float32", "print_iter_log": False}},
    )
    (suspicion,) = suspicions(found)
    assert (suspicion.code, suspicion.severity) == ("configuration_differs", "SUSPECT")
    assert suspicion.text == "engine.dtype: float16 was given, the engine reports float32"
