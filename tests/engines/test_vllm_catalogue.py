"""The committed catalogue of vLLM's parameters, against the engine that is installed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from runner_process import RUNNER_ROOT

pytestmark = pytest.mark.engine

COMMITTED = Path(__file__).parents[2] / "images" / "vllm" / "params.json"

#: Every parameter that can be set, at a value other than its default, through the library's own classes; every other
#: one refused with its reason.
ALL_REACH_THE_ENGINE = """
import json, sys
from pathlib import Path
from lem_runner.backends import Decoding, vllm
from lem_runner.backends import _vllm_loading as loading
from lem_runner.backends import _vllm_parameters as parameters
from lem_runner.backends import _vllm_sampling as sampling
from lem_runner.failures import BadRequestError
from lem_runner.protocol import ModelRef

rows = vllm.describe()
from vllm.engine.arg_utils import AsyncEngineArgs
scratch = Path(sys.argv[1])
(scratch / "model").mkdir()
(scratch / "draft").mkdir()
ref = ModelRef("path", "m", path=str(scratch / "model"))
files = loading.ModelFiles(scratch / "model", frozenset({2}), 100)
special = {"quantization_config": {"ignore": ["lm_head"]}, "adapter": str(scratch / "draft"),
    "spec_model": str(scratch / "draft"), "speculative_config": {"method": "ngram"},
    "compilation_config": {"mode": 0}, "attention_config": {"backend": "CPU_ATTN"},
    "kernel_config": {"moe_backend": "triton"}, "mamba_config": {"stochastic_rounding_philox_rounds": 2},
    "engram_config": {"use_thp": True}, "eplb_config": {"window_size": 10}, "ir_op_priority": {"rms_norm": ["native"]},
    "stop_token_ids": [5], "logit_bias": {"3": 1.5}, "allowed_token_ids": [1, 2],
    "repetition_detection": {"max_pattern_size": 4, "min_pattern_size": 1, "min_count": 3}}
plain = {"bool": lambda d: not d, "int": lambda d: (d or 0) + 2, "float": lambda d: 0.5, "str": lambda d: "x",
    "list[int]": lambda d: [1, 2], "list[str]": lambda d: ["x"], "list": lambda d: ["x"], "dict": lambda d: {"x": 1}}

def sample(row):
    if row.name in special:
        return special[row.name]
    if row.choices:
        return next((choice for choice in row.choices if choice != row.default), row.choices[0])
    return plain[row.type.partition(" | ")[0]](row.default)

def reached(row, value):
    if row.group == "engine":
        settings = loading.check_settings({row.name: value})
        arguments = loading.engine_arguments(ref, files, settings)
        if row.name == "adapter":
            return arguments["enable_lora"] is True
        found = getattr(AsyncEngineArgs(**arguments), row.name)
        return _same(found, value)
    params = sampling.sampling_params(Decoding(4, "natural", {row.name: value}), files.eos, is_streamed=True)
    found = getattr(params, row.name)
    if row.name == "stop_token_ids":
        return set(found) == {2, 5}
    return _same(found, value)

def _same(found, value):
    assert value != {}, "an empty dict would be the same as anything"
    if isinstance(value, dict) and not isinstance(found, dict):
        return all(_same(getattr(found, key), inner) for key, inner in value.items())
    if isinstance(value, dict):
        return {str(key): inner for key, inner in found.items()} == value
    if isinstance(found, set):
        return found == set(value)
    return found == value or getattr(found, "name", None) == value or getattr(found, "value", None) == value

missed, unrefused = [], []
for row in rows:
    if row.name == "trust_remote_code":
        continue
    if row.refused:
        try:
            if row.group == "engine":
                loading.check_settings({row.name: row.default})
            else:
                sampling.sampling_params(Decoding(4, "natural", {row.name: 0}), files.eos, is_streamed=True)
            unrefused.append(row.name)
        except BadRequestError as error:
            if row.refused not in str(error):
                unrefused.append((row.name, str(error)))
        continue
    value = sample(row)
    try:
        if not reached(row, value):
            missed.append((row.name, value))
    except Exception as error:
        missed.append((row.name, value, repr(error)))
print(json.dumps({"count": len(rows), "missed": missed, "unrefused": unrefused}))
"""
#: What settings of an engine are refused, with the words.
REFUSALS = """
import json, sys
from pathlib import Path
from lem_runner.backends import vllm
from lem_runner.backends import _vllm_loading as loading
from lem_runner.failures import BadRequestError
from lem_runner.protocol import ModelRef

loading.prepare_environment()
ref = ModelRef("random", "r", config={})
files = loading.ModelFiles(Path("/nowhere"), frozenset(), 100)
said = []
for given in json.loads(sys.argv[1]):
    try:
        loading.engine_arguments(ref, files, loading.check_settings(given))
        said.append("")
    except BadRequestError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def _run(python: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(RUNNER_ROOT)}
    done = subprocess.run([python, *arguments], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _last_line(said: str) -> Any:
    """Libraries talk before."""
    return json.loads(said.splitlines()[-1])


def test_committed_catalogue_is_what_the_installed_engine_has(vllm_python: str) -> None:
    committed = json.loads(COMMITTED.read_text())
    found = _run(vllm_python, "-m", "lem_runner", "describe", "vllm")
    if committed["engine_version"] != json.loads(found)["engine_version"]:
        pytest.skip(f"the catalogue is of {committed['engine_version']}, installed is another vLLM")
    assert COMMITTED.read_text() == found, f"stale: python -m lem_runner describe vllm > {COMMITTED}"


def test_every_parameter_reaches_the_engine_or_is_refused_with_its_reason(vllm_python: str, tmp_path: Path) -> None:
    said = _last_line(_run(vllm_python, "-c", ALL_REACH_THE_ENGINE, str(tmp_path)))
    assert said["count"] == len(json.loads(COMMITTED.read_text())["parameters"])
    assert (said["missed"], said["unrefused"]) == ([], [])


def test_settings_that_cannot_be_are_refused_before_anything_is_started(vllm_python: str) -> None:
    cases = [
        ({"worker_cls": "evil.Worker"}, "never run"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"tensor_paralel_size": 2}, "did you mean tensor_parallel_size"),
        ({"gpu_memory_utilization": 2}, "at most 1"),
        ({"load_format": "safetensors"}, "only `dummy`"),
        ({"spec_model": "org/on-a-hub"}, "no folder"),
        ({"spec_model": "/etc/gone"}, "no folder"),
    ]
    said = _last_line(_run(vllm_python, "-c", REFUSALS, json.dumps([given for given, _ in cases])))
    for (given, words), message in zip(cases, said, strict=True):
        assert words in message, (given, message)
