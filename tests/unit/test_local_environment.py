"""What a local runner sees of the environment that the daemon was started in: what it needs, and no secrets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lemctl.engines import local
from lemctl.engines.local import LocalRunner
from lemctl.paths import runner_source

CEILING_S = 20.0


def test_a_runner_is_told_which_cores_its_workers_have_and_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-3|4-7")
    monkeypatch.setenv("HF_TOKEN", "secret")
    runner = LocalRunner(sys.executable, runner_source().parent, tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    try:
        seen = dict(
            entry.split("=", 1) for entry in Path(f"/proc/{runner._child.pid}/environ").read_text().split("\0") if entry
        )
    finally:
        runner.kill()
        assert runner.wait(CEILING_S)
    assert seen["VLLM_CPU_OMP_THREADS_BIND"] == "0-3|4-7"
    assert seen["LEM_SESSION_DIR"] == str(tmp_path)
    assert "HF_TOKEN" not in seen
    assert seen.keys() - set(local.ALLOWED_ENVIRONMENT) == {
        "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
        "CUDA_VISIBLE_DEVICES", "LEM_SESSION_DIR",
    }  # fmt: skip
