"""Plain tables of text: columns aligned, figures to the right, no lines drawn, nothing cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from unicodedata import combining

Paint = Callable[[int, int, str], str]


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), paint: Paint | None = None
) -> str:
    """The table; `right` lists the columns that are figures. `paint(row, column, padded)` may add colour."""
    widths = [max(map(_width, column)) for column in zip(header, *rows, strict=True)]

    def line(number: int, cells: Sequence[str]) -> str:
        shown = []
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            blank = " " * (width - _width(cell))
            padded = blank + cell if column in right else cell + blank
            shown.append(paint(number, column, padded) if paint and number >= 0 else padded)
        return "  ".join(shown).rstrip()

    return "\n".join([line(-1, header), *(line(number, row) for number, row in enumerate(rows))])


def clipped(text: str, width: int) -> str:
    """One line of at most `width` characters, with an ellipsis where something was left out."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: max(0, width - 1)] + "…"


def narrowed(header: Sequence[str], rows: Sequence[Sequence[str]], column: int, width: int | None) -> list[list[str]]:
    """The rows with one column clipped so that the table has `width` characters; at least 8 of it stay."""
    if width is None:
        return [list(row) for row in rows]
    others = [max(_width(row[place]) for row in [header, *rows]) for place in range(len(header)) if place != column]
    room = max(8, width - sum(others) - 2 * (len(header) - 1))
    return [[*row[:column], clipped(row[column], room), *row[column + 1 :]] for row in rows]


def is_too_wide(header: Sequence[str], rows: Sequence[Sequence[str]], column: int, width: int | None) -> bool:
    """Whether even `narrowed` cannot bring the table into `width` characters."""
    lines = table(header, narrowed(header, rows, column, width)).splitlines()
    return width is not None and max(map(_width, lines)) > width


def _width(text: str) -> int:
    return sum(not combining(character) for character in text)
