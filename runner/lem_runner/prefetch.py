"""Preparing a campaign before its night: the model on disk, and every prompt as text and token ids.

Runs where there may be a network and a token, never in the measured container. Each step prints one JSON line on
stdout, each thing that is missing one line on stderr; what can be prepared is prepared all the same.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lem_runner.datasets import read_rows
from lem_runner.encoders import ByteEncoder, Encoder, ModelEncoder
from lem_runner.hub import FetchError, fetch_model
from lem_runner.prompts import model_folder_name, prompt_key, tokenizer_identity
from lem_runner.protocol import Prompt, ids_sha256, is_safe_name
from lem_runner.records import publish


class JobError(ValueError):
    """The job asks for something that there is not; one line."""


@dataclass(frozen=True)
class Selection:
    """Which prompts one entry of a job asks for."""

    dataset: dict[str, Any]
    prompts: int
    seed: int
    template: str

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Selection:
        """Parse an entry; `JobError` for numbers that select nothing."""
        count, seed = dataset.get("prompts"), dataset.get("seed", 0)
        template = dataset.get("template") or "none"
        if type(count) is not int or count < 1 or type(seed) is not int:
            raise JobError(f"data set {_name(dataset)}: prompts is {count!r}, seed {seed!r}; whole numbers are needed")
        if template not in ("none", "chat"):
            raise JobError(f"data set {_name(dataset)}: template {template!r} is neither none nor chat")
        return cls(dict(dataset), count, seed, template)


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
        _report("prompts", number, len(datasets), _name(dataset))
        missing += not _prepared(dataset, encoder, prompts_dir)
    _report("prompts", len(datasets) - missing, len(datasets), "done" if not missing else f"{missing} missing")
    return 1 if missing else 0


def _prepared(dataset: dict[str, Any], encoder: Encoder, prompts_dir: Path) -> bool:
    try:
        prepare(Selection.of(dataset), encoder, prompts_dir)
    except (ValueError, OSError) as error:
        _complain(str(error))
        return False
    return True


def prepare(selection: Selection, encoder: Encoder, prompts_dir: Path) -> Path:
    """Write `<key>.jsonl` and, after it, `<key>.meta.json`; nothing is done where both are there already."""
    key = _key(selection, encoder)
    prompts_path, meta_path = prompts_dir / f"{key}.jsonl", prompts_dir / f"{key}.meta.json"
    if meta_path.exists() and prompts_path.exists():
        return prompts_path
    prompts = _prompts(selection, encoder)
    sha256 = publish(prompts_path, b"".join(prompt.encode() for prompt in prompts))
    meta = {"key": key, "sha256": sha256, **_meta(selection, encoder, prompts)}
    publish(meta_path, json.dumps(meta, indent=1, ensure_ascii=False).encode() + b"\n")
    return prompts_path


def _prompts(selection: Selection, encoder: Encoder) -> list[Prompt]:
    kind = selection.dataset.get("kind")
    if kind == "random":
        drawn = draw_ids(selection, encoder)
        return [_prompt(index, None, ids) for index, ids in enumerate(drawn)]
    if kind != "file":
        name = _name(selection.dataset)
        raise JobError(f"data set {name}: data sets of kind {kind!r} are not available in this version")
    rows = read_rows(Path(selection.dataset["path"]), selection.dataset.get("column"))
    if len(rows) < selection.prompts:
        raise JobError(f"{selection.dataset['path']}: {len(rows)} prompts, {selection.prompts} are asked for")
    chosen = random.Random(selection.seed).sample(rows, selection.prompts)  # noqa: S311 - a reproducible choice
    texts = [encoder.render(text, selection.template) for text in chosen]
    return [_prompt(index, text, encoder.encode(text, selection.template)) for index, text in enumerate(texts)]


def draw_ids(selection: Selection, encoder: Encoder) -> list[list[int]]:
    """Ids of an exact length, the same for the same seed and vocabulary, none of them special."""
    length = selection.dataset.get("input_len")
    if type(length) is not int or length < 1:
        raise JobError(f"random prompts: input_len is {length!r}, a whole number of at least 1 is needed")
    if selection.template != "none":
        raise JobError(f"random prompts: template {selection.template!r}; drawn ids have no text to put in one")
    ordinary = [token for token in range(encoder.vocab_size) if token not in encoder.special]
    draw = random.Random(selection.seed)  # noqa: S311 - a reproducible choice
    return [draw.choices(ordinary, k=length) for _ in range(selection.prompts)]


def _prompt(index: int, text: str | None, ids: list[int]) -> Prompt:
    if not ids:
        raise JobError(f"prompt {index} has no tokens: {text!r}")
    return Prompt(index, text, ids, ids_sha256(ids))


def _meta(selection: Selection, encoder: Encoder, prompts: list[Prompt]) -> dict[str, Any]:
    lengths = [len(prompt.ids) for prompt in prompts]
    return {
        "prompts": len(prompts),
        "tokens": sum(lengths),
        "min_length": min(lengths),
        "median_length": statistics.median(lengths),
        "max_length": max(lengths),
        "tokenizer_sha256": encoder.identity,
        "vocab_size": encoder.vocab_size,
        "seed": selection.seed,
        "template": selection.template,
        "source": {name: value for name, value in selection.dataset.items() if value is not None},
    }


def _key(selection: Selection, encoder: Encoder) -> str:
    """The name computed here; a job that names another one was made from other data or another tokenizer."""
    try:
        key = prompt_key(selection.dataset, selection.prompts, selection.seed, selection.template, encoder.identity)
    except OSError as error:
        raise JobError(f"data set {_name(selection.dataset)}: {error.strerror}") from error
    asked = selection.dataset.get("key")
    if asked is not None and asked != key:
        name = _name(selection.dataset)
        raise JobError(f"data set {name}: its key is {key}, not {asked}: the data or the tokenizer changed")
    return key


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


def _name(dataset: Mapping[str, Any]) -> str:
    return str(dataset.get("path") or dataset.get("name") or dataset.get("kind"))


def _report(step: str, done: int, total: int | None, message: str) -> None:
    print(json.dumps({"step": step, "done": done, "total": total, "message": message}), flush=True)


def _complain(message: str) -> None:
    print(f"prefetch: {' '.join(message.split())}", file=sys.stderr, flush=True)
