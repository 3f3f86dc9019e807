"""Preparing a campaign before its night: the model on disk, and every prompt as text and token ids.

Runs where there may be a network and a token, never in the measured container. Each step prints one JSON line on
stdout, each thing that is missing one line on stderr; what can be prepared is prepared all the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lem_runner.encoders import ByteEncoder, Encoder, ModelEncoder
from lem_runner.hub import PROGRESS_PERIOD_S, FetchError, fetch_model
from lem_runner.preparing import JobError, Selection, dataset_name, prepare
from lem_runner.prompts import model_folder_name, tokenizer_identity
from lem_runner.protocol import is_safe_name


def run_prefetch(job_path: Path) -> int:
    """Do one job; 0 when all it asks for is there, 1 when something is missing, 2 when the job cannot be read."""
    try:
        job = json.loads(job_path.read_text(encoding="utf-8"))
        model, datasets = dict(job["model"]), [dict(entry) for entry in job.get("datasets", [])]
        prompts_dir = Path(job["prompts_dir"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        _complain(f"job {job_path}: {error}")
        return 2
    try:
        encoder = _encoder(model, _model_folder(model, job))
    except (FetchError, ValueError, OSError) as error:
        _complain(str(error))
        return 1
    prompts_dir.mkdir(parents=True, exist_ok=True)
    missing = 0
    for number, dataset in enumerate(datasets):
        _report("prompts", number, len(datasets), dataset_name(dataset))
        missing += not _is_prepared(dataset, encoder, prompts_dir, bool(job.get("download_datasets")))
    _report("prompts", len(datasets) - missing, len(datasets), "done" if not missing else f"{missing} missing")
    return 1 if missing else 0


def _is_prepared(dataset: dict[str, Any], encoder: Encoder, prompts_dir: Path, may_download: bool) -> bool:
    name = dataset_name(dataset)
    fetching = partial(_report, "data set", message=f"fetching {name}, bytes")
    try:
        tell = _Seldom(lambda done, total: _report("prompts", done, total, f"{name}, prompts"))
        prepare(Selection.of(dataset), encoder, prompts_dir, may_download, fetching, tell)
    except (FetchError, ValueError, OSError) as error:
        _complain(str(error))
        return False
    return True


class _Seldom:
    """Passes a count on every few seconds."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report
        self._next_s = time.monotonic() + PROGRESS_PERIOD_S

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + PROGRESS_PERIOD_S
            self._report(done, total)


def _model_folder(model: Mapping[str, Any], job: Mapping[str, Any]) -> Path | None:
    """Where the model lies, fetched if the job says so; None for a random one."""
    kind, name = model.get("kind"), str(model.get("name"))
    if kind == "random":
        return None
    if kind not in ("hf", "path"):
        raise JobError(f"model {name!r}: kind {kind!r} is none of hf, path, random")
    revision = model.get("revision")
    folder_name = model_folder_name(name, revision) if kind == "hf" else name
    if not is_safe_name(folder_name):
        raise JobError(f"model {name!r}: a name in the models folder is needed, not a path")
    folder = Path(model.get("path") or Path(job["models_dir"]) / folder_name)
    if (folder / "config.json").is_file():
        _report("model", 1, 1, f"{name} is in {folder}")
        return folder
    if kind == "path" or not job.get("download"):
        raise FetchError(f"model {name!r} is not in {folder}: no config.json there")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _report("model", 0, 1, f"fetching {name}")
    report = partial(_report, "model", message=f"fetching {name}, bytes")
    fetch_model(name, revision, folder, report)
    _report("model", 1, 1, f"{name} is in {folder}")
    return folder


def _encoder(model: Mapping[str, Any], folder: Path | None) -> Encoder:
    identity = tokenizer_identity(model, folder)
    if folder is None:
        return ByteEncoder(model.get("config") or {}, identity)
    return ModelEncoder(folder, identity)


def _report(step: str, done: int, total: int | None, message: str) -> None:
    print(json.dumps({"step": step, "done": done, "total": total, "message": message}), flush=True)


def _complain(message: str) -> None:
    print(f"prefetch: {' '.join(message.split())}", file=sys.stderr, flush=True)
