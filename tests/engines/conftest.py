"""The engines themselves, in an interpreter of their own: LEM_PYTHON_PYTORCH, else `.venv-pytorch` in the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "runner"))

from runner_process import RunnerProcess

CHECKOUT = Path(__file__).parents[2]

#: A Llama of 0.1 M parameters with a tokenizer of its own, stored as a hub model is.
MAKE_MODEL = """
import sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers, decoders
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
folder = sys.argv[1]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
special = ["<s>", "</s>", "<pad>"]
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
tokenizer.train_from_iterator(["the cat sat on the mat", "a colder night, a warmer house"] * 20, trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
fast.chat_template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}{% endfor %} assistant:"
fast.save_pretrained(folder)
torch.manual_seed(0)
config = AutoConfig.for_model("llama", hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, vocab_size=320, max_position_embeddings=256,
    bos_token_id=0, eos_token_id=1, pad_token_id=2)
model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
model.generation_config.do_sample = True
model.generation_config.temperature = 0.6
model.save_pretrained(folder)
"""


@pytest.fixture(scope="session")
def engine_python() -> str:
    """The interpreter with torch and transformers."""
    named = os.environ.get("LEM_PYTHON_PYTORCH")
    found = CHECKOUT / ".venv-pytorch" / "bin" / "python"
    if named:
        return named
    if found.exists():
        return str(found)
    pytest.skip("no engine interpreter: set LEM_PYTHON_PYTORCH or run `make engine-venv`")


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter with vLLM: LEM_PYTHON_VLLM, else `.venv-vllm` in the checkout."""
    found = CHECKOUT / ".venv-vllm" / "bin" / "python"
    python = os.environ.get("LEM_PYTHON_VLLM") or str(found)
    if not Path(python).exists():
        pytest.skip("no engine interpreter: set LEM_PYTHON_VLLM or run `make engine-venv`")
    return python


@pytest.fixture(scope="session")
def stored_model(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `save_pretrained` leaves it: bfloat16 weights, tokenizer, chat template, a sampling default."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    subprocess.run([engine_python, "-c", MAKE_MODEL, str(folder)], check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def random_llama(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerProcess]:
    """One session for a whole module: whoever sends it one engine key loads once."""
    runner = RunnerProcess(tmp_path_factory.mktemp("runner") / "session", interpreter=engine_python)
    yield runner
    runner.end()


@pytest.fixture
def new_runner(engine_python: str, tmp_path: Path) -> Iterator[RunnerProcess]:
    """A session of one test."""
    runner = RunnerProcess(tmp_path / "session", interpreter=engine_python)
    yield runner
    runner.end()
