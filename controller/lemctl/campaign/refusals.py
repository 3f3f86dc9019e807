"""Keys and values that the schema knows and this version does not honour yet: refused by name, never ignored.

When one is built, its row goes; a test holds each row to its refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: `key` refuses the key whatever its value, `key=value` one value of it.
NOT_YET: Mapping[str, str] = {
    "workload.dataset=hub": "hub data sets are not available in this version; put the prompts into a file and name "
    "it as file:NAME",
}


def refused(key: str, value: Any, not_yet: Mapping[str, str] = NOT_YET) -> str | None:
    """The sentence that refuses `key` with `value`, or None. `value` is the raw text of a data set, too."""
    if key in not_yet and value is not None:
        return not_yet[key]
    if key == "workload.dataset":
        hub = isinstance(value, str) and value != "random" and not value.startswith("file:")
        return not_yet.get("workload.dataset=hub") if hub else None
    return not_yet.get(f"{key}={value}") if isinstance(value, str) else None


def refusals(tree: Mapping[str, Any], not_yet: Mapping[str, str] = NOT_YET) -> Iterator[tuple[str, str]]:
    """Every (dotted key, sentence) in a merged campaign, sweep values apart."""

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if sentence := refused(key, value, not_yet):
                yield key, sentence
            elif isinstance(value, Mapping) and name not in ("sweep", "model"):
                yield from walk(value, f"{key}.")

    return walk(tree, "")
