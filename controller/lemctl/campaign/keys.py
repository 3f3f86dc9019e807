"""Dotted keys: reading and writing nested mappings by them, and the nearest valid name to a mistaken one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lem_runner.parameters import nearest

__all__ = ["copied", "get", "has", "listed", "nearest", "put"]


def listed(names: Iterable[str], at_most: int = 12) -> str:
    """`a, b, c`, cut after `at_most` names."""
    every = list(names)
    shown = ", ".join(every[:at_most])
    return shown if len(every) <= at_most else f"{shown} and {len(every) - at_most} more"


def put(tree: dict[str, Any], key: str, value: Any) -> bool:
    """Write `value` at the dotted `key`, making mappings on the way; False where a plain value is in the way."""
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            return False
    tree[last] = value
    return True


def get(tree: Mapping[str, Any], key: str) -> Any:
    """The value at the dotted `key`, or None."""
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def has(tree: Mapping[str, Any], key: str) -> bool:
    """Does the dotted `key` stand in the tree?"""
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def copied(tree: Any) -> Any:
    """A deep copy of plain data."""
    if isinstance(tree, Mapping):
        return {key: copied(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [copied(value) for value in tree]
    return tree
