"""Two experiments side by side: figures only where the work was the same, and what differed where it was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lemctl.judge.comparison import BOARD_GAIN, compare_unpaired, difference
from lemctl.report.comparison import Pair, Subject, backend_pairs, compare, work_groups
from lemctl.report.comparison_text import comparison_text
from lemctl.store.read_comparison import Measurement

SPEED, ENERGY = "output_tokens_per_s", "energy_per_output_token"
WORK: dict[str, Any] = {
    "prompts_sha256": "a" * 64, "pool_sha256": "pool", "tokenizer": "t", "prompts": 60, "requests": 60,
    "tokens_in": 600, "tokens_out": 1920, "stops": {"length": 60}, "dtype": "float32", "cache_hits": None,
    "is_greedy": True,
}  # fmt: skip
BATCH = "workload.load.batch_size"


def measured(backend: str, cycle: int, speed: float, **changes: Any) -> Measurement:
    standard: dict[str, Any] = {
        "run": 1,
        "campaign_id": 1,
        "experiment": f"{backend}-hash",
        "backend": backend,
        "model": "path:tiny",
        "axes": {"backend": backend, BATCH: 1},
        "cycle": cycle,
        "verdict": "VALID",
        "is_simulated": False,
        "started_utc": f"2026-01-05T22:{cycle:02d}:00Z",
        "host": "h",
        "gpus": (),
        "work": WORK,
        "outputs": None,
        "figures": {SPEED: (speed, "token/s"), ENERGY: (1 / speed, "J/output token")},
    }
    return Measurement(**{**standard, **changes})


def side(backend: str, speeds: Sequence[float], **changes: Any) -> list[Measurement]:
    return [measured(backend, cycle, speed, **changes) for cycle, speed in enumerate(speeds, start=1)]


def compared(first: list[Measurement], second: list[Measurement], stored: Mapping[str, Any] | None = None) -> Pair:
    read = (stored or {}).__getitem__
    (pair,) = compare([(Subject("a", first), Subject("b", second), {})], (SPEED, ENERGY), read)
    return pair


SLOW, FAST = (100.0, 101.0, 99.0, 100.5), (150.0, 152.0, 148.0, 151.0)


def test_a_difference_is_told_with_its_interval_and_which_way_is_better() -> None:
    pair = compared(side("pytorch", SLOW), side("vllm", FAST))
    speed, energy = pair.contrasts[SPEED], pair.contrasts[ENERGY]
    assert (speed.verdict, energy.verdict) == ("better", "better")
    assert speed.comparison.blocks == 4
    assert speed.comparison.ratio == pytest.approx(1.5, rel=0.01)
    assert speed.comparison.interval is not None
    assert speed.comparison.interval.holds(1.5)
    assert speed.p_adjusted is not None
    assert speed.comparison.p_value is not None
    assert speed.p_adjusted > speed.comparison.p_value
    assert compared(side("vllm", FAST), side("pytorch", SLOW)).contrasts[SPEED].verdict == "worse"


def test_noise_is_not_resolved() -> None:
    pair = compared(side("pytorch", SLOW), side("vllm", (101.0, 99.0, 100.0, 99.5)))
    assert {contrast.verdict for contrast in pair.contrasts.values()} == {"not resolved"}


def test_other_work_gives_no_figures_but_what_differed() -> None:
    other = {**WORK, "tokens_out": 1800, "stops": {"eos": 10, "length": 50}}
    pair = compared(side("pytorch", SLOW), side("vllm", FAST, work=other))
    assert pair.is_refused
    assert pair.contrasts == {}
    text = comparison_text([pair])
    assert "REFUSED, not the same work: output tokens of a request: 32 against 30; stop reasons:" in text
    assert "1.5" not in text


def test_one_block_of_other_work_is_enough_to_refuse() -> None:
    last = measured("vllm", 4, 150.0, work={**WORK, "dtype": "bfloat16"})
    pair = compared(side("pytorch", SLOW), [*side("vllm", FAST[:3]), last])
    assert pair.differences == ("dtype: float32 against bfloat16",)


def test_work_that_was_not_recorded_is_not_compared() -> None:
    assert "not recorded" in compared(side("pytorch", SLOW), side("vllm", FAST, work=None)).differences[0]


def outputs(wrong: int) -> list[tuple[str, str, list[int]]]:
    return [(f"p{n}", f"{'x' if n < wrong else 'o'}{n}", [1, 2, 9 if n < wrong else 3]) for n in range(60)]


@pytest.mark.parametrize(("wrong", "refused"), [(0, False), (1, False), (2, True)])
def test_texts_of_float32_must_agree(wrong: int, refused: bool) -> None:
    stored = {"first": outputs(0), "second": outputs(wrong)}
    pair = compared(side("a", SLOW, outputs="first"), side("b", FAST, outputs="second"), stored)
    assert pair.texts is not None
    assert pair.texts_judge
    assert pair.texts.agreed == 4 * (60 - wrong)
    assert pair.is_refused is refused
    if not refused:
        assert f"same work, texts agree {4 * (60 - wrong)}/240 (float32, greedy)" in comparison_text([pair])


def test_texts_of_bfloat16_are_told_with_how_far_they_go_together() -> None:
    stored = {"first": outputs(0), "second": outputs(30)}
    bf16 = {**WORK, "dtype": "bfloat16"}
    first, second = (
        side(*one, outputs=name, work=bf16) for one, name in ((("a", SLOW), "first"), (("b", FAST), "second"))
    )
    pair = compared(first, second, stored)
    assert not pair.is_refused
    assert "texts agree 120/240, 2.50 tokens in common on average: told, not judged" in comparison_text([pair])


def test_results_of_two_gpus_are_not_paired_and_energy_is_no_surer_than_the_boards() -> None:
    near = tuple(speed * 1.04 for speed in SLOW)
    pair = compared(side("a", SLOW, gpus=("GPU-1",)), side("a", near, gpus=("GPU-2",), campaign_id=2))
    speed, energy = pair.contrasts[SPEED], pair.contrasts[ENERGY]
    assert not speed.comparison.is_paired
    assert (speed.verdict, energy.verdict) == ("better", "not resolved")
    assert energy.comparison.interval is not None
    assert energy.comparison.interval.half_width > BOARD_GAIN


def test_two_campaigns_on_one_gpu_are_paired_by_cycle() -> None:
    drift = [measured("a", n, 100.0 + 10 * n) for n in range(1, 5)]
    later = [measured("a", n, (100.0 + 10 * n) * (1.02 + 0.0001 * n), campaign_id=2) for n in range(1, 5)]
    contrast = compared(drift, later).contrasts[SPEED]
    assert contrast.comparison.is_paired
    assert contrast.verdict == "better"


def test_backends_are_paired_where_all_that_they_share_is_the_same() -> None:
    results = []
    for run, (backend, size, more) in enumerate(
        [
            ("pytorch", 1, {}),
            ("vllm", 1, {"vllm.engine.x": 0.8}),
            ("vllm", 1, {"vllm.engine.x": 0.9}),
            ("pytorch", 8, {}),
        ]
    ):
        axes = {"backend": backend, BATCH: size, **more}
        results.append(measured(backend, 1, 1.0, run=run, experiment=f"e{run}", axes=axes))
    pairs = [(one.name, other.name, setting) for one, other, setting in backend_pairs(results)]
    assert pairs == [("pytorch", "vllm x=0.8", {BATCH: 1}), ("pytorch", "vllm x=0.9", {BATCH: 1})]


def test_rows_of_other_work_get_another_letter_and_what_tells_them_apart() -> None:
    kinds = [WORK, {**WORK, "dtype": "bfloat16"}, WORK, None]
    results = [measured("a", 1, 1.0, run=n, experiment=f"e{n}", work=work) for n, work in enumerate(kinds)]
    letters, told = work_groups(results)
    assert letters == {"e0": "a", "e1": "b", "e2": "a", "e3": "c"}
    assert told[0] == "b against a: dtype: bfloat16 against float32"
    assert "not recorded" in told[1]
    assert work_groups(results[::2][:2]) == ({}, [])


def test_unpaired_comparison_is_welchs() -> None:
    made = compare_unpaired([2.0, 2.2, 1.8], [1.0, 1.1, 0.9, 1.0])
    assert made.ratio == pytest.approx(2.0, rel=0.01)
    assert made.blocks == 3
    assert made.p_value is not None
    assert made.p_value < 0.01
    assert compare_unpaired([1.0], [1.0, 2.0]).interval is None
    assert compare_unpaired([], [1.0]).ratio is None


def test_what_a_difference_comes_to() -> None:
    assert difference(1.1, 0.01, "token/s") == "better"
    assert difference(1.1, 0.01, "s") == "worse"
    assert difference(0.9, 0.01, "J/output token") == "better"
    assert difference(0.9, 0.01, "MHz") == "lower"
    assert difference(1.1, 0.05, "token/s") == "not resolved"
    assert difference(None, None, "token/s") == "not resolved"


def test_pairs_come_in_the_order_of_their_setting() -> None:
    results = [
        measured(backend, 1, 1.0, run=run, experiment=f"{backend}{size}", axes={"backend": backend, BATCH: size})
        for run, (size, backend) in enumerate([(16, "a"), (2, "b"), (16, "b"), (2, "a"), (128, "a"), (128, "b")])
    ]
    assert [setting[BATCH] for _, _, setting in backend_pairs(results)] == [2, 16, 128]
