"""`lemctl report --html` as a command: where it writes, and what it says where it cannot."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from build import Night
from command_line import Lemctl


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_file_is_named_after_the_campaign(lived_in: Night, lemctl: Lemctl, tmp_path: Path) -> None:
    said = lemctl("report", "demo", "--html")
    assert (said.code, said.out) == (0, "demo.html\n")
    text = (tmp_path / "demo.html").read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert 'http-equiv="Content-Security-Policy"' in text
    assert len(text) < 1_200_000


def test_without_the_packages_one_line_says_how_to_get_them(
    lived_in: Night, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "vl_convert":
            raise ImportError(f"No module named {name!r}", name=name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    said = lemctl("report", "demo", "--html")
    assert said.code == 4
    assert "pip install 'lemctl[report]'" in said.err
    assert said.err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_named(lived_in: Night, lemctl: Lemctl) -> None:
    said = lemctl("report", "demo", "--html", "-o", "missing/r.html")
    assert said.code == 2
    assert "missing/r.html cannot be written" in said.err


def test_output_without_html_is_refused(lived_in: Night, lemctl: Lemctl) -> None:
    said = lemctl("report", "-o", "x.csv")
    assert said.code == 2
    assert "--html" in said.err
