"""A model whose weights alone are larger than every GPU it may use is refused before the night, on GPUs of 80 GiB."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Lemctl

from lemctl.paths import Home

sys.path.insert(0, str(Path(__file__).parents[2] / "nvml_stub"))

from nvml_stub import NvmlStub

#: 70.6 billion parameters: 141 GB in 16 bits.
LLAMA_70B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip
WEIGHTS_B = 141_107_412_992
TEXT = """\
name: x
model: path:large
backend: pytorch
workload: {dataset: random, random: {input_len: 16}, prompts: 8, max_new_tokens: 16}
"""


@pytest.fixture
def host(tmp_path: Path, home: Home, engines: None, monkeypatch: pytest.MonkeyPatch) -> NvmlStub:
    """Two GPUs of 80 GiB."""
    stub = NvmlStub(tmp_path, gpus=2)
    for name, value in stub.host_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LEM_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("LEM_MIN_FREE_DISK_MB", "0")
    return stub


def model(folder: Path, weights_b: int | None = WEIGHTS_B, **changes: Any) -> None:
    """A model of two files without content."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA_70B, **changes}))
    if weights_b is not None:
        files = ("model-1.safetensors", "model-2.safetensors")
        for name in files:
            with (folder / name).open("wb") as file:
                file.truncate(weights_b // 2)
        weight_map = {f"layer-{place}": name for place, name in enumerate(files)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def started(lemctl: Lemctl, tmp_path: Path, more: str, text: str = TEXT) -> str:
    """What `start` said: always of what it lacks, be it prompts that were never prepared."""
    file = tmp_path / "campaign.yaml"
    file.write_text(text + more)
    said = lemctl("campaign", "start", str(file))
    assert said.code == 4, said.err
    return said.err


@pytest.mark.parametrize("more", ["", "gpus: [0, 1]\n", "backend: vllm\n", "engine.dtype: float32\ngpus: [0, 1]\n"])
def test_weights_larger_than_every_gpu_are_refused_and_nothing_is_queued(
    lemctl: Lemctl, host: NvmlStub, home: Home, tmp_path: Path, more: str
) -> None:
    model(tmp_path / "models" / "large")
    text = TEXT.replace("backend: pytorch\n", "") if "backend" in more else TEXT
    said = started(lemctl, tmp_path, more, text)
    assert "path:large on" in said
    assert "cannot fit: its weights alone are at least" in said
    assert "no GPU that it may use has more than 85.9 GB" in said
    assert said.count("\n") == 1
    assert not home.database.exists()


def test_ranks_divide_the_weights(lemctl: Lemctl, host: NvmlStub, tmp_path: Path) -> None:
    model(tmp_path / "models" / "large")
    said = started(lemctl, tmp_path, "gpus: [0, 1]\nengine.tensor_parallel: 2\n")
    assert " fit" not in said
    assert "missing: " in said
    said = started(lemctl, tmp_path, "gpus: [0, 1]\nengine: {tensor_parallel: 2, dtype: float32}\n")
    assert "at least 282.2 GB, divided by 2, and no GPU" in said


@pytest.mark.parametrize(
    "more",
    [
        "pytorch.engine.load_in_4bit: true\n",
        "pytorch.engine.load_in_8bit: true\n",
        "pytorch.engine.device_map: auto\n",
        "pytorch.engine.device: cpu\n",
        "backend: vllm\nvllm.engine.quantization: fp8\n",
        "backend: vllm\nvllm.engine.cpu_offload_gb: 100\n",
        "backend: replay\n",
    ],
)
def test_weights_made_smaller_or_kept_elsewhere_are_left_to_the_engine(
    lemctl: Lemctl, host: NvmlStub, tmp_path: Path, more: str
) -> None:
    model(tmp_path / "models" / "large")
    text = TEXT.replace("backend: pytorch\n", "") if "backend" in more else TEXT
    said = started(lemctl, tmp_path, more, text)
    assert " fit" not in said
    assert "missing: " in said


@pytest.mark.parametrize(
    ("weights_b", "changes", "note"),
    [
        (WEIGHTS_B // 4, {"quantization_config": {"quant_method": "awq"}}, None),
        (WEIGHTS_B, {}, "hf_quant_config.json"),
        (WEIGHTS_B, {"torch_dtype": None}, None),
        (None, {}, None),
        (WEIGHTS_B // 4, {}, None),
    ],
    ids=[
        "quantised",
        "quantised by ModelOpt",
        "of unstated precision",
        "other files",
        "smaller than its configuration",
    ],
)
def test_a_model_whose_size_is_not_certain_is_not_refused(
    lemctl: Lemctl, host: NvmlStub, tmp_path: Path, weights_b: int | None, changes: dict[str, Any], note: str | None
) -> None:
    model(tmp_path / "models" / "large", weights_b, **changes)
    if note is not None:
        (tmp_path / "models" / "large" / note).write_text("{}")
    said = started(lemctl, tmp_path, "")
    assert "cannot fit" not in said
    assert "missing: " in said


def test_the_estimate_with_its_cache_is_only_warned_of(lemctl: Lemctl, host: NvmlStub, tmp_path: Path) -> None:
    model(tmp_path / "models" / "large", WEIGHTS_B // 2, num_hidden_layers=40)
    assert " fit" not in started(lemctl, tmp_path, "gpus: [0, 1]\nengine.tensor_parallel: 2\n")
    said = started(lemctl, tmp_path, "")
    assert "path:large on pytorch may not fit: with its KV cache about " in said
    assert "a GPU are needed, and the largest has 85.9 GB; `lemctl campaign plan` shows the estimate" in said
    assert "missing: " in said, "it goes on to what else is to be looked at"


def test_a_random_model_is_known_by_its_configuration(lemctl: Lemctl, host: NvmlStub, tmp_path: Path) -> None:
    fields = ", ".join(f"{name}: {value}" for name, value in LLAMA_70B.items() if name != "torch_dtype")
    said = started(lemctl, tmp_path, "", TEXT.replace("path:large", f"{{random: {{{fields}}}}}"))
    assert "cannot fit: its weights alone are at least 141.1 GB" in said


def test_without_a_gpu_the_host_s_memory_is_not_the_question(
    lemctl: Lemctl, home: Home, engines: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEM_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("LEM_MIN_FREE_DISK_MB", "0")
    host = NvmlStub(tmp_path, gpus=0)
    for name, value in host.host_environment().items():
        monkeypatch.setenv(name, value)
    model(tmp_path / "models" / "large")
    assert "missing: " in started(lemctl, tmp_path, "")
