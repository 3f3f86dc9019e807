from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats

from lemctl.judge.comparison import adjust_holm, compare_paired
from lemctl.judge.outliers import find_outliers, two_way_residuals
from lemctl.judge.statistics import bootstrap_interval, half_width_in_cv, quantile, summarise
from lemctl.judge.stopping import Continue, Stop, Until, decide_cycles


def normal(n: int, cv: float, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(1.0, cv) for _ in range(n)]


def test_summary_equals_scipy() -> None:
    values = [0.119, 0.121, 0.118, 0.125, 0.117]
    summary = summarise(values, seed=3)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert summary.interval is not None
    assert summary.interval.low == pytest.approx(low, rel=1e-12)
    assert summary.interval.high == pytest.approx(high, rel=1e-12)
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.cv == pytest.approx(np.std(values, ddof=1) / np.mean(values))
    assert summary.median == 0.119


@pytest.mark.parametrize(("n", "expected"), [(3, 2.48), (5, 1.24), (7, 0.92), (10, 0.72)])
def test_half_width_per_cv_is_the_published_one(n: int, expected: float) -> None:
    assert half_width_in_cv(n) == pytest.approx(expected, abs=0.006)


def test_what_few_repeats_cannot_tell_is_none_with_a_reason() -> None:
    assert summarise([]).mean is None
    one = summarise([4.0])
    assert (one.mean, one.sd, one.interval) == (4.0, None, None)
    assert one.reason


def test_nan_is_refused_rather_than_averaged() -> None:
    with pytest.raises(ValueError, match="not finite"):
        summarise([1.0, float("nan")])


def test_bootstrap_is_reproducible_and_close_to_the_normal_interval_for_many_values() -> None:
    values = normal(200, 0.05, 1)
    first, again, other = (bootstrap_interval(values, seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert first is not None
    assert first.half_width == pytest.approx(1.96 * np.std(values, ddof=1) / 200**0.5, rel=0.1)


def test_quantile_equals_numpy() -> None:
    values = normal(37, 0.3, 2)
    for p in (0, 0.1, 0.5, 0.9, 1):
        assert quantile(values, p) == pytest.approx(np.quantile(values, p))
    assert quantile([], 0.5) is None


def campaign(seed: int, cells: int = 10, blocks: int = 5, cv: float = 0.01) -> dict[tuple[int, int], float]:
    draw = random.Random(seed)
    drift = [draw.gauss(0, 0.02) for _ in range(blocks)]
    return {(c, b): (c + 1) * (1 + drift[b]) * (1 + draw.gauss(0, cv)) for c in range(cells) for b in range(blocks)}


def test_clean_campaigns_are_rarely_flagged() -> None:
    flagged = sum(bool(find_outliers(campaign(seed))) for seed in range(400))
    assert flagged <= 12  # alpha is 1 %: 4 expected of 400, 12 has a chance below 0.1 %


def test_a_run_five_sigma_off_is_found_despite_block_drift_and_missing_runs() -> None:
    values = campaign(5)
    del values[(2, 1)], values[(7, 3)]
    values[(4, 2)] *= 1.08
    assert list(find_outliers(values)) == [(4, 2)]


def test_two_outliers_do_not_mask_each_other() -> None:
    values = campaign(6, cells=6)
    values[(1, 1)] *= 1.12
    values[(4, 3)] *= 1.12
    assert set(find_outliers(values)) == {(1, 1), (4, 3)}


def test_too_few_values_flag_nothing() -> None:
    assert find_outliers({("a", 0): 1.0, ("a", 1): 1.0, ("b", 0): 9.0, ("b", 1): 1.0}) == {}


def test_two_way_residuals_equal_least_squares_with_missing_cells() -> None:
    values = campaign(9, cells=4)
    del values[(0, 0)], values[(3, 4)]
    keys = list(values)
    design = np.array([[float(k[0] == c) for c in range(4)] + [float(k[1] == b) for b in range(5)] for k in keys])
    target = np.array([values[k] for k in keys])
    fit = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    residuals = two_way_residuals(values)
    assert [residuals[k] for k in keys] == pytest.approx(list(target - fit), abs=1e-9)


def test_comparison_uses_only_common_blocks_and_equals_a_paired_t_test() -> None:
    first = {1: 1.02, 2: 1.05, 3: 1.01, 4: 1.07, 9: 5.0}
    second = {1: 1.00, 2: 1.00, 3: 1.00, 4: 1.01, 8: 7.0}
    logs_first, logs_second = (np.log([d[b] for b in (1, 2, 3, 4)]) for d in (first, second))
    result = compare_paired(first, second)
    assert result.blocks == 4
    assert result.p_value == pytest.approx(stats.ttest_rel(logs_first, logs_second).pvalue)
    assert result.ratio == pytest.approx(np.exp(np.mean(logs_first - logs_second)))
    assert result.interval is not None
    assert result.interval.low < 1.035 < result.interval.high


def test_comparison_without_common_blocks_says_so() -> None:
    result = compare_paired({1: 1.0}, {2: 1.0})
    assert result.ratio is None
    assert result.reason


def test_holm_is_the_textbook_adjustment() -> None:
    adjusted = adjust_holm([0.01, None, 0.04, 0.03, 0.005])
    assert adjusted[1] is None
    assert [p for p in adjusted if p is not None] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_adaptive_repeats_wait_for_the_minimum() -> None:
    assert isinstance(decide_cycles([1.0, 1.0, 1.0, 1.0], 4, Until()), Continue)


def test_the_first_look_is_widened_less_than_later_ones() -> None:
    quiet = decide_cycles(normal(5, 0.005, 1), 5, Until())
    assert isinstance(quiet, Stop)
    assert quiet.reached
    assert quiet.widening == 1.02
    later = decide_cycles(normal(12, 0.005, 1), 12, Until())
    assert isinstance(later, Stop)
    assert later.widening == 1.12


def test_a_half_width_between_plain_and_widened_does_not_stop() -> None:
    values = [1 - 0.0161 / 1.0, 1.0, 1.0, 1.0, 1 + 0.0161]
    plain = summarise(values).relative_half_width
    assert plain is not None
    rule = Until(half_width=plain * 1.01)
    assert isinstance(decide_cycles(values, 5, rule), Continue)
    assert isinstance(decide_cycles(values, 5, Until(half_width=plain * 1.03)), Stop)


def test_the_ceiling_stops_and_says_that_the_goal_was_missed() -> None:
    decision = decide_cycles(normal(40, 0.3, 4), 40, Until())
    assert isinstance(decision, Stop)
    assert not decision.reached


def test_failed_runs_count_towards_the_ceiling() -> None:
    assert isinstance(decide_cycles([1.0], 40, Until()), Stop)
    assert isinstance(decide_cycles([], 40, Until()), Stop)


def test_the_guess_of_cycles_is_near_what_the_noise_needs() -> None:
    decision = decide_cycles(normal(10, 0.05, 11), 10, Until())
    assert isinstance(decision, Continue)
    assert decision.expected_cycles is not None
    assert 15 <= decision.expected_cycles <= 40
