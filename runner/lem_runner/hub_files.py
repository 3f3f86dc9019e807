"""Which files of a hub repository hold one part of a data set: by its card, else by the names of its files. Pure.

A data set on the hub has configurations, and these have splits. A card may say where they lie; without one the folders
and file names tell, as they do on the branch of converted Parquet files (`CONFIG/SPLIT/0000.parquet`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from lem_runner.datasets import SUFFIXES

#: Tried in this order where no split is named.
SPLITS = ("train", "test", "validation")
#: Files beside the data that end like it.
_NOT_DATA = ("dataset_infos.json", "config.json", "package.json", "requirements.txt", "license.txt")


class ChoiceError(ValueError):
    """No file is the part that was asked for; the message says what there is."""


def choose_files(
    names: Sequence[str],
    configs: Sequence[Mapping[str, Any]],
    config: str | None = None,
    split: str | None = None,
    pattern: str | None = None,
) -> list[str]:
    """The data files of one configuration and split, sorted, all of one format. `configs` is that key of the card's
    head. Raises `ChoiceError`."""
    data = [name for name in names if _is_data(name)]
    if pattern is not None:
        chosen = [name for name in data if fnmatchcase(name, pattern)]
        said = f"no file {pattern}"
    elif declared := [entry for entry in configs if entry.get("data_files")]:
        chosen, said = _declared(data, declared, config, split)
    else:
        chosen, said = _by_name(data, config, split)
    if not chosen:
        raise ChoiceError(f"{said} (it has {_some(data)})")
    return _of_one_format(sorted(chosen))


def _is_data(name: str) -> bool:
    base = name.rpartition("/")[2]
    return name.lower().endswith(SUFFIXES) and not base.startswith(".") and base.lower() not in _NOT_DATA


def _declared(
    data: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str | None, split: str | None
) -> tuple[list[str], str]:
    known = [str(entry.get("config_name")) for entry in configs]
    wanted = config or next((str(e.get("config_name")) for e in configs if e.get("default")), None)
    wanted = wanted or ("default" if "default" in known else known[0])
    entry = next((entry for entry in configs if entry.get("config_name") == wanted), None)
    if entry is None:
        return [], f"no configuration {wanted}; there are {_some(known)}"
    parts = _parts(entry["data_files"])
    chosen = split or next((name for name in SPLITS if name in parts), next(iter(parts), ""))
    if chosen not in parts:
        return [], f"no split {chosen} in configuration {wanted}; there are {_some(list(parts))}"
    return [name for name in data if any(_matches(name, glob) for glob in parts[chosen])], f"no file of split {chosen}"


def _parts(declared: Any) -> dict[str, list[str]]:
    """split -> patterns. A card may also give one pattern, or a list of them, for a split `train`."""
    entries = declared if isinstance(declared, list) else [declared]
    parts: dict[str, list[str]] = {}
    for entry in entries:
        named = entry if isinstance(entry, Mapping) else {"split": "train", "path": entry}
        paths = named.get("path") or []
        parts.setdefault(str(named.get("split", "train")), []).extend([paths] if isinstance(paths, str) else paths)
    return parts


def _by_name(data: Sequence[str], config: str | None, split: str | None) -> tuple[list[str], str]:
    if config is not None:
        own = [name for name in data if config in name.split("/")[:-1]]
        if not own and config != "default":
            return [], f"no folder of configuration {config}"
        data = own or data
    for wanted in [split] if split else SPLITS:
        found = [name for name in data if wanted in _words(name)]
        if found:
            return found, ""
    if split:
        return [], f"no file of split {split}"
    # Files that name no split are one.
    return list(data), "no data file"


def _words(name: str) -> list[str]:
    """Folders and the parts of the file's name: `data/train-00000-of-00002.parquet` -> data, train, ..."""
    *folders, base = name.split("/")
    stem = base.rpartition(".")[0]
    return [*folders, stem, *re.split(r"[-.]", stem), *re.split(r"[-._]", stem)]


def _matches(name: str, glob: str) -> bool:
    """`**` stands for any folders, `*` for what has no slash."""
    pieces = re.split(r"(\*\*/?|\*|\?)", glob.removeprefix("./"))
    table = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.fullmatch("".join(table.get(piece, re.escape(piece)) for piece in pieces), name) is not None


def _of_one_format(names: list[str]) -> list[str]:
    """The same rows are often there in several formats: of these the one with most files, Parquet first."""
    by_suffix: dict[str, list[str]] = {}
    for name in names:
        by_suffix.setdefault(name.rpartition(".")[2].lower(), []).append(name)
    return by_suffix.get("parquet") or max(by_suffix.values(), key=len)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more if names else "no data files"
