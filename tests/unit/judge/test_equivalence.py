"""Whether two attempts did the same work, and what is said where they did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lem_runner.prompts import ids_sha256
from lemctl.judge.equivalence import (
    KEPT_OUTPUTS,
    KEPT_TOKENS,
    Agreement,
    Output,
    Work,
    agreement,
    differences,
    kept_outputs,
    work_of,
)


@dataclass(frozen=True)
class Request:
    prompt_sha256: str
    tokens_in: int = 10
    tokens_out: int = 4
    stop: str = "length"
    output_ids: Sequence[int] | None = (1, 2, 3, 4)
    cached_tokens: int | None = None

    @property
    def output_sha256(self) -> str | None:
        return None if self.output_ids is None else ids_sha256(list(self.output_ids))


def served(count: int, **changes: Any) -> list[Request]:
    return [Request(f"{n:04d}", **changes) for n in range(count)]


def work(requests: Sequence[Request], dtype: str = "float32", **changes: Any) -> Work:
    made = work_of(
        requests,
        pool_sha256="pool",
        tokenizer="tokenizer",
        effective={"dtype": f"torch.{dtype}", "quantization": "none"},
        gauges={},
        is_greedy=True,
    )
    return replace(made, **changes)


def outputs(requests: Sequence[Request]) -> list[Output]:
    return kept_outputs(requests)


def test_the_same_work_differs_in_nothing_and_survives_storing() -> None:
    once = work(served(60))
    assert differences(once, Work.from_json(once.to_json())) == []


def test_a_faster_engine_gets_further_in_the_same_pool() -> None:
    assert differences(work(served(30)), work(served(60) + served(60))) == []


def test_prompts_of_another_pool_are_other_prompts_unless_each_token_is_the_same() -> None:
    others = [replace(request, prompt_sha256=f"x{request.prompt_sha256}") for request in served(30)]
    found = differences(work(served(30)), work(others, pool_sha256="another"))
    assert [text.split(":")[0] for text in found] == ["prompts"]
    assert differences(work(served(30)), work(served(30), pool_sha256="another")) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (work(served(60, tokens_in=11)), "prompts: 60 ("),
        (work(served(60, tokens_out=3)), "output tokens of a request: 4 against 3"),
        (work(served(60, stop="eos")), "stop reasons: length 100% against eos 100%"),
        (work(served(60), dtype="bfloat16"), "dtype: float32 against bfloat16"),
        (work(served(60, cached_tokens=5)), "prompt tokens from a cache: not told against 50.0%"),
        (work(served(60), tokenizer="another"), "output tokens: counted in different vocabularies"),
        (work(served(60), is_greedy=False), "decoding: greedy against sampled"),
    ],
)
def test_what_differs_is_said_with_both_values(other: Work, said: str) -> None:
    (found,) = differences(work(served(60)), other)
    assert found.startswith(said)


def test_what_was_not_recorded_is_not_taken_for_the_same() -> None:
    assert "not recorded" in differences(work(served(1)), None)[0]


@pytest.mark.parametrize(
    ("effective", "precision"),
    [
        ({"dtype": "torch.float32", "quantization": "none"}, "float32"),
        ({"dtype": "uint8", "quantization": "bitsandbytes", "reported": {"engine": {}}}, "uint8, bitsandbytes"),
        ({"dtype": "int32", "reported": {"engine": {"quantization": "AWQ", "dtype": "float16"}}}, "float16, awq"),
        ({"dtype": "bfloat16", "reported": {"engine": {"kv_cache_dtype": "fp8"}}}, "bfloat16, KV cache fp8"),
        ({"dtype": "bfloat16", "reported": {"engine": {"kv_cache_dtype": "auto", "quantization": None}}}, "bfloat16"),
        ({}, None),
    ],
)
def test_quantised_weights_and_caches_are_another_precision(effective: dict[str, Any], precision: str | None) -> None:
    made = work_of(served(1), pool_sha256="", tokenizer=None, effective=effective, gauges={}, is_greedy=True)
    assert made.dtype == precision
    assert made.pool_sha256 is None


def test_an_engine_that_counts_its_cache_by_itself_is_believed_where_no_request_tells() -> None:
    gauges = {"prefix_cache_hit_rate": 0.25}
    made = work_of(served(2), pool_sha256="", tokenizer=None, effective={}, gauges=gauges, is_greedy=True)
    assert made.cache_hits == 0.25
    assert work(served(2, cached_tokens=0)).cache_hits == 0.0
    assert work(served(2)).cache_hits is None


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (0.5, None, ["prompt tokens from a cache: 50.0% against not told"]),
        (0.5, 0.495, []),
        (0.5, 0.0, ["prompt tokens from a cache: 50.0% against 0.0%"]),
        (None, 0.0, []),
        (None, None, []),
    ],
)
def test_a_cache_that_was_not_told_agrees_with_none_that_was_hit(
    first: float | None, second: float | None, said: list[str]
) -> None:
    one, other = work(served(60), cache_hits=first), work(served(60), cache_hits=second)
    assert differences(one, other) == said
    assert len(differences(other, one)) == len(said)


UNHEARD, OFF, OLD = (None, True), (None, False), (None, None)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (UNHEARD, OFF, "one was on, its hits not told against none was on"),
        (UNHEARD, OLD, "one was on, its hits not told against not told"),
        (UNHEARD, (0.0, True), "one was on, its hits not told against 0.0%"),
        ((0.5, True), OFF, "50.0% against none was on"),
        (UNHEARD, UNHEARD, None),
        ((0.0, True), OFF, None),
        (OFF, OFF, None),
        (OFF, OLD, None),
    ],
)
def test_a_cache_that_was_on_and_not_heard_agrees_with_none_that_is_known(
    first: tuple[float | None, bool | None], second: tuple[float | None, bool | None], said: str | None
) -> None:
    one, other = (work(served(60), cache_hits=hits, prefix_cache=is_on) for hits, is_on in (first, second))
    assert differences(one, other) == ([] if said is None else [f"prompt tokens from a cache: {said}"])
    assert bool(differences(other, one)) is (said is not None)


def test_whether_a_cache_was_on_is_what_the_engine_tells_and_unknown_in_older_records() -> None:
    for told in (True, False, None):
        effective = {} if told is None else {"prefix_cache": told}
        made = work_of(served(1), pool_sha256="", tokenizer=None, effective=effective, gauges={}, is_greedy=True)
        assert made.prefix_cache is told
    older = work(served(1)).to_json()
    del older["prefix_cache"]
    assert Work.from_json(older).prefix_cache is None


def test_agreement_is_the_share_of_equal_texts_and_how_far_the_others_go_together() -> None:
    first = served(4)
    second = [*served(2), Request("0002", output_ids=(1, 2, 9, 9)), Request("0003", output_ids=(9, 2, 3, 4))]
    found = agreement(outputs(first), outputs(second))
    assert found == Agreement(compared=4, agreed=2, common_tokens=(4 + 4 + 2 + 0) / 4)
    assert found.share == 0.5
    assert agreement(outputs(first), outputs([Request("other")])) is None


def test_texts_judge_in_float32_with_greedy_decoding_alone() -> None:
    half = Agreement(60, 31, 17.0)
    exact, short = work(served(60)), work(served(60), dtype="bfloat16")
    assert differences(exact, exact, half) == ["texts: 31 of 60 agree in float32 (at least 98% must)"]
    assert differences(exact, exact, Agreement(60, 59, 31.5)) == []
    assert differences(short, short, half) == []
    sampled = work(served(60), is_greedy=False)
    assert differences(sampled, sampled, half) == []


def test_any_two_attempts_keep_the_outputs_of_the_same_prompts() -> None:
    many = served(KEPT_OUTPUTS + 50, output_ids=tuple(range(KEPT_TOKENS + 9)))
    first, second = kept_outputs(many), kept_outputs(many[::-1])
    assert first == second
    assert len(first) == KEPT_OUTPUTS
    assert {len(output.ids) for output in first} == {KEPT_TOKENS}
    assert first[0].sha256 == ids_sha256(list(range(KEPT_TOKENS + 9)))


def test_of_a_repeated_prompt_the_first_output_is_kept() -> None:
    (kept,) = kept_outputs([Request("a", output_ids=(1,)), Request("a", output_ids=(2,))])
    assert kept.ids == (1,)
    assert kept_outputs([Request("a", output_ids=None)]) == []
