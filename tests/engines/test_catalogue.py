"""The committed catalogue of the pytorch image, against the engine that is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from runner_process import RUNNER_ROOT

pytestmark = pytest.mark.engine

TESTS = Path(__file__).parents[1]
COMMITTED = TESTS.parent / "images" / "pytorch" / "params.json"
DRIVER = Path(__file__).with_name("drive_transformers_parameters.py")
#: Whole replicas are runners below the runner; the engine in each knows nothing of the others.
BY_THE_RUNNER = ("data_parallel",)

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
    environment = {**os.environ, "PYTHONPATH": f"{RUNNER_ROOT}:{TESTS}"}
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


def test_every_engine_parameter_of_the_catalogue_reaches_the_library_or_is_refused_with_its_reason(
    engine_python: str, stored_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(stored_model, folder)
    (folder / "adapter_config.json").write_text("{}")
    said = _run(engine_python, str(DRIVER), str(folder))
    found = json.loads(next(line[7:] for line in said.splitlines() if line.startswith("RESULT ")))
    rows = {row["name"]: row for row in json.loads(COMMITTED.read_text())["parameters"] if row["group"] == "engine"}
    assert set(found) == set(rows)
    for name, (value, told, unset) in found.items():
        if rows[name].get("refused"):
            assert rows[name]["refused"] in told, name
        elif name not in BY_THE_RUNNER:
            assert told == value, name
            assert unset != value or rows[name].get("choices") == [value], (
                f"{name}: the same would be found if it were dropped"
            )


#: What a runner does before it is told to load: the module is imported, the contract's questions are answered.
BEFORE_A_LOAD = """
import sys
from lem_runner import backends
from lem_runner.identity import hello
backend = backends.load("pytorch")
told = (backend.OWNS_CUDA, backend.LOADS, hello()["backends"])
backend.open()
print(sorted({"torch", "transformers", "peft", "accelerate"} & set(sys.modules)), backend.OWNS_CUDA)
"""


def test_nothing_of_the_engine_is_imported_before_a_load(engine_python: str) -> None:
    assert _run(engine_python, "-c", BEFORE_A_LOAD).strip() == "[] torch"
