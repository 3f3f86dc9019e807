from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lem_runner.forms import Form, prompts_of
from lem_runner.protocol import canonical_json
from lemctl.campaign.file import CampaignFile, load
from lemctl.campaign.plan import Plan, engine_of, plan

Read = Callable[..., CampaignFile]
GOLDEN = Path(__file__).parents[2] / "golden" / "campaign"
CAMPAIGNS = Path(__file__).parents[3] / "campaigns"

LONG = """\
description: what is written here changes nothing
sweep:
  backend: [pytorch, vllm]
  workload.load.batch_size: [1, 4]
  engine.dtype: [float32, bfloat16]
  vllm.engine.gpu_memory_utilization: [0.8, 1]
exclude: [{backend: vllm, engine.dtype: float32}]
"""


def shown(done: Plan) -> str:
    """A plan as the golden file has it."""
    body = {
        "hash": done.hash,
        "document": done.document,
        "experiments": [
            {"hash": e.hash, "backend": e.backend, "model": e.model, "axes": e.axes, "spec": e.spec}
            for e in done.experiments
        ],
        "runs": [[run.position, run.experiment, run.cycle] for run in done.runs],
    }
    return json.dumps(body, indent=1, sort_keys=True) + "\n"


def test_hashes_and_order_of_a_campaign_stay_what_they_were(read: Read, small: str) -> None:
    """Results of earlier nights are found by these hashes: a change here loses them, and needs a new spec version."""
    assert shown(plan(read(small + LONG))) == (GOLDEN / "plan.json").read_text()


def test_a_hash_is_of_the_canonical_json_of_the_specification(read: Read, small: str) -> None:
    for experiment in plan(read(small + LONG)).experiments:
        digest = hashlib.sha256(canonical_json(experiment.spec).encode()).hexdigest()
        assert experiment.hash == digest[:16]


@pytest.mark.parametrize(
    "added",
    [
        "order: shuffled",
        "seed: 5",
        "gate: {kind: steady}",
        "retry: {max: 0}",
        "timeouts: {run: 1h}",
        "breaker: {consecutive: 9}",
        "gpus: [1]",
        "isolation: process",
        "reload_each_block: true",
        "description: x",
    ],
)
def test_what_is_no_part_of_the_experiment_does_not_change_its_hash(read: Read, small: str, added: str) -> None:
    before, after = plan(read(small)), plan(read(small + added + "\n"))
    assert [e.hash for e in before.experiments] == [e.hash for e in after.experiments]
    assert (before.hash == after.hash) is added.startswith("description")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "hf:org/other"},
        {"model": "hf:org/name@v2"},
        {"backend": "vllm"},
        {"workload.prompts": "63"},
        {"workload.seed": "1"},
        {"workload.random.input_len": "17"},
        {"workload.max_new_tokens": "5"},
        {"workload.output": "natural"},
        {"workload.load.batch_size": "2"},
        {"workload.load.batching": "dynamic"},
        {"engine.dtype": "fp16"},
        {"pytorch.engine.load_in_4bit": "true"},
        {"pytorch.sampling.num_beams": "2"},
        {"sampling.seed": "1"},
        {"sampling.do_sample": "true", "sampling.top_k": "4"},
        {"measure.window": "61s"},
        {"measure.window": "one_pass"},
        {"measure.baseline": "0"},
        {"measure.warmup.kind": "none"},
        {"measure.warmup.max": "20s"},
        {"workload.dataset": "file:questions.jsonl", "workload.random": "null"},
        {"workload.dataset": "file:questions.jsonl", "workload.random": "null", "workload.template": "chat"},
    ],
)
def test_what_is_part_of_the_experiment_changes_its_hash(read: Read, small: str, changes: dict[str, str]) -> None:
    assert plan(read(small)).experiments[0].hash != plan(read(small, changes)).experiments[0].hash


def test_numbers_that_are_equal_hash_alike_however_they_are_written(read: Read, small: str) -> None:
    whole = plan(read(small.replace("pytorch", "vllm") + "vllm.engine.gpu_memory_utilization: 1\n"))
    fraction = plan(read(small.replace("pytorch", "vllm") + "vllm.engine.gpu_memory_utilization: 1.0\n"))
    assert whole.experiments[0].hash == fraction.experiments[0].hash


def test_a_scoped_parameter_stands_above_the_portable_one_even_where_that_is_swept(read: Read, small: str) -> None:
    done = plan(read(small + "pytorch.engine.dtype: float64\n"))
    assert done.experiments[0].spec["engine"] == {"dtype": "float64"}


def test_document_and_specifications_survive_json(read: Read, small: str) -> None:
    done = plan(read(small + LONG, {"gpus": "[0, GPU-abc]"}))
    assert json.loads(json.dumps(done.document)) == done.document
    assert [json.loads(json.dumps(e.spec)) for e in done.experiments] == [e.spec for e in done.experiments]
    assert done.document["gpus"] == [0, "GPU-abc"]


def test_experiments_share_an_engine_where_backend_model_and_engine_parameters_agree(read: Read, small: str) -> None:
    done = plan(read(small + LONG))
    key = {(e.backend, json.dumps(e.spec["model"]), json.dumps(e.spec["engine"])) for e in done.experiments}
    assert len({engine_of(e) for e in done.experiments}) == len(key) == 4


def test_positions_count_the_queue(read: Read, small: str) -> None:
    assert [run.position for run in plan(read(small + LONG)).runs] == list(range(16))


@pytest.mark.parametrize("path", sorted(CAMPAIGNS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_campaign_plans(path: Path, tmp_path: Path) -> None:
    images = CAMPAIGNS.parent / "images"
    done = plan(load(path, dataset_dirs=[CAMPAIGNS / "prompts"], model_dirs=[tmp_path], catalogue_dir=images))
    assert done.runs


def test_the_demo_measures_two_batch_sizes_twice(tmp_path: Path) -> None:
    done = plan(load(CAMPAIGNS / "demo.yaml", dataset_dirs=[CAMPAIGNS / "prompts"], model_dirs=[tmp_path]))
    assert (len(done.experiments), len(done.runs)) == (2, 4)
    assert done.document["preset"] == "quick-test"


def test_the_custom_data_set_has_as_many_prompts_as_its_campaign_asks_for(tmp_path: Path) -> None:
    prompts = CAMPAIGNS / "prompts"
    done = plan(load(CAMPAIGNS / "custom-dataset.yaml", dataset_dirs=[prompts], model_dirs=[tmp_path]))
    workload = done.experiments[0].spec["workload"]
    form = Form(workload["dataset"]["column"], where=workload["select"]["where"])
    rows = list(prompts_of([prompts / workload["dataset"]["name"]], form))
    assert len([row for row in rows if len(row.split()) >= workload["select"]["min_tokens"]]) >= workload["prompts"]
    assert len(done.experiments) == 2


def test_the_demo_prompts_are_thirty_different_short_ones() -> None:
    lines = (CAMPAIGNS / "prompts" / "demo.jsonl").read_text("utf-8").splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    assert len(set(prompts)) == 30
    assert all(5 <= len(prompt.split()) <= 40 for prompt in prompts)
