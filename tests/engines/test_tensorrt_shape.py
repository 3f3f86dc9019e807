"""A shape without weights on the stand-in of TensorRT-LLM, whose config the real transformers writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner_process import RunnerProcess, make_spec

from lem_runner.protocol import ModelRef
from standin.interpreter import build_driver, write_interpreter

pytestmark = pytest.mark.engine

SHAPE = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 256}


def test_a_random_model_is_a_config_with_its_architecture_and_dummy_weights(vllm_python: str, tmp_path: Path) -> None:
    """vLLM's interpreter serves: it has transformers, and pydantic for the stand-in."""
    folder = tmp_path / "cuda"
    folder.mkdir()
    python = write_interpreter(tmp_path / "python", build_driver(folder), python=vllm_python)
    runner = RunnerProcess(tmp_path / "session", interpreter=str(python))
    try:
        asked = make_spec(tmp_path, backend="tensorrt", model=ModelRef("random", "shape", config=SHAPE))
        assert runner.run("a1", asked, ceiling_s=120.0).type == "result", runner.stderr()
        effective = runner.result("a1").effective
        assert effective["reported"]["engine"]["load_format"] == "dummy"
        assert effective["vocab_size"] == 256
    finally:
        runner.end()
    nothing = ModelRef("random", "x", config={"model_type": "nothing"})
    unknown = make_spec(tmp_path, backend="tensorrt", model=nothing)
    other = RunnerProcess(tmp_path / "other", interpreter=str(python))
    try:
        event = other.run("a1", unknown, ceiling_s=120.0)
        assert "no causal language model of type 'nothing'" in event.data["message"]
    finally:
        other.end()
