from __future__ import annotations

from collections.abc import Callable

import pytest

from lemctl.campaign.estimate import GUESS_COOL_S, GUESS_LOAD_S, Phases, estimate, loaded_runs
from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import plan

Read = Callable[..., CampaignFile]

SWEEP = "sweep: {backend: [pytorch, vllm], workload.load.batch_size: [1, 8]}\n"


def test_runs_and_experiments_are_counted_by_backend(read: Read, small: str) -> None:
    found = estimate(plan(read(small + SWEEP + "exclude: [{backend: vllm, workload.load.batch_size: 8}]\n")))
    assert found.runs_by_backend == {"pytorch": 4, "vllm": 2}
    assert found.experiments_by_backend == {"pytorch": 2, "vllm": 1}
    assert found.runs == 6


@pytest.mark.parametrize(
    ("added", "loads"),
    [
        ("", 3),  # two engines in the first block, and one more where the blocks meet
        ("reload_each_block: true\n", 4),
        ("isolation: process\n", 8),
        ("isolation: container\n", 8),
        ("order: as_written\n", 4),
    ],
)
def test_engine_loads_follow_order_and_isolation(read: Read, small: str, added: str, loads: int) -> None:
    done = plan(read(small + SWEEP + added))
    assert estimate(done).engine_loads == loads == sum(loaded_runs(done))


def test_without_history_every_figure_is_a_guess_and_the_window_is_the_stated_one(read: Read, small: str) -> None:
    found = estimate(plan(read(small, preset="benchmark")))
    assert found.source == "guess"
    assert found.grounds == {"measured": 0, "like": 0, "guess": 2}
    assert found.phases.measuring_s == pytest.approx(2 * 60.0, rel=0.05)
    assert found.phases.cooling_s == 2 * GUESS_COOL_S
    assert found.phases.baseline_s == 2 * 2 * 30.0
    assert found.phases.loading_s == GUESS_LOAD_S


def test_without_sensors_nothing_waits_for_a_baseline_and_the_gap_is_the_pause(read: Read, small: str) -> None:
    found = estimate(plan(read(small, preset="benchmark")), sensors=False)
    assert found.phases.baseline_s == 0.0
    assert found.phases.cooling_s == 2 * 60.0
    assert found.sample_bytes == 0


@pytest.mark.parametrize(("gate", "cooling_s"), [("{kind: steady}", 0.0), ("{kind: fixed, gap: 7s}", 14.0)])
def test_cooling_follows_the_gate(read: Read, small: str, gate: str, cooling_s: float) -> None:
    assert estimate(plan(read(small + f"gate: {gate}\n"))).phases.cooling_s == cooling_s


def test_history_of_the_same_experiment_wins_over_likeness_over_guess(read: Read, small: str) -> None:
    done = plan(read(small + SWEEP))
    own, like = Phases(70.0, 10.0, 60.0, 20.0, 5.0), Phases(80.0, 11.0, 61.0, 21.0, 6.0)
    pytorch = done.experiments[0]
    found = estimate(done, {pytorch.hash: [own, Phases(72.0, 10.0, 60.0, 20.0)]}, {("pytorch", pytorch.model): [like]})
    assert found.grounds == {"measured": 2, "like": 2, "guess": 4}
    assert found.source == "guess"
    assert set(found.load_grounds) == {"measured", "like", "guess"}
    alone = estimate(plan(read(small)), {plan(read(small)).experiments[0].hash: [own, Phases(72.0, 10.0, 60.0, 20.0)]})
    assert alone.source == "measured"
    assert alone.phases == Phases(2 * 71.0, 20.0, 120.0, 40.0, 5.0)


def test_the_parts_add_up_and_the_share_is_of_the_whole(read: Read, small: str) -> None:
    found = estimate(plan(read(small)))
    parts = found.phases
    assert found.total_s == pytest.approx(
        parts.measuring_s + parts.cooling_s + parts.baseline_s + parts.warmup_s + (parts.loading_s or 0.0)
    )
    assert 0 < found.measuring_share < 1


def test_more_tokens_take_more_disk(read: Read, small: str) -> None:
    few, many = (estimate(plan(read(small, {"workload.max_new_tokens": n}, "quick-test"))) for n in ("8", "800"))
    assert 0 < few.request_bytes < many.request_bytes
