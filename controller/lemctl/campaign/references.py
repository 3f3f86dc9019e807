"""What `model:` and `dataset:` name, as the experiment's specification says it.

A campaign file is data from anywhere: it names things inside the configured folders and nothing else, so absolute
paths, `..` and links that lead out are refused. Every function raises `ValueError` with one sentence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lem_runner.named_datasets import NAMED, NamedDataset
from lemctl.campaign.keys import nearest
from lemctl.campaign.trace import read_arrivals
from lemctl.campaign.yaml import parse
from lemctl.errors import CampaignFileError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]{0,127}", re.ASCII)
_PATH_PART = re.compile(r"[A-Za-z0-9_][\w.+ -]*", re.ASCII)

HUB_FORM = "hub:ORG/NAME[@REVISION][:CONFIG]"
DATASET_FORMS = f"file:NAME, random, {', '.join(NAMED)} or {HUB_FORM}"
MODEL_FORMS = "hf:ORG/NAME, hf:ORG/NAME@REVISION, path:NAME or {random: {CONFIG}}"


def model_reference(value: Any, model_dirs: Sequence[Path]) -> dict[str, Any]:
    """`{kind, name, revision, config}` of a model as written; a `path:` model need not be there yet."""
    if isinstance(value, Mapping):
        if set(value) != {"random"}:
            raise ValueError(f"must be {MODEL_FORMS}")
        return _random_model(value["random"])
    if not isinstance(value, str):
        raise ValueError(f"must be {MODEL_FORMS}")
    kind, colon, rest = value.partition(":")
    if kind == "hf" and colon:
        return _hub_model(rest)
    if kind == "path" and colon:
        _inside(rest, model_dirs, "model")
        return {"kind": "path", "name": rest, "revision": None, "config": None}
    if kind == "random" and colon:
        try:
            return _random_model(parse(rest, "random").value)
        except CampaignFileError as error:
            raise ValueError(f"the text after `random:` is no mapping ({error.message})") from None
    raise ValueError(f"must be {MODEL_FORMS}, found {value!r}")


def model_name(reference: Mapping[str, Any]) -> str:
    """The short name that tables show."""
    if reference["kind"] != "random":
        revision = f"@{reference['revision']}" if reference["revision"] else ""
        return f"{reference['kind']}:{reference['name']}{revision}"
    shape = repr(sorted(reference["config"].items(), key=lambda item: item[0]))
    return f"random:{reference['config']['model_type']}-{hashlib.sha256(shape.encode()).hexdigest()[:8]}"


def dataset_reference(value: Any, dataset_dirs: Sequence[Path], known_sha256: dict[Path, str]) -> dict[str, Any]:
    """`{kind, name, sha256, revision}` of a data set as written, of one on the hub also which part of it.
    `known_sha256` keeps what was read already."""
    if value == "random":
        return {"kind": "random", "name": None, "sha256": None, "revision": None}
    if not isinstance(value, str):
        raise ValueError(f"must be {DATASET_FORMS}")
    if not value.startswith("file:"):
        return _hub_dataset(value)
    name, path = _data_file(value, dataset_dirs)
    if path not in known_sha256:
        known_sha256[path] = _sha256(path)
    return {"kind": "file", "name": name, "sha256": known_sha256[path], "revision": None}


def trace_reference(value: Any, dataset_dirs: Sequence[Path]) -> dict[str, Any]:
    """`{name, sha256, arrivals, span_s}` of recorded arrivals as written."""
    if not isinstance(value, str) or not value.startswith("file:"):
        raise ValueError(f"must be file:NAME in a data-set folder, found {value!r}")
    name, path = _data_file(value, dataset_dirs)
    moments_s = read_arrivals(path)
    return {"name": name, "sha256": _sha256(path), "arrivals": len(moments_s), "span_s": moments_s[-1]}


def _data_file(value: str, dataset_dirs: Sequence[Path]) -> tuple[str, Path]:
    """Name and path of `file:NAME`."""
    name = value.removeprefix("file:")
    path = _inside(name, dataset_dirs, "data set")
    if path is None or not path.is_file():
        folders = " or ".join(str(folder) for folder in dataset_dirs)
        raise ValueError(f"no file {name!r} in {folders}" if folders else "no data-set folder is configured")
    return name, path


def _hub_dataset(value: str) -> dict[str, Any]:
    """One of the named data sets, or `hub:ORG/NAME[@REVISION][:CONFIG]`; the prefix may be left out where there is a
    slash."""
    name, config = value.removeprefix("hub:"), None
    if value.startswith("hub:") or "/" in value:
        name, colon, config_text = name.partition(":")
        if colon and not _REVISION.fullmatch(config_text):
            raise ValueError(f"{config_text!r} is no configuration; write {HUB_FORM}")
        config = config_text or None
    name, at, revision = name.partition("@")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ValueError(f"{revision!r} is no revision; write {HUB_FORM}")
    named = NAMED.get(name) if not value.startswith("hub:") else None
    if named is None and not value.startswith("hub:") and "/" not in value:
        raise ValueError(f"no data set {name!r}: must be {DATASET_FORMS}{nearest(name, NAMED)}")
    if named is None and (not _HUB_NAME.fullmatch(name) or ".." in name):
        raise ValueError(f"{name!r} is no name of a hub data set; write {HUB_FORM}")
    part = named or NamedDataset(name, config, split="")
    return {
        "kind": "hub",
        "name": part.repository,
        "sha256": None,
        "revision": revision or None,
        "config": part.config,
        "split": part.split or None,
        "column": part.column,
        "form": part.form,
        "files": part.files,
    }


def _hub_model(rest: str) -> dict[str, Any]:
    name, at, revision = rest.partition("@")
    if not _HUB_NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is no name of a hub model; write hf:ORG/NAME")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ValueError(f"{revision!r} is no revision; write hf:ORG/NAME@REVISION")
    return {"kind": "hf", "name": name, "revision": revision or None, "config": None}


def _random_model(config: Any) -> dict[str, Any]:
    if not isinstance(config, Mapping) or not config:
        raise ValueError("`random` takes the model's configuration as a mapping, such as {model_type: llama, ...}")
    if lost := [key for key, value in config.items() if value is None and ":" in key]:
        raise ValueError(f"write a space after the colon of {lost[0]!r}")
    family = config.get("model_type", "llama")
    if not isinstance(family, str) or not family:
        raise ValueError("model_type must be the name of a model family")
    return {"kind": "random", "name": None, "revision": None, "config": {**config, "model_type": family}}


def _inside(name: str, folders: Sequence[Path], what: str) -> Path | None:
    """The path of `name` in the first folder that has it, else in the first folder; None without folders."""
    parts = name.split("/")
    if not all(_PATH_PART.fullmatch(part) for part in parts):
        raise ValueError(
            f"{name!r} is no {what} name: a name inside the configured folder, without a leading slash, `..` or "
            "special characters"
        )
    found: Path | None = None
    for folder in folders:
        candidate = folder.joinpath(*parts)
        try:
            resolved = candidate.resolve()
            root = folder.resolve()
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{name!r} cannot be followed: {error}") from None
        if not resolved.is_relative_to(root):
            raise ValueError(f"{name!r} leads out of the {what} folder {folder}")
        if resolved.exists():
            return resolved
        found = found or resolved
    return found


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path.name!r} cannot be read: {error.strerror}") from None
