"""The `prefetch` service, the one container with a network and a token, fetches a data set and reads its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.engines.backends import BACKENDS
from lemctl.engines.containers import Containers
from lemctl.engines.prefetch import locate, missing, prefetch
from lemctl.errors import PreflightRefused
from lemctl.settings import load_settings

sys.path.insert(0, str(Path(__file__).parents[1]))

from canary import command_lines, files_with
from hub_server import Hub, Repository, commit_of, serving

pytestmark = [pytest.mark.docker, pytest.mark.engine]

CAMPAIGN = """
name: fetch
model: {random: {model_type: llama, vocab_size: 300, hidden_size: 8}}
backend: replay
workload: {dataset: "hub:org/set", prompts: 2, max_new_tokens: 4, select: {column: COLUMN}}
"""
MAKE = "import io, sys; import pyarrow as pa, pyarrow.parquet as pq; f = io.BytesIO(); pq.write_table(pa.table("
MAKE += "{'question': [f'Why {n}?' for n in range(9)]}), f); sys.stdout.buffer.write(f.getvalue())"


TOKEN = f"canary-that-opens-the-hub-{uuid4().hex}"


def containers_that_know(secret: str) -> dict[str, str]:
    """Those of the engine whose description holds it: id, and the service of compose that it is."""
    listed = _docker("ps", "-aq")
    found = {}
    for container in listed.split():
        described = _docker("inspect", container)  # nothing of one that is gone meanwhile
        if secret in described:
            found[container] = json.loads(described)[0]["Config"]["Labels"]["com.docker.compose.service"]
    return found


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.fixture
def bridge() -> str:
    """The host as containers on the engine's own bridge see it."""
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    if not found:
        pytest.skip("the engine's bridge has no gateway")
    return found


def test_a_hub_data_set_is_fetched_in_a_container(
    engine: Containers, bridge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.image_facts(BACKENDS["pytorch"].image_ref) is None:
        assert not os.environ.get("LEM_TEST_NEEDS_DOCKER"), "the pytorch image is missing"
        pytest.skip("`make image` builds the image")
    image = ["docker", "run", "--rm", "--network", "none", BACKENDS["pytorch"].image_ref, "/opt/lem/bin/python"]
    made = subprocess.run([*image, "-c", MAKE], capture_output=True, check=True, timeout=120).stdout
    files = {"data/train-00000-of-00001.parquet": made}
    for name in ("LEM_MODELS_DIR", "LEM_DATASETS_DIR", "LEM_PUID", "LEM_PGID"):
        monkeypatch.delenv(name, raising=False)
    settings = load_settings(home=tmp_path / "home")
    good, wrong = (plan(loads(CAMPAIGN.replace("COLUMN", column))) for column in ("question", "ask"))
    looks: list[tuple[list[str], list[str], dict[str, str]]] = []

    def look(path: str) -> None:
        looks.append((command_lines(), files_with(tmp_path, TOKEN), containers_that_know(TOKEN)))

    with serving(Hub({"org/set": Repository(files, token=TOKEN)}, when_asked=look), bridge) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        prefetch(good, settings, "docker", lambda _: None)
        with pytest.raises(PreflightRefused, match=r"no column ask with text \(it has question\)") as refused:
            prefetch(wrong, settings, "docker", lambda _: None)
    assert str(tmp_path / "home") in str(refused.value), "told by the host's names"
    assert looks, "the hub was never asked for the file"
    for commands, held, containers in looks:
        assert [command for command in commands if TOKEN in command] == []
        assert held == []
        assert list(containers.values()) == ["prefetch"]
    assert containers_that_know(TOKEN) == {}
    assert files_with(tmp_path, TOKEN) == []
    located = locate(good.experiments[0].spec, settings)
    assert [json.loads(line)["text"][:4] for line in located.prompts.read_bytes().splitlines()] == ["Why "] * 2
    meta = json.loads(located.prompts.with_suffix(".meta.json").read_text())
    assert meta["source"]["commit"] == commit_of(files)
    assert missing(good, settings, "local") == []
