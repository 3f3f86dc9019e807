"""Fetching a model: whole or not there, resumed after a break, and one clear line for each refusal.

A package that stands in for huggingface_hub serves files from a folder and breaks where it is told to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STAND_IN = """
import json, os, types
from fnmatch import fnmatch
from pathlib import Path

class RepositoryNotFoundError(Exception): pass
class GatedRepoError(RepositoryNotFoundError): pass
class RevisionNotFoundError(Exception): pass

SERVED = json.loads(os.environ["SERVED"])

class HfApi:
    def __init__(self, token):
        Path(os.environ["ASKED"]).write_text(repr(token))

    def model_info(self, name, revision, files_metadata, timeout):
        if "raise" in SERVED:
            raise globals().get(SERVED["raise"], ConnectionError)("said by the hub")
        files = [types.SimpleNamespace(rfilename=name, size=len(text)) for name, text in SERVED["files"].items()]
        return types.SimpleNamespace(sha="c0ffee", siblings=files)

    def snapshot_download(self, name, revision, local_dir, allow_patterns):
        assert revision == "c0ffee"
        for file, text in SERVED["files"].items():
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                target = Path(local_dir, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.write_text(text)
                if file == SERVED.get("break_after"):
                    raise ConnectionError("reset by peer")
"""
CONFIG = '{"vocab_size": 100}'


class Hub:
    """The stand-in, and prefetch jobs that meet it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models"
        package = folder / "packages" / "huggingface_hub"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(STAND_IN)
        self.job = folder / "job.json"
        model = {"kind": "hf", "name": "org/model"}
        self.job.write_text(
            json.dumps({"model": model, "models_dir": str(self.models), "prompts_dir": str(folder), "download": True})
        )

    def fetch(
        self, served: dict[str, object], revision: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        job = json.loads(self.job.read_text())
        self.job.write_text(json.dumps({**job, "model": {**job["model"], "revision": revision}}))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        own = {
            "PYTHONPATH": str(self.folder / "packages"),
            "SERVED": json.dumps(served),
            "ASKED": str(self.folder / "token"),
        }
        command = [sys.executable, "-m", "lem_runner", "prefetch", str(self.job)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**clean, **own, **environment})

    @property
    def token(self) -> str:
        return (self.folder / "token").read_text()


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def test_a_fetched_model_has_its_own_folder_and_only_what_is_needed(hub: Hub) -> None:
    files = {"config.json": CONFIG, "model.safetensors": "w", "pytorch_model.bin": "pickle", "run.py": "code"}
    done = hub.fetch({"files": files})
    assert done.returncode == 0, done.stderr
    folder = hub.models / "org--model"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "lemctl.json", "model.safetensors"]
    assert [path.name for path in hub.models.iterdir()] == ["org--model"]


def test_what_was_fetched_is_written_down_beside_it(hub: Hub) -> None:
    files = {"config.json": CONFIG, "model.safetensors": "w", "lemctl.json": '{"commit": "said by the repository"}'}
    assert hub.fetch({"files": files}, revision="v1").returncode == 0
    record = json.loads((hub.models / "org--model--v1" / "lemctl.json").read_text())
    assert record == {"name": "org/model", "revision": "v1", "commit": "c0ffee"}


def test_pickles_are_fetched_only_where_there_is_nothing_else(hub: Hub) -> None:
    assert hub.fetch({"files": {"config.json": CONFIG, "pytorch_model.bin": "p"}}).returncode == 0
    assert (hub.models / "org--model" / "pytorch_model.bin").exists()


def test_a_broken_fetch_leaves_no_model_and_goes_on_where_it_stopped(hub: Hub) -> None:
    files = {"config.json": CONFIG, "model.safetensors": "weights"}
    done = hub.fetch({"files": files, "break_after": "config.json"})
    assert done.returncode == 1
    assert "org/model" in done.stderr
    assert not (hub.models / "org--model").exists()
    (partial,) = hub.models.iterdir()
    kept = (partial / "config.json").stat().st_ino
    assert hub.fetch({"files": files}).returncode == 0
    assert (hub.models / "org--model" / "config.json").stat().st_ino == kept


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("GatedRepoError", "gated"),
        ("RepositoryNotFoundError", "none of that name"),
        ("RevisionNotFoundError", "no such revision"),
        ("ConnectionError", "cannot be reached"),
    ],
)
def test_each_refusal_of_the_hub_is_one_line_that_says_what_to_do(hub: Hub, kind: str, text: str) -> None:
    done = hub.fetch({"raise": kind})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert text in done.stderr


def test_the_token_comes_from_the_environment_alone_and_is_never_printed(hub: Hub) -> None:
    files = {"config.json": CONFIG, "model.safetensors": "w"}
    done = hub.fetch({"files": files}, HF_TOKEN="hf_secret")
    assert hub.token == "'hf_secret'"
    assert "hf_secret" not in done.stdout + done.stderr


def test_without_a_token_no_stored_login_is_used(hub: Hub) -> None:
    hub.fetch({"raise": "ConnectionError"})
    assert hub.token == "False"


def test_what_has_no_config_is_no_model(hub: Hub) -> None:
    done = hub.fetch({"files": {"model.safetensors": "w"}})
    assert done.returncode == 1
    assert "no config.json" in done.stderr
    assert not (hub.models / "org--model").exists()
