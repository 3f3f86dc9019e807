"""Nights of `make soak`: random faults from evening to morning, nothing lost, the database as large as computed; and
what makes it fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import soak
from soak import RUNS_A_NIGHT, Morning, Soak, judge

FLAT = [Morning(f"1/{n}", 120, 80, 10, 3, 46.0 + n % 2, 9, 7_000.0) for n in range(30)]


@pytest.mark.parametrize("seed", [11, 12])
def test_a_night_of_random_faults_loses_nothing(tmp_path: Path, seed: int) -> None:
    made = Soak(tmp_path, seed)
    morning = made.night(1)
    made.close()
    assert [figure for figure in judge([morning]) if not figure.is_met] == []
    assert morning.attempts > morning.done > RUNS_A_NIGHT / 2


def test_flat_nights_meet_every_limit() -> None:
    assert [(f.what.partition(",")[0], f.is_met) for f in judge(FLAT)] == [
        ("growth of the database", True), ("memory", True), ("open files", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nights", "missed"),
    [
        ([replace(m, rss_mb=46.0 + 0.4 * n) for n, m in enumerate(FLAT)], "memory"),
        ([replace(m, files=9 + n // 5) for n, m in enumerate(FLAT)], "open files"),
        ([*FLAT[:-1], replace(FLAT[-1], bytes_per_attempt=10_000.0)], "growth of the database"),
        ([*FLAT[:-1], replace(FLAT[-1], bytes_per_attempt=4_000.0)], "growth of the database"),
    ],
    ids=["memory", "files", "too large", "too small"],
)
def test_what_leaks_or_grows_otherwise_than_computed_fails_the_soak(
    nights: list[Morning],
    missed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = iter(nights)
    monkeypatch.setattr(Soak, "night", lambda self, number: next(left))
    out = tmp_path / "soak.md"
    assert soak.main(["--nights", "30", "--seed", "1", "--out", str(out)]) == 1
    assert f"soak: {missed}" in capsys.readouterr().err
    (line,) = [line for line in out.read_text().splitlines() if "FAIL" in line]
    assert line.startswith(f"| {missed}")
