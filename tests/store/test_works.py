"""What attempts did is kept in the database itself, once for each content."""

from __future__ import annotations

from pathlib import Path

import pytest
from build import Night, plan_of

from lemctl.errors import NotFound, UsageMistake
from lemctl.paths import Home
from lemctl.store.read_comparison import Selection, measurements, select
from lemctl.store.works import WorkRow, read_outputs

WORK = WorkRow({"prompts": 2}, [("p1", "o1", [1, 2]), ("p2", "o2", [3])])
COMMIT = "c0ffee0000000000000000000000000000000000"


@pytest.fixture
def night(tmp_path: Path) -> Night:
    made = Night(Home(tmp_path / "home"))
    made.add(plan_of())
    made.activate()
    return made


def test_equal_outputs_of_many_attempts_are_stored_once_and_read_back(night: Night) -> None:
    first, second, third, _ = night.runs()
    night.finish(first, work=WORK)
    night.finish(second, work=WORK)
    night.finish(third, work=WorkRow({"prompts": 2}))
    rows = night.store.connection.execute("SELECT outputs FROM works ORDER BY attempt_id").fetchall()
    digests = [row[0] for row in rows]
    assert digests[0] == digests[1]
    assert digests[2] is None
    assert read_outputs(night.store.connection, digests[0]) == list(WORK.outputs)
    assert night.store.connection.execute("SELECT count(*) FROM outputs").fetchone()[0] == 1


def test_results_to_compare_tell_their_place_their_work_and_their_figures(night: Night) -> None:
    first, second, *_ = night.runs()
    night.finish(first, work=WORK, gpus=("GPU-1",), commit=COMMIT)
    night.finish(second, "SUSPECT")
    chosen = select(night.store.connection, "demo")
    (only,) = measurements(night.store.connection, chosen, ("output_tokens_per_s", "ttft_p50"), False)
    assert (only.run, only.gpus, only.work, only.place) == (first, ("GPU-1",), {"prompts": 2}, ("host-1", ("GPU-1",)))
    assert only.figures == {"output_tokens_per_s": (80.0, "token/s"), "ttft_p50": (0.012, "s")}
    both = measurements(night.store.connection, chosen, (), True)
    assert [(one.run, one.gpus, one.work) for one in both][1] == (second, (), None)


def test_a_side_is_a_campaign_an_experiment_or_a_commit(night: Night) -> None:
    first, *_ = night.runs()
    night.finish(first, work=WORK, commit=COMMIT)
    connection = night.store.connection
    experiment = connection.execute("SELECT experiment FROM runs WHERE id = ?", (first,)).fetchone()[0]
    assert select(connection, "demo") == Selection("campaign", "demo", 1)
    assert select(connection, experiment[:8]).value == experiment
    assert select(connection, "c0ffee") == Selection("commit", COMMIT[:12], COMMIT)
    for text in ("demo", f"experiment:{experiment[:6]}", "commit:c0ffee"):
        found = measurements(connection, select(connection, text), ("ttft_p50",), False)
        assert [one.run for one in found] == [first]


@pytest.mark.parametrize("text", ["nothing", "commit:demo", "campaign:c0ffee", "ffff"])
def test_what_is_not_there_is_said(night: Night, text: str) -> None:
    with pytest.raises(NotFound, match="is no campaign, experiment or commit with results"):
        select(night.store.connection, text)


def test_what_may_mean_two_things_is_not_guessed(night: Night) -> None:
    night.add(plan_of("c0ffee"))
    night.finish(night.runs()[0], commit=COMMIT)
    with pytest.raises(UsageMistake, match="may mean campaign:c0ffee, commit:c0ffee000000; write one of these"):
        select(night.store.connection, "c0ffee")
    with pytest.raises(UsageMistake, match="none of campaign:, experiment:, commit:"):
        select(night.store.connection, "engine:x")
