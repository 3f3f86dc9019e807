"""The tutorial on the CPU is followed literally: every block, in one shell, as the page has them, in a fresh folder."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "cpu.md"
PYTHON = ROOT / ".venv-pytorch" / "bin" / "python"
TIMEOUT_S = 240
#: Stands for anything: in a line for a part of it, alone for any number of lines.
ANYTHING = "…"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not PYTHON.exists(), reason="`make engine-venv` makes the interpreter"),
]


@dataclass(frozen=True)
class Block:
    """What a reader types, and what the page says comes of it."""

    typed: str
    shown: str | None


def blocks(text: str) -> list[Block]:
    """Every `sh` block of a page, each with the `output` block that follows it, if one does."""
    found: list[Block] = []
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if language == "sh":
            found.append(Block(body, None))
        elif language == "output":
            assert found[-1].shown is None, f"two outputs of one block:\n{body}"
            found[-1] = Block(found[-1].typed, body)
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """What an `output` block matches."""
    lines = [
        r"(?:.*\n)*?" if line == ANYTHING else ".*".join(map(re.escape, line.split(ANYTHING))) + r"[ \t]*\n"
        for line in shown.splitlines()
    ]
    return re.compile("".join(lines))


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A reader's shell: a home of its own, none of the caller's settings, and the cache that holds the engine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEM_", "MAKE", "COV"))}
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    yield {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": cache}
    state = tmp_path / "lem-tutorial" / "state"
    stop = [str(ROOT / ".venv" / "bin" / "lemctl"), "--home", str(state), "daemon", "stop"]
    if state.exists():
        subprocess.run(stop, check=False, capture_output=True, timeout=TIMEOUT_S)


def test_every_block_does_what_the_page_says(environment: dict[str, str], tmp_path: Path) -> None:
    told = blocks(PAGE.read_text("utf-8"))
    assert len(told) >= 12
    said = [tmp_path / f"said-{number}.txt" for number in range(len(told))]
    steps = [f"exec >'{file}' 2>&1\n{block.typed}" for file, block in zip(said, told, strict=True)]
    script = "set -euo pipefail\n" + "".join(steps)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    last = [file for file in said if file.exists()][-1]
    assert done.returncode == 0, f"{last.name}:\n{last.read_text()}{done.stderr}"
    for block, file in zip(told, said, strict=True):
        if block.shown is not None:
            text = file.read_text("utf-8")
            assert pattern(block.shown).fullmatch(text), f"{block.typed}\nsaid\n{text}\nand not\n{block.shown}"


def test_an_output_that_differs_is_found() -> None:
    shown = "a … c\n…\nend\n"
    assert pattern(shown).fullmatch("a b c\n1\n2\nend\n")
    assert not pattern(shown).fullmatch("a b d\nend\n")
    assert not pattern(shown).fullmatch("a b c\nend\nmore\n")
