"""Whatever is done to a campaign file, it gives a plan or one clear line, never another exception."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import Plan, plan
from lemctl.errors import CampaignFileError

Read = Callable[..., CampaignFile]

RICH = """\
name: rich
description: "everything at once"
preset: throughput
model: hf:org/name@main
backend: pytorch
workload: {dataset: file:questions.jsonl, prompts: 40, max_new_tokens: 16, output: natural, template: chat}
engine: {dtype: fp16}
sampling: {do_sample: true, temperature: 0.7}
measure: {window: 30s, baseline: 0, warmup: {kind: steady, min: 1s}}
pytorch: {engine: {attn_implementation: sdpa}}
sweep:
  backend: [pytorch, vllm]
  workload.load.batch_size: &sizes [1, 2]
  vllm.engine.gpu_memory_utilization: [0.85, 0.9]
  zip: {workload.seed: [1, 2], sampling.seed: *sizes}
  groups: [{measure.window: [one_pass, 5s]}, {sampling.top_k: [5]}]
exclude: [{backend: vllm, workload.load.batch_size: [1]}]
include: [{pytorch.engine.load_in_4bit: true}]
cycles: 3
order: shuffled
seed: 7
gate: {kind: cool, max: 300s}
isolation: process
retry: {max: 2}
timeouts: {start: 30m}
breaker: {consecutive: 3}
hours: [{from: "22:00", to: "07:00", tz: UTC}, {from: "06:00", to: "24:00", days: fri-mon, tz: UTC}]
gpus: [0, GPU-1]
"""

PIECES = [
    *("null", "true", "-1", "1e9", "[]", "{}", "[[1]]", "{a: b}", "'", '"', ": ", "- ", "\n", "  ", "*sizes", "&x "),
    *("0s", "hf:", "file:../x", "random", "zip", "groups", "backend", "vllm.engine.x", "..", "\t", "\0", "é", "!!int "),
    *("<<: *sizes\n", "---\n", "%", "2h", "workload.load.batch_size", "99999999999999999999", "until"),
]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The rich file with some edits: lines dropped, doubled or moved, values replaced, characters put in."""
    lines = RICH.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["drop", "double", "piece", "value", "text", "cut"]))
        line = lines[index]
        if kind == "drop" and len(lines) > 1:
            del lines[index]
        elif kind == "double":
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif kind == "value":
            lines[index] = f"{line.partition(':')[0]}: {draw(st.sampled_from(PIECES))}\n"
        elif kind == "cut":
            lines[index] = line[: draw(st.integers(0, len(line)))]
        else:
            place = draw(st.integers(0, len(line)))
            piece = draw(st.sampled_from(PIECES) if kind == "piece" else st.text(string.printable, max_size=4))
            lines[index] = line[:place] + piece + line[place:]
    return "".join(lines)


def outcome(read: Read, text: str, overrides: dict[str, str] | None = None) -> tuple[Plan | None, str]:
    """The plan, or what is said; any other exception goes through."""
    try:
        return plan(read(text, overrides)), ""
    except CampaignFileError as error:
        return None, str(error)


def test_the_file_that_is_mutated_is_right(read: Read) -> None:
    assert len(plan(read(RICH)).runs) > 30


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutated())
@example(text="{")
@example(text="? \n")
def test_a_mutated_file_gives_a_plan_or_one_clear_line(read: Read, text: str) -> None:
    done, said = outcome(read, text)
    if done is None:
        assert said.startswith("file.yaml")
        assert "\n" not in said
        return
    assert Counter((run.experiment, run.cycle) for run in done.runs) == {
        (experiment, cycle): 1
        for experiment in range(len(done.experiments))
        for cycle in range(1, done.document["cycles"] + 1)
    }
    again = plan(read(text))
    assert (again.hash, again.runs) == (done.hash, done.runs)


KEYS = [
    *("name", "model", "backend", "workload", "workload.prompts", "workload.random", "sweep"),
    *("sweep.zip", "sweep.groups", "sweep.backend", "cycles", "gpus", "pytorch.engine.x", "vllm"),
    *("exclude", "include", "gate.kind", "gate", "preset", "engine.dtype"),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    overrides=st.dictionaries(
        st.sampled_from(KEYS), st.sampled_from(PIECES) | st.text(string.printable, max_size=6), max_size=3
    )
)
def test_any_words_on_the_command_line_give_a_plan_or_one_clear_line(read: Read, overrides: dict[str, str]) -> None:
    done, said = outcome(read, RICH, overrides)
    assert "\n" not in said
    assert done is None or done.runs
