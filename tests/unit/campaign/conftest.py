"""A small host for campaign files: one data-set folder, one model folder, catalogues of two backends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lemctl.campaign.file import CampaignFile, loads

CATALOGUES: dict[str, list[dict[str, Any]]] = {
    "pytorch": [
        {"name": "load_in_4bit", "type": "bool", "default": False, "group": "engine", "stability": "stable"},
        {"name": "attn_implementation", "type": "str", "default": None, "group": "engine", "stability": "stable",
         "choices": ["eager", "sdpa"]},
        {"name": "dtype", "type": "str", "default": "auto", "group": "engine", "stability": "stable"},
        {"name": "max_memory", "type": "dict", "default": None, "group": "engine", "stability": ""},
        {"name": "num_beams", "type": "int", "default": 1, "group": "sampling", "stability": "stable", "minimum": 1},
    ],
    "vllm": [
        {"name": "gpu_memory_utilization", "type": "float", "default": 0.9, "group": "engine", "stability": "stable",
         "minimum": 0, "maximum": 1},
        {"name": "max_num_seqs", "type": "int", "default": None, "group": "engine", "stability": "stable"},
        {"name": "mode", "type": "any", "default": "a", "group": "engine", "stability": "prototype"},
        {"name": "limits", "type": "int | list[int]", "default": 1, "group": "engine", "stability": "prototype"},
    ],
}  # fmt: skip

Read = Callable[..., CampaignFile]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder with `datasets`, `models` and `images`."""
    for name in ("datasets/sub", "models/tiny", "images"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "datasets" / "questions.jsonl").write_text('{"prompt": "Why?"}\n')
    (tmp_path / "datasets" / "sub" / "more.jsonl").write_text('{"prompt": "How?"}\n')
    (tmp_path / "secret.jsonl").write_text('{"prompt": "outside"}\n')
    (tmp_path / "datasets" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (tmp_path / "models" / "link").symlink_to(tmp_path)
    for backend, rows in CATALOGUES.items():
        folder = tmp_path / "images" / backend
        folder.mkdir()
        body = {"backend": backend, "engine_version": "1.2.3", "parameters": rows}
        (folder / "params.json").write_text(json.dumps(body))
    return tmp_path


@pytest.fixture
def read(host: Path) -> Read:
    """`loads` on that host; every backend is available, so that scopes can be tried."""

    def read_text(
        text: str, overrides: dict[str, str] | None = None, preset: str | None = None, **more: Any
    ) -> CampaignFile:
        given: dict[str, Any] = {
            "dataset_dirs": [host / "datasets"],
            "model_dirs": [host / "models"],
            "catalogue_dir": host / "images",
        }
        return loads(text, "file.yaml", overrides, preset, **{**given, **more})

    return read_text


@pytest.fixture
def small() -> str:
    """A campaign that is right, to which tests add lines."""
    return """\
name: small
model: hf:org/name
backend: pytorch
workload: {dataset: random, random: {input_len: 16}, prompts: 64}
cycles: 2
"""
