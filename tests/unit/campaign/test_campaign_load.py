"""`workload.load`: what each mode needs, what is hashed of it, and one clear line for what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lemctl.campaign.estimate import estimate
from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import Plan, plan
from lemctl.campaign.trace import read_arrivals
from lemctl.errors import CampaignFileError

Read = Callable[..., CampaignFile]
WORK = (
    "name: x\nmodel: hf:org/name\nbackend: vllm\nworkload: {dataset: random, random: {input_len: 16}, prompts: 200}\n"
)
LOADS = ["offline", "closed", "poisson", "gamma", "trace"]


@pytest.fixture
def served(host: Path) -> Path:
    """The host, where vllm serves every load and pytorch none but batches; with a trace."""
    path = host / "images" / "vllm" / "params.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"loads": LOADS}))
    (host / "datasets" / "arrivals.txt").write_text("".join(f"{5 + number / 4}\n" for number in range(400)))
    return host


def load_of(done: Plan) -> dict[str, Any]:
    (experiment,) = done.experiments
    found: dict[str, Any] = experiment.spec["workload"]["load"]
    return found


def mistake(read: Read, text: str) -> CampaignFileError:
    with pytest.raises(CampaignFileError) as caught:
        plan(read(text))
    return caught.value


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ("{mode: closed, concurrency: 16}", {"mode": "closed", "concurrency": 16}),
        ("{mode: poisson, rate: 4/s}", {"mode": "poisson", "rate_per_s": 4.0}),
        ("{mode: poisson, rate: 90/min}", {"mode": "poisson", "rate_per_s": 1.5}),
        ("{mode: gamma, rate: 0.5/s, burstiness: 2}", {"mode": "gamma", "rate_per_s": 0.5, "burstiness": 2.0}),
        (
            "{mode: offline, batch_size: 8, batching: continuous}",
            {"mode": "offline", "batch_size": 8, "batching": "continuous"},
        ),
    ],
)
def test_only_the_modes_own_keys_are_hashed(read: Read, served: Path, load: str, expected: dict[str, Any]) -> None:
    assert load_of(plan(read(WORK + f"workload.load: {load}\n"))) == expected


def test_the_hash_of_offline_work_is_what_it_was(read: Read, small: str) -> None:
    (experiment,) = plan(read(small)).experiments
    assert experiment.spec["workload"]["load"] == {"mode": "offline", "batch_size": 1, "batching": "static"}
    assert experiment.hash == "56b3d7ae3ea395a0"


def test_other_loads_are_other_experiments(read: Read, served: Path) -> None:
    sweep = "workload.load.mode: poisson\nsweep: {workload.load.rate: [1/s, 2/s, 120/min]}\n"
    done = plan(read(WORK + sweep))
    assert len(done.experiments) == 2
    assert [experiment.axes["workload.load.rate"] for experiment in done.experiments] == ["1/s", "2/s"]


def test_a_trace_is_named_by_its_content(read: Read, served: Path) -> None:
    text = WORK + "workload.load: {mode: trace, trace: file:arrivals.txt}\n"
    trace = load_of(plan(read(text)))["trace"]
    assert (trace["name"], trace["arrivals"], trace["span_s"]) == ("arrivals.txt", 400, 99.75)
    before = plan(read(text)).hash
    (served / "datasets" / "arrivals.txt").write_text("0\n100\n")
    assert plan(read(text)).hash != before


@pytest.mark.parametrize(
    ("load", "key", "words"),
    [
        ("{mode: closed}", "workload.load.concurrency", "`mode: closed` needs it, such as concurrency: 16"),
        ("{mode: closed, concurrency: 0}", "workload.load.concurrency", "at least 1"),
        ("{mode: closed, concurrency: 201}", "workload.load.concurrency", "201 is never reached with 200 prompts"),
        ("{mode: poisson}", "workload.load.rate", "`mode: poisson` needs it, such as rate: 4/s"),
        ("{mode: poisson, rate: 0/s}", "workload.load.rate", "above 0"),
        ("{mode: poisson, rate: 4}", "workload.load.rate", "such as 4/s"),
        ("{mode: poisson, rate: -4/s}", "workload.load.rate", "such as 4/s"),
        ("{mode: gamma, rate: 4/s}", "workload.load.burstiness", "`mode: gamma` needs it"),
        ("{mode: gamma, rate: 4/s, burstiness: 0}", "workload.load.burstiness", "more than 0"),
        ("{mode: trace}", "workload.load.trace", "such as trace: file:arrivals.txt"),
        ("{mode: trace, trace: file:none.txt}", "workload.load.trace", "no file 'none.txt' in"),
        ("{mode: trace, trace: /etc/passwd}", "workload.load.trace", "must be file:NAME in a data-set folder"),
        ("{mode: trace, trace: file:../secret.jsonl}", "workload.load.trace", "no data set name"),
        ("{mode: closed, concurrency: 4, rate: 4/s}", "workload.load.rate", "no effect with `mode: closed`"),
        ("{mode: poisson, rate: 4/s, batch_size: 8}", "workload.load.batch_size", "no effect with `mode: poisson`"),
        ("{concurrency: 8}", "workload.load.concurrency", "no effect with `mode: offline`"),
        ("{mode: steady}", "workload.load.mode", "closed"),
    ],
)
def test_a_load_that_cannot_be_is_one_clear_line(read: Read, served: Path, load: str, key: str, words: str) -> None:
    error = mistake(read, WORK + f"workload.load: {load}\n")
    assert words in str(error)
    assert (error.key, error.line) == (key, 5)
    assert "\n" not in str(error)


def test_a_key_without_effect_is_refused_where_it_is_swept(read: Read, served: Path) -> None:
    error = mistake(read, WORK + "workload.load: {mode: closed, concurrency: 4}\nsweep: {workload.load.rate: [1/s]}\n")
    assert "no effect with `mode: closed`" in str(error)
    assert error.line == 6


def test_a_presets_batch_size_does_not_stand_in_a_loads_way(read: Read, served: Path) -> None:
    load = "workload.load: {mode: poisson, rate: 4/s}\n"
    assert load_of(plan(read(WORK + load, preset="throughput"))) == {"mode": "poisson", "rate_per_s": 4.0}


@pytest.mark.parametrize(
    ("load", "key", "words"),
    [
        (
            "{mode: poisson, rate: 4/s}",
            "workload.load.mode",
            "pytorch cannot serve mode poisson: it works on one batch",
        ),
        ("{batching: continuous}", "workload.load.batching", "pytorch cannot serve continuous batching"),
    ],
)
def test_a_backend_without_batching_of_its_own_is_refused_on_the_host(
    read: Read,
    served: Path,
    load: str,
    key: str,
    words: str,
) -> None:
    error = mistake(read, WORK.replace("vllm", "pytorch") + f"workload.load: {load}\n")
    assert words in str(error)
    assert error.key == key


@pytest.mark.parametrize(
    ("load", "window", "key", "words"),
    [
        ("{batching: continuous, batch_size: 21}", "one_pass", "workload.prompts", "needs at least 210"),
        ("{mode: closed, concurrency: 67}", "one_pass", "workload.prompts", "needs at least 201"),
        ("{mode: trace, trace: file:arrivals.txt}", "100s", "workload.load.trace", "lasts 99.75 s, the window 100 s"),
    ],
)
def test_work_that_leaves_no_window_is_refused_on_the_host(
    read: Read,
    served: Path,
    load: str,
    window: str,
    key: str,
    words: str,
) -> None:
    error = mistake(read, WORK + f"workload.load: {load}\nmeasure.window: {window}\n")
    assert words in str(error)
    assert error.key == key


def test_a_trace_shorter_than_its_prompts_is_refused_for_one_pass(read: Read, served: Path) -> None:
    (served / "datasets" / "arrivals.txt").write_text("0\n1\n")
    text = WORK + "workload.load: {mode: trace, trace: file:arrivals.txt}\nmeasure.window: one_pass\n"
    assert "200 prompts, each sent once, and 2 arrivals in arrivals.txt" in str(mistake(read, text))


def test_an_engine_keeps_its_own_limit_for_an_open_loop(read: Read, served: Path) -> None:
    closed = "sweep: {workload.load.concurrency: [4, 16]}\nworkload.load.mode: closed\n"
    assert plan(read(WORK + closed)).document["largest_batch"] == {"vllm": 16}
    groups = """sweep:
  groups:
    - {workload.load.mode: [closed], workload.load.concurrency: [4]}
    - {workload.load.mode: [poisson], workload.load.rate: [4/s]}
