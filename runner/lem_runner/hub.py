"""Fetching a model from the model hub into a folder of its own: resumable, and there only when it is whole.

Also what fetching a data set has in common with it (`hub_datasets`): the client, the progress, the words for a refusal.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lem_runner.failures import one_line
from lem_runner.prompts import model_record
from lem_runner.records import publish

#: Weights as safetensors; what a tokenizer or a config may be. Pickles only where there is nothing else.
_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_PICKLES = ["*.bin"]
PROGRESS_PERIOD_S = 5.0
#: How long the hub may take for an answer.
TIMEOUT_S = 30.0


class FetchError(Exception):
    """What was asked for is not here and could not be fetched; one line that says what to do."""


def open_hub(missing: str) -> Any:
    """The hub's client, with the token from HF_TOKEN. Raises `FetchError`, which begins with `missing`."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise FetchError(f"{missing}, and huggingface_hub is not installed here") from error
    return hub.HfApi(token=os.environ.get("HF_TOKEN") or False)


def fetch_model(name: str, revision: str | None, folder: Path, report: Callable[[int, int | None], None]) -> None:
    """Fetch `name` to `folder`. `report(done_b, total_b)` is called now and then; `total_b` is None while unknown.

    An interrupted fetch goes on where it stopped: the partial folder keeps its name. The commit is written down beside
    the files. The token is read from HF_TOKEN.
    """
    api = open_hub(f"model {name!r} is not in {folder}")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        with Reporting(partial, _total_b(info, _PATTERNS), report):
            _download(api, name, info.sha, partial, _PATTERNS)
            if not any(partial.glob("*.safetensors")):
                _download(api, name, info.sha, partial, _PICKLES)
    except Exception as error:
        raise FetchError(explain("model", name, folder, error)) from error
    if not (partial / "config.json").is_file():
        raise FetchError(f"model {name!r}: it has no config.json, so transformers cannot load it")
    record = {"name": name, "revision": revision, "commit": info.sha}
    publish(model_record(partial), json.dumps(record, indent=1).encode() + b"\n")
    partial.replace(folder)


def _download(api: Any, name: str, commit: str | None, partial: Path, patterns: list[str]) -> None:
    api.snapshot_download(name, revision=commit, local_dir=partial, allow_patterns=patterns)


def _total_b(info: Any, patterns: list[str]) -> int | None:
    sizes = [
        file.size for file in info.siblings or [] if any(Path(file.rfilename).match(pattern) for pattern in patterns)
    ]
    return None if any(size is None for size in sizes) else sum(sizes)


def explain(what: str, name: str, folder: Path, error: Exception) -> str:
    """One line for what the hub refused; `what` is `model` or `data set`."""
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if "GatedRepoError" in kinds:
        return f"{what} {name!r} is gated: accept its terms on the hub and set HF_TOKEN to a token of that account"
    if "RevisionNotFoundError" in kinds:
        return f"{what} {name!r}: the hub has no such revision"
    if "RepositoryNotFoundError" in kinds:
        return f"{what} {name!r}: the hub has none of that name, or it is private and HF_TOKEN is not set for it"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{what} {name!r}: {error.filename}: {error.strerror}"
    return (
        f"{what} {name!r} is not in {folder} and the hub cannot be reached ({one_line(error)}); fetch it where it can"
    )


class Reporting:
    """Calls `report` every few seconds with the size of a folder, as long as the `with` lasts."""

    def __init__(self, folder: Path, total_b: int | None, report: Callable[[int, int | None], None]) -> None:
        self._folder = folder
        self._total_b = total_b
        self._report = report
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(PROGRESS_PERIOD_S):
            self._report(_size_b(self._folder), self._total_b)


def _size_b(folder: Path) -> int:
    total_b = 0
    for path in folder.rglob("*"):
        try:
            total_b += path.stat().st_size if path.is_file() else 0
        except OSError:  # noqa: PERF203 - files come and go while they are fetched
            continue
    return total_b
