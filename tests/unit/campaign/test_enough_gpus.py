"""What the chosen GPUs cannot serve is said before the night."""

from __future__ import annotations

from typing import Any

import pytest

from lemctl.daemon.gpu_choice import must_know_gpus, refuse_too_few, used_gpus
from lemctl.daemon.specs import gpus_of
from lemctl.errors import PreflightRefused


def spec(backend: str, **engine: Any) -> dict[str, Any]:
    return {"backend": backend, "engine": engine}


def test_every_degree_multiplies_whatever_the_engine_calls_it() -> None:
    assert gpus_of(spec("vllm", tensor_parallel=2, pipeline_parallel_size=3)) == 6
    assert gpus_of(spec("vllm", tensor_parallel=2, tensor_parallel_size=4)) == 4
    assert gpus_of(spec("tensorrt", tensor_parallel=2, context_parallel_size=2)) == 4
    assert gpus_of(spec("vllm", tensor_parallel=2, prefill_context_parallel_size=2)) == 4
    assert gpus_of(spec("replay", dtype="auto")) == 1


def test_an_engine_that_needs_a_gpu_is_refused_without_one() -> None:
    with pytest.raises(PreflightRefused, match=r"tensorrt needs an NVIDIA GPU \(no driver\)"):
        refuse_too_few([spec("replay"), spec("tensorrt")], (), "no driver")
    with pytest.raises(PreflightRefused, match="the campaign names none"):
        refuse_too_few([spec("tensorrt")], (), None)


def test_more_ranks_than_gpus_are_refused() -> None:
    with pytest.raises(PreflightRefused, match="on vllm need 4 GPUs, the campaign has 2"):
        refuse_too_few([spec("vllm", tensor_parallel=4)], ("GPU-a", "GPU-b"), None)
    refuse_too_few([spec("vllm", tensor_parallel=2)], ("GPU-a", "GPU-b"), None)
    refuse_too_few([spec("vllm", tensor_parallel=4)], (), "no driver")


def test_the_host_is_asked_for_its_gpus_only_where_that_matters() -> None:
    assert not must_know_gpus([spec("replay"), spec("pytorch")])
    assert must_know_gpus([spec("replay"), spec("tensorrt")])
    assert must_know_gpus([spec("vllm", tensor_parallel=2)])


def test_a_run_uses_as_many_of_the_campaign_s_gpus_as_its_degrees_span() -> None:
    chosen = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
    assert used_gpus(spec("pytorch"), chosen) == ("GPU-a",)
    assert used_gpus(spec("pytorch", tensor_parallel=2), chosen) == ("GPU-a", "GPU-b")
    assert used_gpus(spec("pytorch", tensor_parallel=2, data_parallel=2), chosen) == chosen
    assert used_gpus(spec("pytorch", pipeline_parallel=3), chosen) == ("GPU-a", "GPU-b", "GPU-c")
    assert used_gpus(spec("pytorch", device_map="auto"), chosen) == chosen
    assert used_gpus(spec("pytorch", tensor_parallel=2), ()) == ()
