"""The live screen of a campaign that is under way, in a real terminal: each view of it is the golden one.

`LEM_UPDATE_GOLDEN=1 pytest tests/daemon/test_live_under_way.py` writes the screens anew; the diff is then looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lemctl.paths import Home
from live_screen import terminal, wait_until
from needed import needs
from under_way import under_way

GOLDEN = Path(__file__).parents[1] / "golden" / "watch"
#: View -> the keys that lead to it from the one before; those of one text are typed faster than the screen can follow.
VIEWS = {
    "under-way": (),
    "another-gpu": ("g",),
    "last-runs": ("v",),
    "log": ("v",),
    "filter": ("v", "/ s i z e = 8"),
    "filter-without-a-hit": ("/ s",),
    "question": ("Escape", "c"),
    "question-left": ("Escape",),
}
#: A screen that stays the same for so long is drawn: it looks at the database every two seconds.
STANDS_S = 3.0

pytestmark = [pytest.mark.slow, pytest.mark.alone, needs("tmux")]


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60)])
def test_each_view_of_a_campaign_under_way_is_the_golden_one(tmp_path: Path, columns: int, lines: int) -> None:
    home = Home(tmp_path / "home")
    with under_way(home), terminal(home, columns, lines) as screen:
        wait_until(lambda: "under way" in screen() and "leave" in screen(), "the screen")
        for view, keys in VIEWS.items():
            for burst in keys:
                press(screen, burst)
            golden = GOLDEN / f"{view}-{columns}x{lines}.txt"
            if os.environ.get("LEM_UPDATE_GOLDEN"):
                golden.write_text(standing(screen) + "\n")
            wanted = golden.read_text().rstrip("\n")
            wait_until(lambda wanted=wanted: screen().rstrip("\n") == wanted, f"the golden {golden.name}", screen)
        wait_until(lambda: screen("q") == "", "the end of the screen")


def press(screen: Callable[..., str], burst: str) -> None:
    """Keys with spaces between them; what they do is to be seen on the screen."""
    before = screen()
    screen(*burst.split())
    wait_until(lambda: screen() != before, f"what {burst} does")


def standing(screen: Callable[..., str]) -> str:
    """What is on the screen once nothing moves any more."""
    before, since_s = screen(), time.monotonic()
    while time.monotonic() - since_s < STANDS_S:
        time.sleep(0.2)
        if (now := screen()) != before:
            before, since_s = now, time.monotonic()
    return before.rstrip("\n")
