"""What was declared, what was resolved and what the engine reports: kept, compared and shown, through a whole night."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nvml_stub"))

from lemctl.cli.main import run
from needed import needs
from night import Night
from nvml_stub import NvmlStub
from standin.interpreter import build_driver, write_interpreter, write_model

pytestmark = needs("gcc")

CAMPAIGN = """
name: configured
preset: quick-test
model: path:tiny
backend: tensorrt
workload: {dataset: random, random: {input_len: 8}, prompts: 8, max_new_tokens: 4, load: {batch_size: 4}}
engine: {dtype: float32, max_model_len: 32}
tensorrt: {engine: {stream_interval: 1}}
"""


@pytest.fixture
def tensorrt(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A night on a host with a model GPU, whose tensorrt interpreter has the stand-in; its model runs in bfloat16
    whatever is asked."""
    night.environment |= NvmlStub(tmp_path).host_environment()
    folder = tmp_path / "cuda"
    folder.mkdir()
    python = write_interpreter(tmp_path / "python", build_driver(folder))
    night.environment["LEM_PYTHON_TENSORRT"] = str(python)
    write_model(night.settings.models / "tiny", runs_with="bfloat16")
    for name, value in night.variables().items():
        monkeypatch.setenv(name, value)
    return night


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(list(words)) == 0
    return capsys.readouterr().out


def test_all_three_are_kept_and_a_difference_is_a_finding(tensorrt: Night, capsys: pytest.CaptureFixture[str]) -> None:
    tensorrt.add(CAMPAIGN)
    tensorrt.begin()
    tensorrt.wait_campaign(name="configured", ceiling_s=60.0)
    found: dict[str, Any] = json.loads(shown(capsys, "results", "show", "1", "--json"))
    # On a busy machine a hole in the samples may have made one before it INVALID, which is tried again.
    attempt = found["attempts"][-1]
    kept = attempt["facts"]["configuration"]
    assert attempt["outcome"] == "ok", attempt["message"]
    assert kept["declared"]["engine"] == {"dtype": "float32", "max_model_len": 32, "stream_interval": 1}
    assert kept["resolved"] == {
        "engine": {
            "max_batch_size": 4,
            "dtype": "float32",
            "max_seq_len": 32,
            "kv_cache_config": {"enable_block_reuse": False},
            "stream_interval": 1,
        },
        "sampling": {"top_k": 1},
    }
    assert kept["reported"]["engine"]["dtype"] == "bfloat16"
    assert kept["reported"]["engine"]["max_batch_size"] == 4
    assert kept["reported"]["engine"]["kv_cache_config"]["enable_block_reuse"] is False
    assert [(f["code"], f["severity"], f["text"]) for f in attempt["findings"] if "configuration" in f["code"]] == [
        ("configuration_differs", "SUSPECT", "engine.dtype: float32 was given, the engine reports bfloat16")
    ]
    text = shown(capsys, "results", "show", "1")
    assert "declared  engine.dtype float32" in text
    assert "resolved  engine.max_batch_size 4" in text
    assert "engine.dtype bfloat16" in text
    methods = shown(capsys, "report", "--format", "methods", "--include-suspect")
    assert "Precision was bfloat16 as the engine reports it. Decoding was greedy." in methods
    assert "The model tiny has no commit: it is a local folder." in methods
    assert "GPU energy is that of the energy counter, interpolated at the edges of the window." in methods
    assert "differs    1 run of tensorrt, SUSPECT: engine.dtype: float32 was given" in shown(capsys, "report")


def test_a_configuration_is_kept_of_an_attempt_that_failed(tensorrt: Night, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tensorrt.settings.models / "tiny", fault="load")
    tensorrt.add(CAMPAIGN)
    tensorrt.begin()
    tensorrt.wait_campaign(name="configured", ceiling_s=60.0)
    attempt = json.loads(shown(capsys, "results", "show", "1", "--json"))["attempts"][0]
    assert attempt["fault"] == "oom_gpu"
    kept = attempt["facts"]["configuration"]
    assert kept["resolved"]["engine"]["dtype"] == "float32"
    assert "reported" not in kept
