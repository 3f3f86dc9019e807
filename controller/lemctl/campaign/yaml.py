"""A strict YAML reader: YAML 1.2 scalars, no duplicate keys, no tags, no merge keys, and the line of every key.

Values are built from PyYAML's event stream, so the limits on depth, aliases and size stop a hostile file before
anything is built from it. Deliberately not a general loader: what a campaign file has no use for is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from lemctl.errors import CampaignFileError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ALIASES = 100
#: Aliases multiply what they name; this bounds the product.
MAX_VALUES = 200_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# The core schema of YAML 1.2 (section 10.3.2): `no`, `22:00` and `1_000` are strings.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_INT_DIGITS = 18

_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: plain data, and for each dotted path (list items by index) its line, counted from 1."""

    value: Any
    lines: dict[str, int]


class _Container:
    """A mapping or a list being filled; `key` is the mapping's key whose value comes next."""

    def __init__(self, value: dict[str, Any] | list[Any], path: str, anchor: str | None):
        self.value, self.path, self.anchor = value, path, anchor
        self.key: str | None = None

    def next_path(self) -> str:
        last = str(len(self.value)) if isinstance(self.value, list) else self.key
        return f"{self.path}.{last}" if self.path else str(last)


class _Builder:
    """Turns events into values. `name` stands in the messages."""

    def __init__(self, name: str):
        self.name = name
        self.lines: dict[str, int] = {}
        self.anchors: dict[str, Any] = {}
        self.open_anchors: set[str] = set()
        self.stack: list[_Container] = []
        self.aliases = self.values = self.documents = 0
        self.root: Any = None

    def fail(self, message: str, line: int | None, key: str | None = None) -> NoReturn:
        raise CampaignFileError(message, file=self.name, line=line, key=key or None)

    def take(self, event: yaml.Event) -> None:
        line = _line(event)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.fail("a second document begins here; a campaign file is one document", line)
        elif isinstance(event, _CLOSES):
            self.close()
        elif isinstance(event, yaml.NodeEvent):
            self.take_node(event, line)

    def take_node(self, event: yaml.NodeEvent, line: int) -> None:
        parent = self.stack[-1] if self.stack else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            parent.key = self.key_of(event, parent, line)
            return
        path = parent.next_path() if parent is not None else ""
        self.lines.setdefault(path, line)
        self.count(1, line, path)
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            self.fail(f"the tag {tag!r} is not accepted; write plain values", line, path)
        if isinstance(event, _OPENS):
            self.open(event, path, line)
            return
        if isinstance(event, yaml.AliasEvent):
            self.place(self.aliased(event, path, line))
        elif isinstance(event, yaml.ScalarEvent):
            self.place(self.scalar(event, path))

    def key_of(self, event: yaml.NodeEvent, parent: _Container, line: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self.fail("a key must be plain text", line, parent.path)
        key = str(event.value)
        path = f"{parent.path}.{key}" if parent.path else key
        if key == "<<" and event.implicit[0]:
            self.fail("merge keys are not part of YAML 1.2; write the keys out", line, parent.path)
        if event.anchor or event.tag:
            self.fail("a key takes neither an anchor nor a tag", line, path)
        if key in parent.value:
            self.fail(f"duplicate key, first given in line {self.lines.get(path, '?')}", line, path)
        self.lines[path] = line
        return key

    def open(self, event: yaml.NodeEvent, path: str, line: int) -> None:
        if len(self.stack) >= MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels", line, path)
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        if event.anchor:
            self.open_anchors.add(event.anchor)
        self.stack.append(_Container(value, path, event.anchor))

    def close(self) -> None:
        done = self.stack.pop()
        if done.anchor:
            self.open_anchors.discard(done.anchor)
            self.anchors[done.anchor] = done.value
        self.place(done.value)

    def place(self, value: Any) -> None:
        if not self.stack:
            self.root = value
            return
        parent = self.stack[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is not None:
            parent.value[parent.key] = value
            parent.key = None

    def aliased(self, event: yaml.AliasEvent, path: str, line: int) -> Any:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            self.fail(f"more than {MAX_ALIASES} aliases", line, path)
        if event.anchor in self.open_anchors:
            self.fail(f"the anchor &{event.anchor} contains itself", line, path)
        if event.anchor not in self.anchors:
            self.fail(f"no anchor &{event.anchor} stands before this alias", line, path)
        return self.copied(self.anchors[event.anchor], len(self.stack), line, path)

    def copied(self, value: Any, depth: int, line: int, path: str) -> Any:
        """A copy of an anchored value: two places in a file never share one object."""
        self.count(1, line, path)
        if depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels", line, path)
        if isinstance(value, dict):
            return {key: self.copied(item, depth + 1, line, path) for key, item in value.items()}
        if isinstance(value, list):
            return [self.copied(item, depth + 1, line, path) for item in value]
        return value

    def count(self, values: int, line: int, path: str) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            self.fail(f"more than {MAX_VALUES:,} values, aliases expanded", line, path)

    def scalar(self, event: yaml.ScalarEvent, path: str) -> Any:
        text = str(event.value)
        value = self.plain(text, path, _line(event)) if event.implicit[0] else text
        if event.anchor:
            self.anchors[event.anchor] = value
        return value

    def plain(self, text: str, path: str, line: int) -> str | int | float | bool | None:
        if text in _NULL:
            return None
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        if _INT.fullmatch(text):
            if len(text) > _MAX_INT_DIGITS:
                self.fail(f"a number of more than {_MAX_INT_DIGITS} digits", line, path)
            prefix = text[:2]
            return int(text, {"0o": 8, "0x": 16}[prefix]) if prefix in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                self.fail(f"the number {text[:40]} is too large", line, path)
            return number
        if _NOT_FINITE.fullmatch(text):
            self.fail(f"{text} is not a finite number", line, path)
        return text


def parse(text: str, name: str) -> Document:
    """The one document in `text`; raises `CampaignFileError` with `name`, line and key."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise CampaignFileError(f"larger than {MAX_BYTES:,} bytes", file=name, line=None, key=None)
    builder = _Builder(name)
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        builder.fail(f"not valid YAML: {said}", mark.line + 1 if mark is not None else None)
    except yaml.YAMLError as error:
        builder.fail(f"not valid YAML: {str(error).splitlines()[0]}", None)
    except UnicodeError:
        builder.fail("not valid UTF-8 text", None)
    return Document(builder.root, builder.lines)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _events(text: str) -> Iterator[yaml.Event]:
    events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
    return events
