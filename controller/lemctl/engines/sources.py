"""What a run's model and data set are, by commit: from what was written down when they were fetched. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_RECORD = "nothing was written down when its folder was made; `lemctl images prefetch` does"
#: Why what did not come from the hub has no commit, by kind.
NO_COMMIT = {
    ("model", "path"): "it is a local folder",
    ("model", "random"): "its weights are random",
    ("dataset", "file"): "it is a local file",
    ("dataset", "random"): "its token ids are random",
}


def sources_of(
    spec: Mapping[str, Any],
    model: Mapping[str, Any] | None,
    dataset: Mapping[str, Any] | None,
    no_record: str = NO_RECORD,
) -> dict[str, dict[str, Any]]:
    """`model` and `dataset` of an experiment: kind, name, revision as asked for, and `commit`, None with a `reason`.

    `model` and `dataset` are the records beside what was fetched, where there are any; `no_record` says why there
    is none. A file has its `sha256`.
    """
    data = spec["workload"]["dataset"]
    found = {
        "model": _source("model", spec["model"], model, no_record),
        "dataset": _source("dataset", data, dataset, no_record),
    }
    if data.get("sha256"):
        found["dataset"]["sha256"] = data["sha256"]
    return found


def _source(what: str, asked: Mapping[str, Any], record: Mapping[str, Any] | None, no_record: str) -> dict[str, Any]:
    told = {"kind": asked["kind"], "name": asked["name"], "revision": asked.get("revision")}
    if (reason := NO_COMMIT.get((what, asked["kind"]))) is not None:
        return {**told, "commit": None, "reason": reason}
    commit = (record or {}).get("commit")
    if record is None or commit is None or record.get("name") != asked["name"]:
        return {**told, "commit": None, "reason": no_record}
    return {**told, "commit": commit}
