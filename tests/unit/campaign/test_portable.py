"""The portable parameters: one table, honoured for every engine or refused with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lem_runner import portable
from lem_runner.portable import TABLE, Lacks
from lemctl.campaign.catalogue import load_catalogue
from lemctl.campaign.file import CampaignFile
from lemctl.campaign.plan import plan
from lemctl.campaign.values import experiment_keys
from lemctl.daemon.specs import resolved
from lemctl.errors import CampaignFileError

Read = Callable[..., CampaignFile]
IMAGES = Path(__file__).parents[3] / "images"
DESCRIBED = sorted(path.parent.name for path in IMAGES.glob("*/params.json"))

#: A value that each portable parameter can have.
VALUES: dict[str, Any] = {
    "engine.dtype": "float32",
    "engine.max_model_len": 512,
    "engine.tensor_parallel": 2,
    "engine.pipeline_parallel": 2,
    "engine.data_parallel": 2,
    "engine.prefix_caching": True,
    "sampling.do_sample": True,
    "sampling.temperature": 0.7,
    "sampling.top_p": 0.9,
    "sampling.top_k": 40,
    "sampling.min_p": 0.1,
    "sampling.repetition_penalty": 1.1,
    "sampling.seed": 3,
    "workload.load.batch_size": 8,
    "workload.max_new_tokens": 16,
    "workload.output": "natural",
}
CELLS = [(row, backend) for row in TABLE for backend in portable.BACKENDS]


def test_the_table_holds_every_portable_engine_and_sampling_key() -> None:
    keys = {key for key in experiment_keys() if key.startswith(("engine.", "sampling."))}
    assert keys <= {row.key for row in TABLE} == set(VALUES)


def test_every_row_says_something_of_every_engine() -> None:
    assert all(tuple(row.cells) == portable.BACKENDS for row in TABLE)


@pytest.mark.parametrize("backend", DESCRIBED)
def test_what_a_cell_sets_is_a_parameter_of_that_engine(backend: str) -> None:
    """Those of a request may be kept from campaigns: the workload sets them."""
    catalogue = load_catalogue(IMAGES, backend)
    assert catalogue is not None
    for row in TABLE:
        cell = row.cell(backend)
        for target in cell if isinstance(cell, Mapping) else ():
            group = "engine" if row.part in ("engine", "limit") else "sampling"
            parameter = catalogue.find(group, target)
            assert parameter is not None, f"{backend} has no {group} parameter {target!r} for {row.key}"
            if row.part != "request":
                words = [cell[target].get(VALUES[row.key])] if isinstance(cell[target], dict) else [VALUES[row.key]]
                assert [parameter.mistake(word) for word in words if word is not None] in ([None], [])


@pytest.mark.parametrize(("row", "backend"), CELLS, ids=lambda part: getattr(part, "key", part))
def test_a_value_reaches_the_engine_or_is_refused_with_its_reason(
    read: Read, small: str, row: portable.Row, backend: str
) -> None:
    given = {row.key: VALUES[row.key], "sampling.do_sample": True}
    text = small.replace("backend: pytorch", f"backend: {backend}") + "".join(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}\n" for key, value in given.items()
    )
    cell = row.cells[backend]
    if isinstance(cell, Lacks):
        with pytest.raises(CampaignFileError, match="cannot do this") as caught:
            plan(read(text))
        assert cell.reason in str(caught.value)
        assert caught.value.key == row.key
        return
    done = plan(read(text))
    parameters = resolved(done.experiments[0].spec, done.document)
    part = parameters.sampling if row.part == "sampling" else parameters.engine
    if row.part != "request" and isinstance(cell, Mapping):
        for target, word in cell.items():
            head, _, key = target.partition(".")
            found = part.get(head, {}).get(key) if key else part.get(head)
            assert found == (word.get(VALUES[row.key]) if isinstance(word, Mapping) else VALUES[row.key])


def test_greedy_and_sampling_mean_the_same_to_every_engine() -> None:
    def sampling(backend: str, **given: Any) -> dict[str, Any]:
        return portable.translated(backend, "sampling", given)

    assert sampling("vllm", do_sample=False) == {"temperature": 0.0}
    assert sampling("tensorrt", do_sample=False) == {"top_k": 1}
    assert sampling("pytorch", do_sample=False) == {"do_sample": False}
    # transformers alone would sample from the 50 likeliest tokens where nothing is said.
    assert sampling("pytorch", do_sample=True)["top_k"] == 0
    for backend in ("pytorch", "vllm", "tensorrt"):
        assert sampling(backend, do_sample=True)["temperature"] == 1.0
        chosen = sampling(backend, do_sample=True, temperature=0.3, top_k=7)
        assert (chosen["temperature"], chosen["top_k"]) == (0.3, 7)


def test_a_scoped_value_stands_above_the_portable_one() -> None:
    given = {"tensor_parallel": 2, "tensor_parallel_size": 4, "kv_cache_config": {"enable_block_reuse": True}}
    assert portable.translated("tensorrt", "engine", given) == {
        "tensor_parallel_size": 4,
        "kv_cache_config": {"enable_block_reuse": True},
    }


def test_prefix_caches_are_off_where_nothing_is_said() -> None:
    assert portable.translated("vllm", "engine", {}) == {"enable_prefix_caching": False}
    assert portable.translated("tensorrt", "engine", {}) == {"kv_cache_config": {"enable_block_reuse": False}}


def test_an_engines_own_limit_is_the_campaigns_largest_batch(read: Read, small: str) -> None:
    axes = "sweep: {backend: [pytorch, vllm], workload.load.batch_size: [1, 8]}"
    text = small.replace("backend: pytorch\n", "") + axes
    done = plan(read(text))
    limits = [
        resolved(each.spec, done.document).engine.get("max_num_seqs")
        for each in done.experiments
        if each.backend == "vllm"
    ]
    assert limits == [8, 8]
    assert "max_num_seqs" not in resolved(done.experiments[0].spec, done.document).engine
