"""What the runner is doing right now, as other threads may read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lem_runner.protocol import Phase


@dataclass(frozen=True)
class Moment:
    """One consistent view. Counters run from the start of the attempt, warm-up included."""

    phase: Phase = "idle"
    attempt: str = ""
    batches: int = 0
    tokens_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """The data of an `alive` event."""
        return {"phase": self.phase, "batches": self.batches, "tokens_out": self.tokens_out}


class Progress:
    """Written by the main thread alone; readers take `now` once and have a view that does not change."""

    def __init__(self) -> None:
        self.now = Moment()

    def begin(self, attempt: str) -> None:
        """A new attempt: the counters start at zero."""
        self.now = Moment(attempt=attempt)

    def enter(self, phase: Phase) -> None:
        """Go to another phase of the same attempt."""
        self.now = replace(self.now, phase=phase)

    def end(self) -> None:
        """No attempt is under way."""
        self.now = Moment()

    def count(self, batches: int, tokens_out: int) -> None:
        """So many since the start of the attempt, as others have counted them."""
        self.now = replace(self.now, batches=batches, tokens_out=tokens_out)

    def add_batch(self, tokens_out: int) -> None:
        """One more batch done."""
        now = self.now
        self.now = replace(now, batches=now.batches + 1, tokens_out=now.tokens_out + tokens_out)
