"""Folders of the model folder that engine parameters name: an adapter, a model that drafts. Written `path:NAME`, as
`model` is; the runner gets the folder as it sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

_MARK = "path:"


def folders_named(value: Any) -> Iterator[str]:
    """Every NAME in engine parameters, inside mappings and lists too."""
    if isinstance(value, str) and value.startswith(_MARK):
        yield value.removeprefix(_MARK)
    elif isinstance(value, (Mapping, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from folders_named(item)


def with_folders(value: Any, place: Callable[[str], str]) -> Any:
    """The same parameters with what `place` makes of each NAME."""
    if isinstance(value, str):
        return place(value.removeprefix(_MARK)) if value.startswith(_MARK) else value
    if isinstance(value, Mapping):
        return {name: with_folders(item, place) for name, item in value.items()}
    return [with_folders(item, place) for item in value] if isinstance(value, list) else value


def is_inside(name: str) -> bool:
    """Whether a NAME stays in the model folder."""
    path = PurePath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
