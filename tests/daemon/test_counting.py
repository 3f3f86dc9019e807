"""Arithmetic of windows whose edges requests overlap."""

from __future__ import annotations

import pytest

from lem_runner.results import RequestRecord, WindowRecord
from lemctl.daemon.counting import Work, count_work, whole_work, work_between
from lemctl.judge.flops import read_shape, request_flops
from lemctl.judge.measured import Flops

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
}


def request(first_ns: int, tokens: int, step_ns: int = 10) -> RequestRecord:
    times_ns = [first_ns + step_ns * number for number in range(tokens)]
    return RequestRecord(0, 0, 0, "p", 7, tokens, first_ns - 5, times_ns[0], times_ns[-1], times_ns, "length")


def window(begin_ns: int, end_ns: int) -> WindowRecord:
    return WindowRecord(0, begin_ns, end_ns, 1, 1, 1, 1)


def flops(work: Work) -> float:
    found = count_work(CONFIG, {"dtype": "float32"}, work)["flops"]
    assert isinstance(found, Flops)
    return found.flops


def test_windows_side_by_side_hold_all_the_work_of_one_around_them() -> None:
    requests = [request(100, 6), request(130, 3), request(300, 2)]
    parts = [flops(work_between(requests, [window(*edges)])) for edges in ((0, 125), (125, 145), (145, 1000))]
    assert sum(parts) == flops(work_between(requests, [window(0, 1000)])) == flops(whole_work(requests, 1))


def test_a_prompt_is_work_of_the_window_in_which_its_first_token_came() -> None:
    shape = read_shape(CONFIG)
    work = work_between([request(100, 3)], [window(100, 105)])
    assert flops(work) == request_flops(shape, 7, 1)
    later = work_between([request(100, 3)], [window(105, 125)])
    assert flops(later) == request_flops(shape, 7, 3) - request_flops(shape, 7, 1)


def test_the_mean_batch_is_that_of_the_time_decoded_together() -> None:
    # From 100 to 150 one, from 120 to 140 another.
    requests = [request(100, 6), request(120, 3)]
    assert work_between(requests, [window(100, 150)]).batch == pytest.approx((50 + 20) / 50)


def test_without_a_shape_tokens_are_counted_inside_the_window() -> None:
    work = work_between([request(100, 6)], [window(115, 1000)])
    found = count_work(None, {"parameters": 10}, work)["flops"]
    assert found == Flops(2.0 * 10 * 4, "2N")
