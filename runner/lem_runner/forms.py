"""What of a row is a prompt, and which rows count: the column, found or named, and the filters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lem_runner.datasets import DataError, Row, read_rows

#: Looked for in this order where no column is named.
PROMPT_COLUMNS = ("prompt", "text", "question", "instruction", "problem", "query", "messages", "conversations")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Form:
    """How prompts are read from rows.

    `form`: `choices` puts the lettered `choices` below a `question`; `system` puts the `system_prompt` before it; None
    takes one column. A column named `instruction` is joined with a filled `input` beside it, as data sets of that form
    mean it; of a column of messages the first turn of the user is taken. `where`: column -> the value it must have, or
    a list of them.
    """

    column: str | None = None
    form: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)

    def prompt(self, path: Path, row: Row) -> str | None:
        """The prompt of a row, None for one that the filters leave out. Raises `DataError` where it has none."""
        place, value = row
        if isinstance(value, str) and self.column is None and self.form is None and not self.where:
            return value
        if not isinstance(value, dict):
            raise DataError(f"{path}: {place}: a string or an object is needed, found {type(value).__name__}")
        for name, allowed in self.where.items():
            if name not in value:
                raise DataError(f"{path}: {place}: no column {name} to filter by ({_has(value)})")
            if str(value[name]) not in map(str, allowed if isinstance(allowed, list) else [allowed]):
                return None
        if self.form is not None:
            return _FORMS[self.form](path, place, value)
        return self._column(path, place, value)

    def columns(self) -> set[str] | None:
        """All that is asked of a row, None where that depends on the row."""
        asked = {None: {self.column, "input"} if self.column == "instruction" else {self.column}, **_ASKED}[self.form]
        return None if None in asked else {str(name) for name in asked} | set(self.where)

    def _column(self, path: Path, place: str, value: Mapping[str, Any]) -> str:
        wanted = PROMPT_COLUMNS if self.column is None else (self.column,)
        for name in wanted:
            text = _text_of(value.get(name))
            if text is not None:
                extra = value.get("input")
                joined = name == "instruction" and isinstance(extra, str) and extra.strip()
                return f"{text}\n\n{extra}" if joined else text
        raise DataError(f"{path}: {place}: no column {' or '.join(wanted)} with text ({_has(value)})")


def prompts_of(paths: Iterable[Path], form: Form) -> Iterator[str]:
    """Every prompt of these files in their order, blank ones left out."""
    for path in paths:
        for row in read_rows(path, form.columns()):
            prompt = form.prompt(path, row)
            if prompt is not None and prompt.strip():
                yield prompt


def _text_of(value: Any) -> str | None:
    """A text, or the first turn of the user in a list of messages."""
    if isinstance(value, str):
        return value
    for turn in value if isinstance(value, list) else ():
        if isinstance(turn, dict) and (turn.get("role") or turn.get("from")) in ("user", "human"):
            said = turn.get("content", turn.get("value"))
            return said if isinstance(said, str) else None
    return None


def _choices(path: Path, place: str, value: Mapping[str, Any]) -> str:
    question, choices = value.get("question"), value.get("choices")
    if not isinstance(question, str) or not isinstance(choices, list) or not 0 < len(choices) <= len(LETTERS):
        raise DataError(f"{path}: {place}: no columns question and choices ({_has(value)})")
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question, *lines, "Answer:"])


def _system(path: Path, place: str, value: Mapping[str, Any]) -> str:
    system, question = value.get("system_prompt"), value.get("question")
    if not isinstance(question, str):
        raise DataError(f"{path}: {place}: no column question with text ({_has(value)})")
    return f"{system}\n\n{question}" if isinstance(system, str) and system.strip() else question


def _has(value: Mapping[str, Any]) -> str:
    return f"it has {', '.join(str(name) for name in value) or 'nothing'}"


_FORMS = {"choices": _choices, "system": _system}
_ASKED: dict[str | None, set[str | None]] = {
    "choices": {"question", "choices"},
    "system": {"system_prompt", "question"},
}
