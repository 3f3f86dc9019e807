"""Fetching a data set from the hub: resumable, at one commit, which is written down before anything is fetched.

Each data set has a folder beside the prepared prompts: its files, and a record with the commit and which files are
which part. As long as the record is there a data set stays what it was, and what is there needs no hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lem_runner.hub import TIMEOUT_S, FetchError, Reporting, explain, open_hub
from lem_runner.hub_files import ChoiceError, choose_files
from lem_runner.prompts import dataset_folder, dataset_record, read_dataset_record
from lem_runner.records import publish

#: Where the hub keeps every data set converted to Parquet.
CONVERTED = "refs/convert/parquet"
Report = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class Fetched:
    """The commit of the data set, and the files of the part that was asked for."""

    commit: str
    paths: list[Path]


def fetch_dataset(dataset: Mapping[str, Any], prompts_dir: Path, may_download: bool, report: Report) -> Fetched:
    """The part of a hub data set that `dataset` (an entry of a prefetch job) names, on this disk.

    `report(done_b, total_b)` is called now and then. What is there already is not asked of the hub; an interrupted
    fetch goes on with the file where it stopped. Raises `FetchError`.
    """
    name, revision = str(dataset["name"]), dataset.get("revision")
    folder = dataset_folder(prompts_dir, name, revision)
    record = read_dataset_record(prompts_dir, dataset) or {"name": name, "revision": revision, "parts": {}}
    part = record["parts"].get(_part_key(dataset))
    if part is None or not all((folder / file).is_file() for file in part["files"]):
        if not may_download:
            raise FetchError(f"data set {name!r} is not in {folder}")
        part = _download(dataset, record, folder, report)
    return Fetched(record["commit"], [folder / file for file in part["files"]])


def _download(dataset: Mapping[str, Any], record: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    name = str(dataset["name"])
    api = open_hub(f"data set {name!r} is not in {folder}")
    try:
        part = record["parts"].get(_part_key(dataset)) or _choose(api, dataset, record)
        folder.mkdir(parents=True, exist_ok=True)
        publish(dataset_record(folder), json.dumps(record, indent=1).encode() + b"\n")
        with Reporting(folder, part["total_b"], report):
            for file in part["files"]:
                api.hf_hub_download(
                    name, file, repo_type="dataset", revision=part["commit"], local_dir=folder, etag_timeout=TIMEOUT_S
                )
    except ChoiceError as error:
        raise FetchError(f"data set {name!r}: {error}") from error
    except Exception as error:
        raise FetchError(explain("data set", name, folder, error)) from error
    return dict(part)


def _choose(api: Any, dataset: Mapping[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Pin the commit and choose the files: of the repository itself, else of its Parquet conversion. Both go into the
    record."""
    revision = record.get("commit") or dataset.get("revision")
    info = api.dataset_info(str(dataset["name"]), revision=revision, files_metadata=True, timeout=TIMEOUT_S)
    try:
        files = _chosen(info, dataset)
    except ChoiceError:
        # The conversion is of the newest commit alone.
        name = str(dataset["name"])
        if dataset.get("revision") or (revision and api.dataset_info(name, timeout=TIMEOUT_S).sha != info.sha):
            raise
        converted = _converted(api, name)
        if converted is None:
            raise
        record["commit"], info = info.sha, converted
        files = _chosen(info, dataset)
    record.setdefault("commit", info.sha)
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    total_b = None if any(sizes[file] is None for file in files) else sum(sizes[file] for file in files)
    part = {"commit": info.sha, "files": files, "total_b": total_b}
    record["parts"][_part_key(dataset)] = part
    return part


def _chosen(info: Any, dataset: Mapping[str, Any]) -> list[str]:
    card = getattr(info, "card_data", None) or {}
    configs = card.get("configs") or []
    names = [file.rfilename for file in info.siblings or []]
    return choose_files(names, configs, dataset.get("config"), dataset.get("split"), dataset.get("files"))


def _converted(api: Any, name: str) -> Any:
    """The branch of converted files, None where the hub has none."""
    try:
        return api.dataset_info(name, revision=CONVERTED, files_metadata=True, timeout=TIMEOUT_S)
    except Exception as error:
        if "RevisionNotFoundError" in {cls.__name__ for cls in type(error).__mro__}:
            return None
        raise


def _part_key(dataset: Mapping[str, Any]) -> str:
    return json.dumps([dataset.get(name) for name in ("config", "split", "files")])
