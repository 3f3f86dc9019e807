"""What the pytorch backend can be told about loading, decoding and compiling, each run for real on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from runner_process import RUNNER_ROOT

from lem_runner.protocol import ModelRef

pytestmark = pytest.mark.engine

DRIVER = Path(__file__).with_name("drive_transformers.py")
CEILING_S = 300.0
NEW_TOKENS = 12

#: A LoRA adapter whose second factor is not zero, so that it changes what the model says.
MAKE_ADAPTER = """
import sys, torch
from transformers import AutoModelForCausalLM
from peft import LoraConfig, get_peft_model
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
torch.manual_seed(1)
wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
wrapped.save_pretrained(sys.argv[2])
"""

TWO_BITS = {"backend": "quanto", "nbits": 2, "residual_length": 1, "q_group_size": 16}
#: By name: (engine parameters, sampling parameters, batch size). What cannot be is in REFUSED.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "plain": ({}, {}, 1),
    "lookup": ({}, {"prompt_lookup_num_tokens": 3}, 1),
    "early exit": ({}, {"assistant_early_exit": 1}, 1),
    "assistant": ({"assistant_model": "MODEL"}, {"num_assistant_tokens": 4}, 1),
    "beams": ({}, {"num_beams": 3, "length_penalty": 0.5}, 2),
    "static cache": ({"cache_implementation": "static"}, {}, 2),
    "quantised cache": (
        {"cache_implementation": "quantized", "cache_config": TWO_BITS},
        {},
        2,
    ),
    "eager": ({"attn_implementation": "eager"}, {}, 2),
    "device map": ({"device_map": "cpu"}, {}, 2),
    "compiled": ({"compile": True, "compile_backend": "eager", "compile_dynamic": True}, {}, 2),
    "8 bit": ({"load_in_8bit": True, "llm_int8_threshold": 5.0}, {}, 2),
    "4 bit": (
        {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float32", "bnb_4bit_use_double_quant": True},
        {},
        2,
    ),
    "quanto": ({"quantization_config": {"quant_method": "quanto", "weights": "int8"}}, {}, 2),
    "adapter": ({"adapter": "ADAPTER"}, {}, 2),
    "merged": ({"adapter": "ADAPTER", "merge_adapter": True}, {}, 2),
}
#: By name: the case, and the texts of which its one line must hold one (which depends on what is installed).
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], int, tuple[str, ...]]] = {
    "assisted batch": ({"assistant_model": "MODEL"}, {}, 2, ("batch_size",)),
    "looked up batch": ({}, {"prompt_lookup_num_tokens": 3}, 2, ("batch_size",)),
    "assisted beams": ({"assistant_model": "MODEL"}, {"num_beams": 2}, 1, ("num_beams",)),
    "8 and 4 bit": ({"load_in_8bit": True, "load_in_4bit": True}, {}, 1, ("exclude each other",)),
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, {}, 1, ("gptqmodel", "GPU")),
    "awq": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, {}, 1, ("gptqmodel", "GPU")),
    "no method": ({"quantization_config": {"bits": 4}}, {}, 1, ("quant_method",)),
    "stored as gptq": ({}, {}, 1, ("'model-gptq' is stored as gptq",)),
    "flash attention": ({"attn_implementation": "flash_attention_2"}, {}, 1, ("flash_attn", "GPU")),
    "offloaded cache": ({"cache_implementation": "offloaded"}, {}, 1, ("GPU to offload from",)),
    "hqq cache": (
        {"cache_implementation": "quantized", "cache_config": {"backend": "hqq"}},
        {},
        1,
        ("needs the package hqq",),
    ),
    "unknown cache": ({"cache_implementation": "quantised"}, {}, 1, ("nearest", "allowed")),
    "max memory": ({"max_memory": {"0": "1GiB"}}, {}, 1, ("device_map",)),
    "nothing to merge": ({"merge_adapter": True}, {}, 1, ("adapter",)),
    "no adapter": ({"adapter": "/nowhere/lora"}, {}, 1, ("adapter_config.json",)),
    "no assistant": ({"assistant_model": "/nowhere/model"}, {}, 1, ("config.json",)),
    "ranks with an adapter": ({"tensor_parallel": 2, "adapter": "ADAPTER"}, {}, 1, ("tensor_parallel",)),
}
SAME_TOKENS = ("lookup", "early exit", "assistant", "static cache", "eager", "device map", "compiled")


@pytest.fixture(scope="module")
def adapter(engine_python: str, stored_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "tiny-lora"
    command = [engine_python, "-c", MAKE_ADAPTER, str(stored_model), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=CEILING_S)
    return folder


@pytest.fixture(scope="module")
def outcomes(
    engine_python: str, stored_model: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Every case, all in one process."""
    folder = tmp_path_factory.mktemp("options")
    gptq = folder / "model-gptq"
    gptq.mkdir()
    config = json.loads((stored_model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (gptq / "config.json").write_text(json.dumps(config))
    named = {"MODEL": str(stored_model), "ADAPTER": str(adapter)}
    cases = []
    for name, (engine, sampling, batch, *_) in {**CASES, **REFUSED}.items():
        model = gptq if name == "stored as gptq" else stored_model
        given = {key: named.get(value, value) if isinstance(value, str) else value for key, value in engine.items()}
        cases.append(
            {
                "model": asdict(ModelRef("path", model.name, path=str(model))),
                "engine": {"dtype": "float32", **given},
                "sampling": sampling,
                "batch": batch,
                "lengths": [3, 9, 17, 5],
            }
        )
    (folder / "cases.json").write_text(json.dumps(cases))
    return dict(zip([*CASES, *REFUSED], drive(engine_python, DRIVER, str(folder / "cases.json")), strict=True))


def drive(python: str, *arguments: str | Path) -> list[dict[str, Any]]:
    """What the lines `RESULT ...` of a script hold."""
    environment = {**os.environ, "PYTHONPATH": str(RUNNER_ROOT)}
    command = [python, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=CEILING_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]


@pytest.mark.parametrize("name", SAME_TOKENS)
def test_another_way_of_computing_gives_the_same_greedy_tokens(outcomes: dict[str, Any], name: str) -> None:
    outcome = outcomes[name]
    assert "error" not in outcome, outcome
    assert outcome["tokens"] == outcomes["plain"]["tokens"]
    in_force = {**outcome["effective"]["engine"], **outcome["effective"]["generation"]}
    engine, sampling, _ = CASES[name]
    for parameter, value in {**engine, **sampling}.items():
        assert value == "MODEL" or in_force[parameter] == value


@pytest.mark.parametrize("name", ["lookup", "early exit", "assistant"])
def test_drafted_tokens_have_the_time_of_the_step_that_confirmed_them(outcomes: dict[str, Any], name: str) -> None:
    for times in outcomes[name]["token_ns"]:
        assert len(times) == NEW_TOKENS
        assert times == sorted(times)
    if name == "assistant":  # the model itself: all its drafts are right, so several come in one step
        assert any(len(set(times)) <= NEW_TOKENS - 3 for times in outcomes[name]["token_ns"])


def test_beams_are_searched_and_have_no_token_times(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["beams"]
    assert outcome["effective"]["generation"]["num_beams"] == 3
    assert outcome["token_ns"] == [None] * 4
    assert outcome["tokens"] != outcomes["plain"]["tokens"]


def test_a_cache_of_two_bits_changes_the_tokens(outcomes: dict[str, Any]) -> None:
    """So it is really read back from few bits."""
    assert "error" not in outcomes["quantised cache"], outcomes["quantised cache"]
    assert outcomes["quantised cache"]["tokens"] != outcomes["plain"]["tokens"]


@pytest.mark.parametrize(
    ("name", "method", "dtype"),
    [("8 bit", "bitsandbytes", "int8"), ("4 bit", "bitsandbytes", "uint8"), ("quanto", "quanto", "int8")],
)
def test_quantised_weights_are_what_runs(outcomes: dict[str, Any], name: str, method: str, dtype: str) -> None:
    outcome = outcomes[name]
    assert "error" not in outcome, outcome
    assert [len(tokens) for tokens in outcome["tokens"]] == [NEW_TOKENS] * 4
    assert outcome["effective"]["quantization"].startswith(method)
    assert outcome["effective"]["weights_b"] < outcomes["plain"]["effective"]["weights_b"]
    assert dtype in outcome["effective"]["weights_b_by_dtype"]
    # What is computed in, not what is stored: else a campaign's own dtype would be called another.
    assert outcome["effective"]["dtype"] == "float32"
    assert outcome["effective"]["reported"]["engine"]["dtype"] == "float32"


def test_an_adapter_speaks_and_merged_it_says_the_same(outcomes: dict[str, Any]) -> None:
    beside, merged = outcomes["adapter"], outcomes["merged"]
    assert beside["tokens"] != outcomes["plain"]["tokens"]
    assert merged["tokens"] == beside["tokens"]
    # Rank 4, two layers: q (64 to 64) and v (64 to 32) with their two factors.
    assert beside["effective"]["adapter_parameters"] == 2 * 4 * (64 + 64 + 64 + 32)
    assert merged["effective"]["adapter_parameters"] == 0


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_is_one_clear_line(outcomes: dict[str, Any], name: str) -> None:
    error = outcomes[name]["error"]
    assert error["kind"] == "bad_request", error
    assert any(text in error["message"] for text in REFUSED[name][3]), error["message"]
    assert "\n" not in error["message"]


#: For methods that need packages or a device that are not here, the config object at least is the library's own.
CONFIGS = """
import json
from pathlib import Path
from lem_runner.backends import _transformers_quantization as quantization
from lem_runner.backends._transformers_parameters import ENGINE_PARAMETERS
quantization.require = lambda package, what: None
plain = {parameter.name: parameter.default for parameter in ENGINE_PARAMETERS}
for given in ({"quant_method": "gptq", "bits": 4, "group_size": 64}, {"quant_method": "awq", "bits": 4}):
    config = quantization.weight_quantization({**plain, "quantization_config": given}, Path("/nowhere"), "cuda")
    fields = {name: getattr(config, name) for name in given if name != "quant_method"}
    print("RESULT " + json.dumps({"class": type(config).__name__, **fields}, default=str))
four = {**plain, "load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "dtype": "float16"}
config = quantization.weight_quantization(four, Path("/nowhere"), "cuda")
print("RESULT " + json.dumps({"type": config.bnb_4bit_quant_type, "dtype": str(config.bnb_4bit_compute_dtype)}))
"""


def test_config_objects_of_gptq_awq_and_bitsandbytes_hold_what_was_asked(engine_python: str) -> None:
    gptq, awq, four = drive(engine_python, "-c", CONFIGS)
    assert gptq == {"class": "GPTQConfig", "bits": 4, "group_size": 64}
    assert awq == {"class": "AwqConfig", "bits": 4}
    assert four == {"type": "fp4", "dtype": "torch.float16"}
