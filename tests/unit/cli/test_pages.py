"""The pages that people write by hand: their campaign files are valid, their commands exist, the site builds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Lemctl

REPO = Path(__file__).parents[3]
DOCS = REPO / "docs"
WRITTEN = sorted(
    path
    for path in [*DOCS.rglob("*.md"), REPO / "README.md"]
    if path.parent.name not in ("reference", "decisions") and path.name != "LOG.md"
)
TIMEOUT_S = 240


def fenced(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO))


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_every_campaign_of_a_page_is_valid(path: Path, tmp_path: Path, lemctl: Lemctl) -> None:
    for number, text in enumerate(fenced(path, "yaml")):
        if not text.startswith("name:"):
            continue
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        said = lemctl("config", "validate", str(file))
        assert said.code == 0, f"{said.err}\n{text}"


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_every_command_and_option_of_a_page_exists(path: Path, lemctl: Lemctl) -> None:
    lines = [line for text in fenced(path, "sh") for line in text.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(lemctl [^`]+)`", path.read_text("utf-8"))
    typed = [line for line in (*lines, *inline) if line.startswith("lemctl ")]
    pages: dict[str, str] = {}
    for line in typed:
        words = shlex.split(line, comments=True)[1:]
        while words and words[0].startswith("-"):
            words = words[2:] if words[0] == "--home" else []
        command = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
        if not command:
            continue
        key = " ".join(command)
        if key not in pages:
            said = lemctl(*command, "--help")
            assert said.code == 0, line
            pages[key] = said.out
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{re.escape(option)}(?![\w-])", pages[key]), f"{option} of {line}"


def test_every_make_target_of_a_page_exists() -> None:
    makefile = (REPO / "Makefile").read_text("utf-8")
    named = {
        target
        for path in WRITTEN
        for target in re.findall(r"(?:^|`)make ([a-z][a-z-]+)", path.read_text("utf-8"), re.M)
    }
    assert len(named) > 3
    assert {target for target in named if f"\n{target}:" not in makefile} == set()


def test_the_site_builds_without_a_network_and_without_a_browser(tmp_path: Path) -> None:
    """Strict: a link or an anchor that leads nowhere ends the build. Nothing on it is fetched from elsewhere."""
    nowhere = tmp_path / "bin"
    nowhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEM_")}
    environment |= {"PATH": str(nowhere), "http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fetched = re.compile(rb"""(?:src=|<link[^>]+href=|url\()["']?(?:https?:)?//""")
    for page in (*site.rglob("*.html"), *site.rglob("*.svg")):
        assert not fetched.search(page.read_bytes()), page.name
    screens = (site / "explanation" / "screens.html").read_text("utf-8")
    assert "No Chromium was found" in screens
    for name in ("plan", "status", "report", "run", "watch"):
        assert f'src="{name}.svg"' in screens
        assert (site / "explanation" / f"{name}.svg").stat().st_size > 5000
