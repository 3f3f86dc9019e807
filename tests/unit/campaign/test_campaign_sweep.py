from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import Plan, plan
from lemctl.errors import CampaignFileError

Read = Callable[..., CampaignFile]


def axes(done: Plan, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(experiment.axes.get(name) for name in names) for experiment in done.experiments]


BATCH = "workload.load.batch_size"
TOKENS = "workload.max_new_tokens"


def test_a_grid_combines_every_value_with_every_other(read: Read, small: str) -> None:
    done = plan(read(small + f"sweep: {{{BATCH}: [1, 2, 4], {TOKENS}: [8, 16]}}\n"))
    assert axes(done, BATCH, TOKENS) == list(itertools.product([1, 2, 4], [8, 16]))
    for experiment in done.experiments:
        assert experiment.spec["workload"]["load"]["batch_size"] == experiment.axes[BATCH]
        assert experiment.spec["workload"]["max_new_tokens"] == experiment.axes[TOKENS]
        assert experiment.spec["workload"]["prompts"] == 64


def test_a_scoped_axis_multiplies_its_own_backend_only(read: Read, small: str) -> None:
    done = plan(
        read(small + "sweep: {backend: [pytorch, vllm], vllm.engine.gpu_memory_utilization: [0.8, 0.9], seed: [0]}\n"
             .replace(", seed: [0]", ""))
    )  # fmt: skip
    key = "vllm.engine.gpu_memory_utilization"
    assert [(e.backend, e.axes.get(key)) for e in done.experiments] == [
        ("pytorch", None), ("vllm", 0.8), ("vllm", 0.9)]  # fmt: skip
    assert "gpu_memory_utilization" not in done.experiments[0].spec["engine"]
    assert done.experiments[2].spec["engine"] == {"dtype": "auto", "gpu_memory_utilization": 0.9}


def test_zipped_keys_advance_together(read: Read, small: str) -> None:
    text = f"sweep: {{{BATCH}: [1, 2], zip: {{{TOKENS}: [8, 16], workload.prompts: [50, 20]}}}}\n"
    done = plan(read(small + text))
    assert axes(done, BATCH, TOKENS, "workload.prompts") == [(1, 8, 50), (1, 16, 20), (2, 8, 50), (2, 16, 20)]


def test_several_zips_are_several_axes(read: Read, small: str) -> None:
    text = "sweep: {zip: [{workload.prompts: [50, 20]}, {workload.seed: [1, 2, 3], sampling.seed: [1, 2, 3]}]}\n"
    assert len(plan(read(small + text)).experiments) == 6


def test_a_zip_of_two_backends_parameters_applies_each_to_its_own(read: Read, small: str) -> None:
    text = """\
sweep:
  zip: {backend: [pytorch, vllm], pytorch.engine.load_in_4bit: [true, true], vllm.engine.max_num_seqs: [8, 8]}
"""
    done = plan(read(small + text))
    assert [e.spec["engine"] for e in done.experiments] == [
        {"dtype": "auto", "load_in_4bit": True},
        {"dtype": "auto", "max_num_seqs": 8},
    ]


def test_groups_are_alternatives_beside_the_grid(read: Read, small: str) -> None:
    text = f"""\
sweep:
  {BATCH}: [1, 2]
  groups:
    - {{engine.dtype: [fp16, bf16]}}
    - {{engine.dtype: [float32], {TOKENS}: [8]}}
"""
    done = plan(read(small + text))
    expected = [(b, d, None) for b in (1, 2) for d in ("float16", "bfloat16")] + [(b, "float32", 8) for b in (1, 2)]
    assert axes(done, BATCH, "engine.dtype", TOKENS) == expected


def test_exclude_needs_all_values_of_an_entry_and_takes_lists(read: Read, small: str) -> None:
    text = f"""\
sweep: {{backend: [pytorch, vllm], {BATCH}: [1, 2, 4]}}
exclude:
  - {{backend: vllm, {BATCH}: [1, 2]}}
"""
    done = plan(read(small + text))
    assert [(e.backend, e.axes[BATCH]) for e in done.experiments] == [
        ("pytorch", 1), ("pytorch", 2), ("pytorch", 4), ("vllm", 4)]  # fmt: skip


def test_exclude_sees_values_that_are_not_swept_and_other_spellings(read: Read, small: str) -> None:
    text = (
        "engine: {dtype: float16}\nsweep: {workload.seed: [1, 2]}\nexclude: [{engine.dtype: fp16, workload.seed: 1}]\n"
    )
    assert axes(plan(read(small + text)), "workload.seed") == [(2,)]


def test_an_exclusion_that_excludes_nothing_is_said(read: Read, small: str) -> None:
    done = plan(read(small + "exclude: [{workload.seed: 5}, {vllm.engine.max_num_seqs: 5}]\n"))
    assert [w for w in done.warnings if "excludes nothing" in w] == [
        "exclude.0 excludes nothing", "exclude.1 excludes nothing"]  # fmt: skip


def test_include_adds_one_experiment_on_the_files_own_values(read: Read, small: str) -> None:
    text = f"sweep: {{{BATCH}: [2, 4]}}\ninclude: [{{backend: pytorch, pytorch.engine.load_in_4bit: true}}]\n"
    done = plan(read(small + text))
    last = done.experiments[-1]
    assert len(done.experiments) == 3
    assert last.spec["engine"]["load_in_4bit"] is True
    assert last.spec["workload"]["load"]["batch_size"] == 1


