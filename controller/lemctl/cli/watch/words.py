"""A text on the live screen that costs nothing while it stays the same."""

from __future__ import annotations

from textual.widgets import Static


class Words(Static):
    """Plain text. It is drawn anew when it changes, and laid out anew only when its number of lines does."""

    def __init__(self, text: str = "", *, id: str | None = None, classes: str | None = None):
        super().__init__(text, id=id, classes=classes, markup=False)
        self.text = text

    def say(self, text: str) -> None:
        """Put another text into its place."""
        if text != self.text:
            has_moved = self.text.count("\n") != text.count("\n") or not self.text
            self.text = text
            self.update(text, layout=has_moved)
