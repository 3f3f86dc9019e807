"""One night of `make soak`: random faults from evening to morning, nothing lost, the database as large as computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak import RUNS_A_NIGHT, Soak, judge


@pytest.mark.parametrize("seed", [11, 12])
def test_a_night_of_random_faults_loses_nothing(tmp_path: Path, seed: int) -> None:
    soak = Soak(tmp_path, seed)
    morning = soak.night(1)
    soak.close()
    judge([morning])
    assert morning.attempts > morning.done > RUNS_A_NIGHT / 2
