"""What an image's engine says of its parameters is what the catalogue has: `config params --diff`, in the image."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lemctl.cli.main import run
from lemctl.engines.backends import BACKENDS
from lemctl.engines.containers import Containers


@pytest.mark.docker
@pytest.mark.engine
@pytest.mark.parametrize("name", ["pytorch", "vllm"])
def test_an_image_has_not_drifted_from_its_catalogue(
    engine: Containers,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = BACKENDS[name].image_ref
    if engine.image_facts(image) is None:
        assert not os.environ.get("LEM_TEST_NEEDS_DOCKER"), f"{image} is missing"
        pytest.skip("`make image` builds the image")
    monkeypatch.setenv("LEM_HOME", str(tmp_path / "home"))
    assert run(["config", "params", name, "--diff", "--executor", "docker", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["differences"] == []
    assert said["installed"] == said["catalogue"]
