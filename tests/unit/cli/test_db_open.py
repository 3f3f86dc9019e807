"""`db open`: Datasette if it is installed, read-only either way."""

from __future__ import annotations

from pathlib import Path

import pytest
from build import Night
from command_line import Lemctl

from lemctl.cli import db


@pytest.mark.parametrize(("installed", "chosen"), [(("datasette", "sqlite3"), "datasette"), (("sqlite3",), "sqlite3")])
def test_the_best_browser_that_is_there_takes_over(
    lived_in: Night, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], chosen: str
) -> None:
    began: list[list[str]] = []
    monkeypatch.setattr(db, "is_terminal", lambda: True)
    monkeypatch.setattr(db.shutil, "which", lambda name: f"/bin/{name}" if name in installed else None)
    monkeypatch.setattr(db.os, "execv", lambda path, words: began.append([path, *words]))
    lemctl("db", "open")
    assert began[0][:2] == [f"/bin/{chosen}", chosen]
    assert any(word.endswith("lem.db") for word in began[0])


def test_nothing_that_is_live_is_called_immutable(tmp_path: Path) -> None:
    commands = db.browsers(str(tmp_path / "lem.db"))
    assert "-readonly" in commands[1]
    assert not any("immutable" in word for command in commands for word in command)


def test_without_a_terminal_the_path_is_printed(lived_in: Night, lemctl: Lemctl) -> None:
    said = lemctl("db", "open")
    assert said.code == 0
    assert said.out.strip().endswith("lem.db")
