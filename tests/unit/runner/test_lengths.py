"""How long prompts are made: cut, filled, or drawn, to the token."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lem_runner.lengths import LengthError, Lengths, draw_lengths, fit, frame_of
from lem_runner.prompts import Prompt

IDS = st.lists(st.integers(0, 99), max_size=30)


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=30),
    IDS,
    IDS,
    st.integers(1, 80),
    st.sampled_from(["start", "end"]),
)
def test_a_prompt_is_exactly_as_long_as_asked_and_its_frame_stays(
    body: list[int], before: list[int], after: list[int], length: int, keep: str
) -> None:
    if length <= len(before) + len(after):
        with pytest.raises(LengthError, match="the template alone has"):
            fit(body, (before, after), length, length, keep)
        return
    ids = fit(body, (before, after), length, length, keep)
    assert len(ids) == length
    assert ids[: len(before)] == before
    assert ids[length - len(after) :] == after
    middle = ids[len(before) : length - len(after)]
    if len(middle) < len(body):
        assert middle == (body[: len(middle)] if keep == "start" else body[-len(middle) :])
    else:
        assert all(token == body[place % len(body)] for place, token in enumerate(middle))


def test_what_is_within_its_bounds_stays_as_it_is() -> None:
    assert fit([1, 2, 3], ([], []), 2, 5, "start") == [1, 2, 3]
    assert fit([1, 2, 3], ([9], []), 0, None, "start") == [9, 1, 2, 3]


@given(IDS, IDS, IDS)
def test_a_frame_is_found_around_its_body(before: list[int], body: list[int], after: list[int]) -> None:
    found = frame_of([*before, *body, *after], body)
    assert found is not None
    assert [*found[0], *body, *found[1]] == [*before, *body, *after]
    assert frame_of([1, 2], [3]) is None


@pytest.mark.parametrize(
    ("text", "least", "most", "middle"),
    [
        ("uniform(64, 512)", 64, 512, 288),
        ("normal(512, 32)", 300, 724, 512),
        ("lognormal(256, 0.5)", 20, 3500, 256),
        ("mix(128: 3, 2048: 1)", 128, 2048, 128),
        ("uniform(7,7)", 7, 7, 7),
    ],
)
def test_lengths_follow_their_distribution_and_their_seed(text: str, least: int, most: int, middle: int) -> None:
    drawn = draw_lengths(text, 4000, seed=3)
    assert drawn == draw_lengths(text, 4000, seed=3)
    assert least == most or drawn != draw_lengths(text, 4000, seed=4)
    assert least <= min(drawn)
    assert max(drawn) <= most
    assert statistics.median(drawn) == pytest.approx(middle, rel=0.1)
    if text.startswith("mix"):
        assert drawn.count(2048) / 4000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    "text",
    ["", "64", "uniform", "uniform(64)", "uniform(9, 3)", "uniform(0, 3)", "zipf(1, 2)", "normal(a, b)",
     "normal(512, 0)", "mix()", "mix(128)", "mix(128: 0)", "mix(0: 1)", "mix(1.5: 1)", "lognormal(inf, 1)",
     "normal(nan, 1)"],
)  # fmt: skip
def test_what_is_no_distribution_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(LengthError, match=r"uniform\(LEAST, MOST\)|normal\(MEAN, SD\)|mix\(LENGTH|lognormal\(MEDIAN"):
        draw_lengths(text, 1, 0)


def test_no_length_is_below_one() -> None:
    assert min(draw_lengths("normal(2, 50)", 1000, 0)) == 1


def test_bounds_are_those_of_the_keys() -> None:
    assert Lengths(truncate=8).of(2, 0) == [(0, 8)] * 2
    assert Lengths(pad=8).of(1, 0) == [(8, None)]
    assert Lengths(draw="uniform(5, 5)").of(2, 0) == [(5, 5)] * 2


class Prepared:
    """Prompts of a random model, which has one token a byte."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, rows: list[str], **asked: Any) -> list[Prompt] | str:
        (self.folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows))
        entry = {"kind": "file", "path": str(self.folder / "rows.jsonl"), "prompts": len(rows), "seed": 1, **asked}
        model = {"kind": "random", "name": "shape", "config": {"vocab_size": 512}}
        job = {"model": model, "prompts_dir": str(self.folder / "made"), "datasets": [entry]}
        (self.folder / "job.json").write_text(json.dumps(job))
        command = [sys.executable, "-m", "lem_runner", "prefetch", str(self.folder / "job.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            return done.stderr
        (path,) = (self.folder / "made").glob("*.jsonl")
        return [Prompt.decode(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return Prepared(tmp_path)


def texts(prompts: list[Prompt] | str) -> set[str | None]:
    assert not isinstance(prompts, str), prompts
    return {prompt.text for prompt in prompts}


def test_long_prompts_are_cut_and_short_ones_filled_with_themselves(prepared: Prepared) -> None:
    made = prepared(["abcdefgh", "xyz"], lengths={"truncate": 5, "pad": 5})
    assert texts(made) == {"abcde", "xyzxy"}


def test_the_end_stays_where_it_is_asked_for(prepared: Prepared) -> None:
    assert texts(prepared(["abcdefgh", "xyz"], lengths={"truncate": 5, "keep": "end"})) == {"defgh", "xyz"}


def test_each_prompt_gets_the_length_that_was_drawn_for_it(prepared: Prepared) -> None:
    made = prepared(["a" * 40, "b", "cc" * 9], lengths={"draw": "uniform(3, 30)"})
    assert not isinstance(made, str)
    assert [len(prompt.ids) for prompt in made] == draw_lengths("uniform(3, 30)", 3, seed=1)


def test_prompts_are_chosen_by_their_length(prepared: Prepared) -> None:
    rows = ["x" * n for n in range(1, 31)]
    assert {len(text or "") for text in texts(prepared(rows, prompts=6, min_tokens=5, max_tokens=10))} == set(
        range(5, 11)
    )


def test_too_few_of_a_length_are_not_made_up(prepared: Prepared) -> None:
    said = prepared(["x", "xx", "xxx"], prompts=2, min_tokens=3)
    assert isinstance(said, str)
    assert "1 of 3 prompts have 3 to any number of tokens, 2 are asked for" in said


def test_random_ids_have_drawn_lengths(prepared: Prepared) -> None:
    entry = {"kind": "random", "lengths": {"draw": "mix(4: 1, 9: 1)"}, "path": None}
    made = prepared(["x"] * 8, **entry)
    assert not isinstance(made, str)
    assert [len(prompt.ids) for prompt in made] == draw_lengths("mix(4: 1, 9: 1)", 8, seed=1)
