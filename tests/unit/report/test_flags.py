from __future__ import annotations

import random

from lemctl.report.flags import flagged_cycles


def campaign() -> dict[tuple[str, int], float]:
    draw = random.Random(5)
    levels = {"a": 1.0, "b": 20.0, "c": 300.0}
    return {(name, n): level * draw.gauss(1.0, 0.01) for name, level in levels.items() for n in range(1, 7)}


def test_a_run_that_stands_out_is_named_by_its_cycle_and_no_other() -> None:
    values = campaign()
    values["b", 4] *= 1.2
    assert flagged_cycles(values) == {"b": (4,)}


def test_a_block_that_is_slower_as_a_whole_flags_nobody() -> None:
    values = {(name, n): value * (1.2 if n == 3 else 1.0) for (name, n), value in campaign().items()}
    assert flagged_cycles(values) == {}
