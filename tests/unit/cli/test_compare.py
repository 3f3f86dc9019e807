"""`results compare`: paired, with interval and verdict, refused where the work differed, and an exit code for CI."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from build import Night, plan_of
from command_line import Lemctl

from lemctl.store.works import WorkRow

WORK: dict[str, Any] = {
    "prompts_sha256": "a" * 64, "pool_sha256": "pool", "tokenizer": "t", "prompts": 8, "requests": 8,
    "tokens_in": 128, "tokens_out": 256, "stops": {"length": 8}, "dtype": "float32", "cache_hits": None,
    "is_greedy": True,
}  # fmt: skip
OUTPUTS = [(f"p{n}", f"o{n}", [n, 1, 2]) for n in range(8)]
SPEED = "output_tokens_per_s"
COMMITS = ("a" * 40, "b" * 40)


def measure(night: Night, speeds: list[float], **changes: Any) -> None:
    """Another campaign `demo`, finished, with one batch size and as many cycles as speeds."""
    sizes = changes.pop("sizes", (1,))
    night.add(plan_of(batch_sizes=sizes, cycles=len(speeds) // len(sizes)))
    night.activate()
    gpus, commit = changes.pop("gpus", ("GPU-1",)), changes.pop("commit", None)
    work = WorkRow({**WORK, **changes}, OUTPUTS)
    newest = night.store.connection.execute("SELECT max(number) FROM campaigns").fetchone()[0]
    for run, speed in zip(night.runs(f"demo#{newest}"), speeds, strict=True):
        night.finish(run, figures={SPEED: speed}, work=work, gpus=gpus, commit=commit)
    with night.store.transaction() as tx:
        tx.execute(
            "UPDATE campaigns SET status = 'Finished', status_data = json_set(status_data, '$.kind', 'Finished')"
        )


SLOW, FAST = [80.0, 81.0, 79.0], [100.0, 101.5, 98.5]


def test_two_campaigns_on_one_gpu_are_compared_pair_by_pair(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW)
    measure(night, FAST)
    said = lemctl("results", "compare", "demo#1", "demo")
    assert said.code == 0
    assert "A          campaign demo#1: 3 results on GPU-1" in said.out
    assert "comparison demo#2 / demo#1" in said.out
    assert "1.250x [1." in said.out
    assert "better" in said.out
    assert "same work, texts agree 24/24 (float32, greedy)" in said.out
    assert "pairing    by cycle, on the same GPU" in said.out


def test_goodput_is_compared_only_where_the_targets_are_the_same(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW)
    measure(night, FAST)
    target = (
        "UPDATE campaigns SET document = json_set(document, '$.targets_s', json('{\"ttft\": 0.5}')) WHERE number = ?"
    )
    with night.store.transaction() as tx:
        tx.execute("UPDATE metrics SET name = 'goodput', unit = '1/s' WHERE name = ?", (SPEED,))
        tx.execute(target, (1,))
    refused = lemctl("results", "compare", "demo#1", "demo", "--metric", "goodput")
    assert refused.code == 2
    assert "both sides need the same `targets`" in refused.err
    with night.store.transaction() as tx:
        tx.execute(target, (2,))
    same = lemctl("results", "compare", "demo#1", "demo", "--metric", "goodput")
    assert same.code == 0
    assert "better" in same.out


def test_session_folders_are_not_needed(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW)
    measure(night, FAST)
    before = lemctl("results", "compare", "demo#1", "demo").out
    shutil.rmtree(night.store.home.sessions, ignore_errors=True)
    assert lemctl("results", "compare", "demo#1", "demo").out == before


@pytest.mark.parametrize(("first", "second", "code"), [("demo#1", "demo#2", 0), ("demo#2", "demo#1", 3)])
def test_worse_fails_where_it_is_asked_to(night: Night, lemctl: Lemctl, first: str, second: str, code: int) -> None:
    measure(night, SLOW)
    measure(night, FAST)
    assert lemctl("results", "compare", first, second, "--metric", SPEED, "--fail-if", "worse").code == code
    assert lemctl("results", "compare", first, second, "--metric", SPEED).code == 0


def test_an_experiment_that_b_lacks_never_passes(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW, sizes=(1, 2, 4))
    measure(night, FAST)
    never_passes(lemctl, "2 experiments of A without a result in B")


def test_a_metric_that_b_lacks_never_passes(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW)
    measure(night, FAST)
    with night.store.transaction() as tx:
        tx.execute(
            "DELETE FROM metrics WHERE name = 'ttft_p50' AND attempt_id IN (SELECT a.id FROM attempts a"
            " JOIN runs r ON r.id = a.run_id JOIN campaigns c ON c.id = r.campaign_id WHERE c.number = 2)"
        )
    never_passes(lemctl, "ttft_p50 at workload.load.batch_size=1 is told by A alone")


def never_passes(lemctl: Lemctl, said: str) -> None:
    words = ("results", "compare", "demo#1", "demo#2")
    assert json.loads(lemctl(*words, "--json").out)["uncompared"] == [said]
    told = lemctl(*words, "--fail-if", "worse")
    assert f"not told   {said}" in told.out
    assert told.code == 3
    assert lemctl(*words).code == 0
    assert json.loads(lemctl("results", "compare", "demo#2", "demo#1", "--json").out)["uncompared"] == []


def test_other_work_is_refused_and_never_passes(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW)
    measure(night, FAST, tokens_out=255 - 10, stops={"length": 6, "eos": 2})
    said = lemctl("results", "compare", "demo#1", "demo", "--json")
    (pair,) = json.loads(said.out)["pairs"]
    assert (pair["same_work"], pair["metrics"]) == (False, {})
    assert [text.split(":")[0] for text in pair["differences"]] == ["output tokens of a request", "stop reasons"]
    assert said.code == 0
    assert lemctl("results", "compare", "demo#1", "demo", "--fail-if", "worse").code == 3


def test_another_gpu_is_not_paired_and_said(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW)
    measure(night, FAST, gpus=("GPU-2",))
    said = lemctl("results", "compare", "demo#1", "demo")
    assert "pairing    none: not the same GPU" in said.out
    body = json.loads(lemctl("results", "compare", "demo#1", "demo", "--json").out)
    assert body["pairs"][0]["metrics"][SPEED]["paired"] is False
    assert body["matched_by"] == "equal experiments"


def test_two_commits_are_compared_over_all_their_results(night: Night, lemctl: Lemctl) -> None:
    measure(night, SLOW, commit=COMMITS[0])
    measure(night, FAST, commit=COMMITS[1])
    said = lemctl("results", "compare", "commit:aaaaaaa", "bbbbbbb", "--metric", SPEED)
    assert said.code == 0
    assert "B          commit bbbbbbbbbbbb: 3 results" in said.out
    assert "better" in said.out


def test_two_experiments_are_compared_though_they_are_not_the_same(night: Night, lemctl: Lemctl) -> None:
    night.add(plan_of(cycles=3))
    night.activate()
    for run, speed in zip(night.runs(), [80.0, 100.0, 81.0, 101.0, 79.0, 99.5], strict=True):
        night.finish(run, figures={SPEED: speed}, work=WorkRow(WORK, OUTPUTS))
    rows = night.store.connection.execute("SELECT DISTINCT experiment FROM runs ORDER BY position").fetchall()
    one, other = (row[0] for row in rows)
    said = lemctl("results", "compare", one[:8], f"experiment:{other}", "--metric", SPEED)
    assert said.code == 0
    assert f"{one[:8]} {other[:8]}" in said.out
    assert "matched    by chosen: their configurations are not the same" in said.out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("demo", "demo"), 2, "3 results would stand on both sides"),
        (("demo", "nothing"), 7, "'nothing' is no campaign, experiment or commit"),
        (("demo#1", "demo", "--metric", "speed"), 2, "no metric 'speed'"),
        (("demo#1", "demo", "--metric", "energy_per_output_token"), 7, "no result of both sides has energy_per"),
        (("demo#1", "demo", "--fail-if", "better"), 2, "--fail-if is worse"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    night: Night, lemctl: Lemctl, words: tuple[str, ...], code: int, told: str
) -> None:
    measure(night, SLOW)
    measure(night, FAST)
    said = lemctl("results", "compare", *words)
    assert said.code == code
    assert told in said.err
    assert len(said.err.strip().splitlines()) == 1
