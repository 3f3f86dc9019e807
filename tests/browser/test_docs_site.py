"""The site with all of its pictures, as `make docs-site` builds it where there is a browser."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conftest import browser_path

pytestmark = pytest.mark.browser

REPO = Path(__file__).parents[2]
TIMEOUT_S = 240
#: What every picture of a terminal must show, whatever else: words of the campaign that was simulated for it.
SHOWN = {
    "plan": "lemctl campaign plan",
    "status": "lemctl status",
    "report": "lemctl report",
    "run": "lemctl results show",
    "watch": "night",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page of screens."""
    site = tmp_path_factory.mktemp("site")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEM_")}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(
        command,
        cwd=REPO,
        env=kept | {"LEM_CHROMIUM": browser_path()},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return site / "explanation"


def test_the_picture_of_the_report_is_one_of_a_whole_page(pictures: Path) -> None:
    content = (pictures / "html.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1280, 1600)
    # An empty page of that size is 8 kB: tables and plots are drawn.
    assert len(content) > 60_000
    page = (pictures / "screens.html").read_text("utf-8")
    assert 'src="html.png"' in page
    assert "No Chromium was found" not in page


@pytest.mark.parametrize("name", SHOWN)
def test_the_pictures_of_the_terminal_show_what_was_typed(name: str, pictures: Path) -> None:
    drawn = ElementTree.fromstring((pictures / f"{name}.svg").read_text("utf-8"))
    text = " ".join("".join(drawn.itertext()).split())
    assert SHOWN[name] in text.replace("\xa0", " ")
    assert "internal error" not in text
