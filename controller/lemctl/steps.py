"""How far a long work is: told by whoever does it, shown by the command line, unheard of by everybody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from lemctl.lines import size

T = TypeVar("T")

BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done; `done` and `total` count `unit`, None while unknown."""

    what: str
    done: int | None = None
    total: int | None = None
    unit: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.what, self.amount)))

    @property
    def amount(self) -> str:
        """`3 of 12 runs`, `1.2 MB of 4.0 GB`, `12,000 rows`; empty where nothing is counted."""
        if self.done is None:
            return ""
        shown = [
            size(count) if self.unit == BYTES else f"{count:,}"
            for count in (self.done, self.total)
            if count is not None
        ]
        return " of ".join(shown) + (f" {self.unit}" if self.unit and self.unit != BYTES else "")


#: Whom a long work tells how far it is. Called often: it costs next to nothing.
Tell = Callable[[Step], None]


def unheard(step: Step) -> None:
    """Nobody looks."""


def counted(rows: Iterable[T], tell: Tell, what: str, unit: str, total: int | None = None) -> Iterator[T]:
    """The same rows, told one by one."""
    for number, row in enumerate(rows):
        tell(Step(what, number, total, unit))
        yield row