"""
    assert "largest_batch" not in plan(read(WORK + groups)).document


def guessed(campaign: CampaignFile) -> float:
    return estimate(plan(campaign), sensors=False).phases.measuring_s


def test_the_estimate_knows_how_long_arrivals_take(read: Read, served: Path) -> None:
    once = WORK + "measure.window: one_pass\ncycles: 1\nworkload.max_new_tokens: 10\n"
    slow = guessed(read(once + "workload.load: {mode: poisson, rate: 1/s}\n"))
    fast = guessed(read(once + "workload.load: {mode: poisson, rate: 10/s}\n"))
    assert (slow, fast) == (pytest.approx(202.5, abs=1), pytest.approx(22.5, abs=1))
    one = guessed(read(once + "workload.load: {mode: closed, concurrency: 1}\n"))
    ten = guessed(read(once + "workload.load: {mode: closed, concurrency: 10}\n"))
    assert one == pytest.approx(10 * ten, rel=0.2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "10\n10.5\n12\n"),
        ("a.csv", "user,arrival_s\nx,10\ny,10.5\nz,12\n"),
        ("a.json", '[10, {"timestamp": 10.5}, 12]'),
        ("a.jsonl", '{"arrival_s": 10}\n{"arrival_s": 10.5}\n12\n'),
    ],
)
def test_recorded_arrivals_are_read_from_every_form(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_arrivals(tmp_path / name) == [0.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "1\nsoon\n", "a.txt, line 2: 'soon' is no time in seconds"),
        ("a.txt", "2\n1\n", "line 2: 1 comes after 2; arrivals must ascend"),
        ("a.txt", "1\n", "1 arrivals; a trace has at least 2"),
        ("a.txt", "1\nnan\n", "no time in seconds"),
        ("a.json", "{}", "a list of arrivals is needed, found dict"),
        ("a.jsonl", "1\n{\n", "line 2: no JSON"),
        ("a.csv", "when\n1\n", "line 2: {'when': '1'} is no time"),
        ("a.bin", "1\n2\n", "a trace ends in one of .txt, .csv"),
    ],
)
def test_a_trace_that_is_none_says_where(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"^a") as caught:
        read_arrivals(tmp_path / name)
    assert words in str(caught.value)


@pytest.mark.usefixtures("served")
def test_latency_targets_are_judged_and_no_part_of_the_experiment(read: Read) -> None:
    """Another plan, for its figures are others, of the same work; one without targets keeps the name it had."""
    closed = WORK + "workload.load: {mode: closed, concurrency: 2}\n"
    plain = plan(read(closed))
    one = plan(read(closed + "targets: {ttft: 500ms, tpot: 50ms}\n"))
    other = plan(read(closed + "targets: {ttft: 500ms, e2e: 10s}\n"))
    assert plain.experiments == one.experiments == other.experiments
    assert len({plain.hash, one.hash, other.hash}) == 3
    assert one.document["targets_s"] == {"ttft": 0.5, "tpot": 0.05}
    assert "targets_s" not in plain.document
