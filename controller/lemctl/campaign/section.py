"""What every mapping of a campaign file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of the file: no other keys, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
