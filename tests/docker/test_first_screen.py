"""The scripts behind `make`: they choose the engine, and the models they make are whole, readable and right."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("LEM_PYTHON_PYTORCH", str(ROOT / ".venv-pytorch" / "bin" / "python"))

needs_interpreter = pytest.mark.skipif(not Path(PYTHON).exists(), reason="`make engine-venv` makes the interpreter")


def script(name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=240)


def in_engine(code: str, *arguments: str) -> str:
    done = subprocess.run([PYTHON, "-c", code, *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def fetcher() -> ModuleType:
    """scripts/fetch_demo_model.py as a module."""
    spec = importlib.util.spec_from_file_location("fetch_demo_model", ROOT / "scripts" / "fetch_demo_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_unknown_engine_is_refused() -> None:
    done = script("engine.sh", ENGINE="podman")
    assert done.returncode == 2
    assert "podman" in done.stderr
    assert done.stdout == ""


def test_docker_asked_for_and_absent_is_no_silent_fall_back(tmp_path: Path) -> None:
    done = script("engine.sh", ENGINE="docker", DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")
    assert done.returncode == 3
    assert done.stdout == ""


@pytest.mark.engine
@needs_interpreter
def test_without_docker_engines_run_locally(tmp_path: Path) -> None:
    done = script("engine.sh", ENGINE="", DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "local\n"
    assert "ENGINE=local" in done.stderr


def test_a_model_folder_appears_whole_or_not_at_all(fetcher: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "models" / "some"

    def fail_half_way() -> None:
        with fetcher.made_whole(target) as partial:
            (partial / "config.json").write_text("{}")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert list(target.parent.iterdir()) == []
    with fetcher.made_whole(target) as partial:
        (partial / "model.safetensors").touch(mode=0o600)
        assert not target.exists()
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o755
    assert (target / "model.safetensors").stat().st_mode & 0o777 == 0o644


def pinned_torch(variant: str) -> list[str]:
    requirements = ROOT / "images" / "pytorch" / f"requirements.{variant}.txt"
    return re.findall(r"^torch==([\d.]+)", requirements.read_text(), re.MULTILINE)


def test_both_variants_install_the_same_torch_and_the_host_none() -> None:
    assert len(pinned_torch("cpu")) == 1
    assert pinned_torch("cpu") == pinned_torch("gpu")
    assert not re.search(r"^torch\b", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
"""


ROUND_TRIP = """
ids = tokenizer("Grüße, 世界")["input_ids"]
out = model.generate(torch.tensor([ids]), max_new_tokens=4, min_new_tokens=4, do_sample=False)
print(tokenizer.decode(ids), sum(p.numel() for p in model.parameters()), out.shape[1] - len(ids))
"""

ANSWER = """
chat = [{"role": "user", "content": "What is the capital of France?"}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
out = model.generate(**ids, max_new_tokens=16, do_sample=False)
print(tokenizer.decode(out[0][ids["input_ids"].shape[1]:], skip_special_tokens=True))
"""


@pytest.mark.engine
def test_the_tiny_model_loads_and_its_tokenizer_loses_nothing(tiny_model: Path) -> None:
    words, parameters, generated = in_engine(LOAD + ROUND_TRIP, str(tiny_model)).rsplit(maxsplit=2)
    assert words == "Grüße, 世界"
    assert 1_000_000 < int(parameters) < 1_500_000
    assert generated == "4"


@pytest.mark.engine
@pytest.mark.slow
@needs_interpreter
def test_the_demo_model_answers_sensibly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "fetch_demo_model.py"), str(tmp_path), "--python", PYTHON],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    answer = in_engine(LOAD + ANSWER, str(tmp_path / "SmolLM2-135M-Instruct"))
    assert answer == "The capital of France is Paris.\n"
