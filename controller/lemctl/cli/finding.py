"""One finding of `lemctl doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lemctl.errors import page

#: Checks of several things under one heading: `image vllm`, `disk of docker`.
_FAMILIES = ("caution", "disk", "engine", "image")


@dataclass(frozen=True)
class Check:
    """What was looked at and found. A failed check that is not needed is a note: campaigns run without it."""

    name: str
    is_ok: bool
    detail: str
    fix: str = ""
    is_needed: bool = True

    @property
    def word(self) -> Literal["OK", "FAIL", "NOTE"]:
        """What stands before it."""
        return "OK" if self.is_ok else "FAIL" if self.is_needed else "NOTE"

    @property
    def anchor(self) -> str:
        """Where the page of troubles says more of it."""
        first, *_ = words = self.name.lower().split()
        return f"check-{first if first in _FAMILIES else '-'.join(words)}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "name": self.name,
            "result": self.word,
            "detail": self.detail,
            "fix": self.fix or None,
            "page": page(self.anchor),
        }
