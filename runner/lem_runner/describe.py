"""The catalogue of one backend's parameters, as JSON: what `images/<backend>/params.json` is made from."""

from __future__ import annotations

import json
from typing import Any

from lem_runner import backends
from lem_runner.identity import package_versions


def catalogue(name: str) -> dict[str, Any]:
    """The kinds of load that this backend serves, and every parameter that its installed engine takes."""
    backend = backends.load(name)
    versions = package_versions(backend.PACKAGES)
    # The first that is installed: an engine may have one distribution for GPUs and one for CPUs.
    engine_version = next((versions[package] for package in backend.PACKAGES if package in versions), None)
    return {
        "backend": name,
        "engine_version": engine_version,
        "loads": list(backend.LOADS),
        "parameters": [parameter.to_json() for parameter in backend.describe()],
    }


def catalogue_text(name: str) -> str:
    """As it is committed: one parameter a line, so that a change of one reads as one in a diff."""
    body = catalogue(name)
    parameters = ",\n".join("  " + json.dumps(parameter, ensure_ascii=False) for parameter in body.pop("parameters"))
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in body.items())
    return f'{{\n{head} "parameters": [\n{parameters}\n ]\n}}\n'
