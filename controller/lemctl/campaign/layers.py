"""Precedence: command line over file over preset over defaults, and where each value came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lemctl.campaign.keys import copied, has, put
from lemctl.campaign.yaml import Document, parse
from lemctl.errors import CampaignFileError

#: Replaced as a whole, not merged key by key.
_WHOLE = frozenset({"model", "cycles", "hours", "notify", "exclude", "include"})
#: Texts that YAML would take apart, because they hold `: ` inside braces.
_MODEL_PREFIXES = ("hf:", "path:", "random:")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of a campaign came from. Keys are dotted, list items by their index."""

    name: str
    lines: Mapping[str, int]
    origins: Mapping[str, str] = field(default_factory=dict)

    def line(self, key: str) -> int | None:
        """The line of `key`, else of what encloses it, else of what it encloses."""
        asked = key
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key.rpartition(".")[0]
        return min((line for known, line in self.lines.items() if known.startswith(f"{asked}.")), default=None)

    def origin(self, key: str) -> str:
        """`command line`, `file`, `preset NAME` or `default`."""
        asked = key
        while key:
            if key in self.origins:
                return self.origins[key]
            key = key.rpartition(".")[0]
        below = {origin for known, origin in self.origins.items() if known.startswith(f"{asked}.")}
        return " and ".join(sorted(below)) or "default"

    def error(self, message: str, key: str | None = None) -> CampaignFileError:
        """The error to raise about `key`: its line is the file's, unless the value came from elsewhere."""
        if key is None:
            return CampaignFileError(message, file=self.name, line=None, key=None)
        origin = self.origin(key)
        shown = _shown(key)
        if "file" in origin or origin == "default":
            return CampaignFileError(message, file=self.name, line=self.line(key), key=shown)
        return CampaignFileError(f"{message} (from the {origin})", file=self.name, line=None, key=shown)


def file_layer(document: Document, name: str) -> dict[str, Any]:
    """The file's mapping, with dotted keys at the top level written out as nested ones."""
    source = Source(name, document.lines)
    if not isinstance(document.value, dict):
        found = "nothing" if document.value is None else "a list" if isinstance(document.value, list) else "plain text"
        raise source.error(f"a campaign file is a mapping of keys; found {found}")
    tree = {key: value for key, value in document.value.items() if "." not in key}
    for key, value in document.value.items():
        if "." in key:
            if has(tree, key):
                raise source.error("duplicate key, given nested as well", key)
            if not put(tree, key, value):
                raise source.error("what stands before the last dot is given as a plain value as well", key)
    return tree


def override_layer(overrides: Mapping[str, str]) -> dict[str, Any]:
    """`key=value` pairs of the command line; values are YAML. `sweep.KEY` sets the axis of the dotted `KEY`."""
    tree: dict[str, Any] = {}
    for key, text in overrides.items():
        if not all(key.split(".")):
            raise CampaignFileError(f"{key!r} is no dotted key", file="--set")
        as_it_is = key == "model" and text.startswith(_MODEL_PREFIXES)
        value = text if as_it_is else parse(text, f"--set {key}").value
        if key.startswith("sweep."):
            # An axis is named by a dotted key of its own.
            axes = tree.setdefault("sweep", {})
            is_new = isinstance(axes, dict)
            if is_new:
                axes[key.removeprefix("sweep.")] = value
        else:
            is_new = not has(tree, key) and put(tree, key, value)
        if not is_new:
            raise CampaignFileError("given twice, whole and in part", file="--set", key=key)
    return tree


def merged(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], dict[str, str]]:
    """The layers, lowest first, as one tree, and for each dotted key the layer that it came from."""
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _lay(tree, layer, origin, origins, "")
    return tree, origins


def _lay(tree: dict[str, Any], layer: Mapping[str, Any], origin: str, origins: dict[str, str], prefix: str) -> None:
    for name, value in layer.items():
        key = f"{prefix}{name}"
        below = tree.get(name)
        if isinstance(value, Mapping) and isinstance(below, dict) and name not in _WHOLE:
            _lay(below, value, origin, origins, f"{key}.")
            continue
        for known in [known for known in origins if known == key or known.startswith(f"{key}.")]:
            del origins[known]
        tree[name] = copied(value)
        _note(value, origin, origins, key, name in _WHOLE)


def _note(value: Any, origin: str, origins: dict[str, str], key: str, whole: bool) -> None:
    if isinstance(value, Mapping) and value and not whole:
        for name, item in value.items():
            _note(item, origin, origins, f"{key}.{name}", False)
    else:
        origins[key] = origin


def _shown(key: str) -> str:
    """List indices in brackets: `sweep.backend[1]`."""
    shown = ""
    for part in key.split("."):
        shown += f"[{part}]" if part.isdigit() and shown else f".{part}" if shown else part
    return shown