def test_equal_experiments_are_merged_and_said(read: Read, small: str) -> None:
    done = plan(read(small + "sweep: {engine.dtype: [fp16, float16, bf16]}\ninclude: [{engine.dtype: bf16}]\n"))
    assert len(done.experiments) == 2
    assert "2 duplicate experiments were merged" in done.warnings


def test_a_list_can_be_a_value_of_a_parameter(read: Read, small: str) -> None:
    text = "vllm.engine.limits: [1, 2]\n" + "sweep: {backend: [vllm], vllm.engine.mode: [a, b]}\n"
    done = plan(read(small + text))
    assert done.experiments[0].spec["engine"]["limits"] == [1, 2]


def test_models_and_backends_and_data_sets_can_be_swept_instead_of_stated(read: Read) -> None:
    text = """\
name: x
sweep:
  backend: [pytorch, vllm]
  model: ["hf:a/b", "path:tiny", {random: {hidden_size: 8}}]
  workload.dataset: [file:questions.jsonl, file:sub/more.jsonl]
"""
    done = plan(read(text, {"workload.prompts": "1"}))
    assert len(done.experiments) == 12
    assert {e.spec["model"]["kind"] for e in done.experiments} == {"hf", "path", "random"}
    assert len({e.spec["workload"]["dataset"]["sha256"] for e in done.experiments}) == 2


def test_keys_of_the_command_line_leave_zips_and_groups(read: Read, small: str) -> None:
    text = f"""\
sweep:
  zip: {{{BATCH}: [1, 2], workload.seed: [1, 2]}}
  groups: [{{{TOKENS}: [8, 16]}}, {{sampling.seed: [5]}}]
"""
    done = plan(read(small + text, {BATCH: "4", TOKENS: "32"}))
    assert axes(done, "workload.seed", "sampling.seed") == [(1, None), (2, None), (1, 5), (2, 5)]
    assert {e.spec["workload"]["load"]["batch_size"] for e in done.experiments} == {4}


@pytest.mark.parametrize(
    ("added", "key", "said"),
    [
        ("sweep: {workload.load.batch_size: 4}", "sweep.workload.load.batch_size", "must be a list of values"),
        ("sweep: {workload.load.batch_size: []}", "sweep.workload.load.batch_size", "empty list"),
        ("sweep: {workload.load.batch_size: [1, x]}", "sweep.workload.load.batch_size[1]", "whole number"),
        (
            "sweep: {workload.load.batchsize: [1]}",
            "sweep.workload.load.batchsize[0]",
            "did you mean workload.load.batch",
        ),
        ("sweep: {cycles: [1, 2]}", "sweep.cycles[0]", "cannot differ between experiments"),
        ("sweep: {gate.kind: [cool]}", "sweep.gate.kind[0]", "cannot differ between experiments"),
        ("sweep: {workload.load: [1]}", "sweep.workload.load[0]", "cannot differ"),
        ("sweep: {engine.load_in_4bit: [true]}", "sweep.engine.load_in_4bit[0]", "scoped"),
        ("sweep: {backend: [pytorch, vlm]}", "sweep.backend[1]", "did you mean vllm?"),
        (
            "sweep: {backend: [pytorch], vllm.engine.max_num_seqs: [1]}",
            "sweep.vllm.engine.max_num_seqs",
            "no experiment",
        ),
        ("sweep: {pytorch.engine: [1]}", "sweep.pytorch.engine[0]", "write pytorch.engine.NAME"),
        ("sweep: {zip: {workload.seed: [1, 2], workload.prompts: [1]}}", "sweep.zip", "workload.seed has 2"),
        ("sweep: {zip: [1]}", "sweep.zip[0]", "must be a mapping"),
        ("sweep: {groups: [{workload.seed: [1], groups: []}]}", "sweep.groups[0].groups", "nested"),
        ("sweep: {groups: 3}", "sweep.groups", "must be a list of grids"),
        ("sweep: {workload.seed: [1], zip: {workload.seed: [1]}}", "sweep", "workload.seed is swept twice"),
        ("sweep: {workload.seed: [1]}\nexclude: [{workload.seed: 1}]", "exclude", "no experiment is left"),
        ("include: [{vllm.engine.max_num_seqs: 4, backend: pytorch}]", "vllm", ""),
        (
            "sweep: {workload.prompts: [64, 2], workload.load.batch_size: [4]}",
            "sweep.workload.load.batch_size",
            "2 prompts",
        ),
    ],
)
def test_a_mistake_in_a_sweep_is_named(read: Read, small: str, added: str, key: str, said: str) -> None:
    with pytest.raises(CampaignFileError) as caught:
        plan(read(small + added + "\n"))
    assert said in str(caught.value)
    assert key in str(caught.value)
    assert caught.value.line in (6, 7)


def test_include_without_a_backend_is_refused_where_the_backend_is_swept(read: Read, small: str) -> None:
    text = small.replace("backend: pytorch\n", "") + "sweep: {backend: [pytorch]}\ninclude: [{workload.seed: 3}]\n"
    with pytest.raises(CampaignFileError, match=r"include\[0\]: needs a backend"):
        plan(read(text))


def test_too_many_runs_are_refused_before_they_are_made(read: Read, small: str) -> None:
    many = ", ".join(str(n) for n in range(1000))
    text = small + f"sweep: {{workload.seed: [{many}], sampling.seed: [{many}], {TOKENS}: [{many[3:]}]}}\n"
    with pytest.raises(CampaignFileError, match=r"999,000,000 experiments x 2 cycles are more than 200,000 runs"):
        plan(read(text))
    with pytest.raises(CampaignFileError, match=r"more than 1 runs"):
        plan(read(small, max_runs=1))
