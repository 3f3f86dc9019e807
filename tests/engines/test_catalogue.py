"""The committed catalogue of the pytorch image, against the engine that is installed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from runner_process import RUNNER_ROOT

pytestmark = pytest.mark.engine

COMMITTED = Path(__file__).parents[2] / "images" / "pytorch" / "params.json"

#: Every sampling parameter at a value other than its default, through GenerationConfig itself.
ALL_REACH_THE_ENGINE = """
import json, sys
from lem_runner.backends import Decoding, pytorch
from lem_runner.backends import _transformers_generation as generation
tokens = generation.SpecialTokens(0, 1, (2,))
values = {"int": 1, "float": 0.5, "bool": True, "str": "x", "list": [[1]], "dict": {}, "any": None}
special = {"early_stopping": "never", "num_beams": 3, "exponential_decay_length_penalty": [5, 1.1],
    "suppress_tokens": [3], "begin_suppress_tokens": [3], "forced_eos_token_id": 2, "sequence_bias": [[[5], -1.0]],
    "watermarking_config": {"bias": 2.0}, "num_assistant_tokens_schedule": "heuristic", "speculation_type": "dflash"}
missed = []
for parameter in pytorch.describe():
    if parameter.group != "sampling" or parameter.refused:
        continue
    value = special.get(parameter.name, values[parameter.type])
    config = generation.decoding_config(Decoding(4, "fixed", {parameter.name: value}), tokens, {})
    found = getattr(config, parameter.name)
    if parameter.name == "watermarking_config":
        found = {"bias": found.bias}
    if found != value:
        missed.append((parameter.name, value, repr(found)))
print(json.dumps(missed))
"""


def _run(python: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(RUNNER_ROOT)}
    done = subprocess.run([python, *arguments], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_committed_catalogue_is_what_the_installed_engine_has(engine_python: str) -> None:
    committed = json.loads(COMMITTED.read_text())
    found = _run(engine_python, "-m", "lem_runner", "describe", "pytorch")
    if committed["engine_version"] != json.loads(found)["engine_version"]:
        pytest.skip(f"the catalogue is of {committed['engine_version']}, installed is another transformers")
    assert COMMITTED.read_text() == found, f"stale: python -m lem_runner describe pytorch > {COMMITTED}"


def test_every_sampling_parameter_of_the_catalogue_reaches_generate(engine_python: str) -> None:
    assert json.loads(_run(engine_python, "-c", ALL_REACH_THE_ENGINE)) == []
