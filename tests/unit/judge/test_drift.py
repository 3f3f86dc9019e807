from __future__ import annotations

import pytest

from lemctl.judge.drift import find_drift


def test_more_than_three_percent_either_way_is_a_warning() -> None:
    for last_w, is_warning in ((72.0, False), (72.2, True), (67.8, True), (68.0, False)):
        drift = find_drift([(70.0, 0.1), (last_w, 0.1)])
        assert drift is not None
        assert drift.shift == pytest.approx(last_w / 70 - 1)
        assert drift.is_warning is is_warning


def test_the_first_and_the_last_known_reading_count() -> None:
    drift = find_drift([(None, None), (50.0, 0.3), (90.0, 0.1), (51.0, 0.4), (None, None)])
    assert drift is not None
    assert drift.shift == pytest.approx(0.02)
    assert drift.u == pytest.approx(0.0101, rel=0.02)


def test_one_reading_or_none_tells_no_drift() -> None:
    assert find_drift([]) is None
    assert find_drift([(70.0, 0.1)]) is None
    assert find_drift([(70.0, 0.1), (None, None), (0.0, None)]) is None
