from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lemctl.judge.student import regularised_beta, t_quantile, t_two_sided_p


@pytest.mark.parametrize("df", [1, 2, 3, 4.5, 9, 29, 400, 20000])
@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.995, 0.99999, 1 - 1e-9, 0.025, 1e-7])
def test_quantile_equals_scipy(p: float, df: float) -> None:
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9)


# SciPy itself rounds to 1 below |t| = 1e-7: the closed form for one degree of freedom is tested there instead.
@given(t=st.floats(1e-5, 50), df=st.floats(1, 500))
def test_p_value_equals_scipy(t: float, df: float) -> None:
    assert t_two_sided_p(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("t", [0.0, 6.65e-9, 1e-7, 1e-3, 1.0, 40.0])
def test_p_value_of_one_degree_of_freedom_is_the_arctangent(t: float) -> None:
    assert t_two_sided_p(-t, 1) == pytest.approx(1 - 2 * math.atan(t) / math.pi, rel=1e-12)


@given(a=st.floats(0.1, 100), b=st.floats(0.1, 100), x=st.floats(0, 1))
def test_incomplete_beta_equals_scipy(a: float, b: float, x: float) -> None:
    from scipy.special import betainc

    assert regularised_beta(a, b, x) == pytest.approx(betainc(a, b, x), rel=1e-9, abs=1e-14)


def test_a_probability_outside_0_1_is_refused() -> None:
    with pytest.raises(ValueError, match="0 < p < 1"):
        t_quantile(1.0, 4)
