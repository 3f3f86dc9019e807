"""A result that was whole beats whatever happens after it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lemctl.cancel import Cancel
from lemctl.daemon import experiment
from lemctl.engines.session import RunnerDied
from lemctl.errors import CancelledByPerson


def baseline(kind: Any, cancel: Cancel, dies: bool) -> Any:
    """As the daemon takes one, of an engine that may die meanwhile."""

    def measure(what: Any, seconds: float, idle: Any, tell: Any) -> str:
        if dies:
            raise RunnerDied("infra", "the runner was killed")
        return "measured"

    lane: Any = SimpleNamespace(instruments=SimpleNamespace(baseline=measure))
    tale: Any = SimpleNamespace(waits_for=print)
    opened: Any = SimpleNamespace(session=SimpleNamespace(idle=lambda *_: None))
    return experiment._baseline(kind, {"measure": {"baseline_s": 1.0}}, opened, lane, cancel, tale)


def test_an_engine_that_dies_after_the_result_costs_the_second_baseline_only() -> None:
    record = baseline("B2_after", Cancel(), dies=True)
    assert (record.power_w, record.reason) == (None, "the engine had ended: the runner was killed")


def test_an_engine_that_dies_before_the_work_fails_the_attempt() -> None:
    with pytest.raises(RunnerDied):
        baseline("B2_before", Cancel(), dies=True)


def test_a_cancel_stops_a_run_before_its_work_but_takes_no_result_away() -> None:
    cancel = Cancel()
    cancel.set("cancelled", "enough")
    with pytest.raises(CancelledByPerson):
        baseline("B2_before", cancel, dies=False)
    assert baseline("B2_after", cancel, dies=False) == "measured"
