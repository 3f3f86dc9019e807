"""A circumstance that moves the figure is found; one that does not is not."""

from __future__ import annotations

import random

from lemctl.judge.effects import Effect, find_effect, residuals
from lemctl.judge.measured import Absent


def repeats(slope: float, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Ten experiments of very different levels, eight repeats each at random start temperatures."""
    draw = random.Random(seed)
    groups = {}
    for number in range(10):
        level = 10.0 ** (number / 3)
        temps = [draw.uniform(40, 46) for _ in range(8)]
        groups[f"e{number}"] = [(t, level * (1 + slope * (t - 43) + draw.gauss(0, 0.005))) for t in temps]
    return groups


def test_a_true_slope_is_resolved_and_lies_in_its_interval() -> None:
    effect = find_effect(repeats(0.01, 1))
    assert isinstance(effect, Effect)
    assert effect.is_resolved
    assert effect.interval.holds(0.01)
    assert (effect.repeats, effect.experiments) == (80, 10)


def test_the_interval_covers_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        effect = find_effect(repeats(0.0, seed))
        assert isinstance(effect, Effect)
        covered += not effect.is_resolved
    assert 180 <= covered <= 199


def test_levels_of_experiments_are_no_effect() -> None:
    groups = {"cold": [(40.0, 1.0), (41.0, 1.0), (40.5, 1.0)], "hot": [(60.0, 9.0), (61.0, 9.0), (60.5, 9.0)]}
    effect = find_effect(groups)
    assert isinstance(effect, Effect)
    assert effect.slope == 0


def test_too_few_repeats_and_a_covariate_that_stands_still_are_absent_with_the_reason() -> None:
    few = find_effect({"e": [(1.0, 1.0), (2.0, 2.0)]})
    still = find_effect({"e": [(1.0, 1.0 + n / 100) for n in range(9)]})
    assert isinstance(few, Absent)
    assert "too few" in few.reason
    assert isinstance(still, Absent)
    assert "does not vary" in still.reason


def test_single_repeats_have_no_residual() -> None:
    assert set(residuals({"one": [(1.0, 1.0)], "two": [(1.0, 1.0), (2.0, 3.0)]})) == {"two"}
