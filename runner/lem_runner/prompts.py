"""What a prepared prompt file is called, and what a model folder is called: pure functions that both sides compute.

A prompt file is named by all that decides its content: data, selection, template and tokenizer. So a changed data file
or tokenizer is another file, and two campaigns that ask for the same prompts share one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lem_runner.protocol import ContractError, canonical_json, is_safe_name, json_object

#: Raised by one when the same inputs would give other prompts.
PREPARATION_VERSION = 1
#: Whatever of these a model folder holds decides how it tokenises.
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
#: Where a data set lies or what a job calls it says nothing about what is in it; of the hub's the commit counts.
_NOT_CONTENT = ("key", "path", "prompts", "seed", "template", "revision")


@dataclass(frozen=True)
class Prompt:
    """One line of a prepared prompt file: text (None for drawn ids), token ids, and their hash."""

    index: int
    text: str | None
    ids: list[int]
    sha256: str

    def encode(self) -> bytes:
        """One JSON line."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Prompt:
        """Parse one line; raises `ContractError`, also when the ids do not match their hash."""
        try:
            prompt = cls(**json_object(line))
        except TypeError as error:
            raise ContractError(f"prompt: {error}") from error
        if ids_sha256(prompt.ids) != prompt.sha256:
            raise ContractError(f"prompt {prompt.index}: the token ids do not match their hash")
        return prompt


def ids_sha256(ids: list[int]) -> str:
    """Hash of token ids that every engine can recompute: sha256 over the decimal ids joined by commas."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def prompt_key(dataset: Mapping[str, Any], prompts: int, seed: int, template: str, tokenizer_sha256: str) -> str:
    """The name of a prompt file, without suffix.

    `dataset` is an entry of a prefetch job; one of kind `file` counts by its content: read from its `path`, or given as
    `sha256` and `format` by a host that has read it already; one of the hub by its `commit`. `tokenizer_sha256` is what
    `tokenizer_identity` returns.
    `OSError` where the file cannot be read.
    """
    content = {name: value for name, value in dataset.items() if name not in _NOT_CONTENT and value is not None}
    if dataset.get("kind") == "file" and "path" in dataset:
        content["sha256"] = file_sha256(Path(dataset["path"]))
        content["format"] = Path(dataset["path"]).suffix.lower()
    identity = {
        "version": PREPARATION_VERSION,
        "dataset": content,
        "prompts": prompts,
        "seed": seed,
        "template": template,
        "tokenizer": tokenizer_sha256,
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]


def tokenizer_identity(model: Mapping[str, Any], folder: Path | None) -> str:
    """What turns text into ids for a model: `tokenizer_sha256` of its folder, or the declared bytes of a random one."""
    if model.get("kind") == "random":
        fields = canonical_json(vocabulary(model.get("config") or {}))
        return f"bytes-{hashlib.sha256(fields.encode()).hexdigest()}"
    if folder is None:
        raise ValueError(f"model {model.get('name')!r} has no folder")
    return tokenizer_sha256(folder)


def tokenizer_sha256(model_folder: Path) -> str:
    """sha256 over a model folder's tokenizer files and its vocabulary; needs its `config.json`."""
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(canonical_json(vocabulary(config)).encode())
    for name in tokenizer_files(model_folder):
        digest.update(f"{name}:{file_sha256(model_folder / name)}\n".encode())
    return digest.hexdigest()


def tokenizer_files(model_folder: Path) -> list[str]:
    """Which of `TOKENIZER_FILES` are there."""
    return [name for name in TOKENIZER_FILES if (model_folder / name).is_file()]


def vocabulary(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a model's config that decide which ids there are; of its text part where it has several."""
    text = config.get("text_config")
    source = text if isinstance(text, Mapping) and "vocab_size" not in config else config
    return {name: source.get(name) for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}


def dataset_folder(prompts_dir: Path, name: str, revision: str | None = None) -> Path:
    """Where the files of a hub data set lie; `ValueError` for a name that is none."""
    return prompts_dir / "datasets" / model_folder_name(name, revision)


def dataset_record(folder: Path) -> Path:
    """What was fetched into that folder: `{name, revision, commit, parts: {part: {commit, files, total_b}}}`."""
    return folder / "dataset.json"


def read_dataset_record(prompts_dir: Path, dataset: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a hub data set, None where it was never fetched."""
    folder = dataset_folder(prompts_dir, dataset["name"], dataset.get("revision"))
    try:
        record: dict[str, Any] = json.loads(dataset_record(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record


def model_record(folder: Path) -> Path:
    """What was fetched into a model's folder: `{name, revision, commit}`; `revision` as it was asked for."""
    return folder / "lemctl.json"


def read_model_record(folder: Path) -> dict[str, Any] | None:
    """The record of a fetched model, None where nothing was written down."""
    try:
        record = json.loads(model_record(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def file_sha256(path: Path) -> str:
    """sha256 of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def model_folder_name(name: str, revision: str | None = None) -> str:
    """The folder below the models folder that a hub model is fetched to; `ValueError` for a name that is none."""
    folder = name.replace("/", "--") + (f"--{revision.replace('/', '--')}" if revision else "")
    if name.count("/") > 1 or not is_safe_name(folder):
        raise ValueError(f"{name!r} at revision {revision!r} is no name of a hub model")
    return folder
