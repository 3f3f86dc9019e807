"""The console entry: what it loads, how it ends, and what a person reads when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from build import Night
from command_line import Lemctl

from lemctl import errors
from lemctl.cli import main, terminal
from lemctl.cli.mishap import explain
from lemctl.cli.nouns import NOUNS
from lemctl.paths import Home

HEAVY = ("typer", "pydantic", "rich", "yaml", "sqlite3", "structlog")


def loaded_by(*words: str) -> set[str]:
    """The heavy modules that are imported once the command has run."""
    program = (
        "import json, sys; from lemctl.cli.main import run; code = run(sys.argv[1:]);"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules])); sys.exit(code)"
    )
    said = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return set(json.loads(said.stdout.splitlines()[-1]))


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(word: str) -> None:
    assert loaded_by(word) == set()


def test_status_loads_nothing_but_the_database(lived_in: Night) -> None:
    assert loaded_by("status") == {"sqlite3"}


def test_the_overview_names_every_command(lemctl: Lemctl) -> None:
    said = lemctl("--help")
    assert said.code == 0
    for name in NOUNS:
        assert f"\n  {name} " in said.out


@pytest.mark.parametrize("name", sorted(NOUNS))
def test_every_command_has_help_that_is_not_cut_short(
    lemctl: Lemctl, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    said = lemctl(name, "--help")
    assert said.code == 0
    assert f"Usage: lemctl {name}" in said.out
    assert "...\n" not in said.out.split("Commands:")[-1]


def test_a_mistyped_command_is_answered_with_the_nearest(lemctl: Lemctl) -> None:
    said = lemctl("campain", "list")
    assert said.code == 2
    assert "did you mean campaign?" in said.err


def test_a_mistyped_option_is_one_line_without_a_traceback(lemctl: Lemctl) -> None:
    said = lemctl("campaign", "list", "--jsn")
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert "--json" in said.err


def test_a_number_that_is_none_is_refused_in_one_line(lemctl: Lemctl) -> None:
    said = lemctl("logs", "first")
    assert said.code == 2
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CampaignFileError("wrong", file="a.yaml", line=3, key="cycles"), 2),
        (errors.UsageMistake("wrong"), 2),
        (errors.RunsFailed("two failed"), 3),
        (errors.PreflightRefused("no image"), 4),
        (errors.Locked("held"), 5),
        (errors.NoDaemon("none"), 6),
        (errors.NotFound("none"), 7),
        (errors.OutsideHours("closed"), 75),
        (errors.StoreUnusable("corrupt"), 4),
        (errors.DiskFull("full"), 4),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(error, is_verbose=False) == code
    said = capsys.readouterr().err
    assert said.startswith(f"lemctl: {error}")
    assert len(said.splitlines()) == 1


def test_an_internal_error_says_where_its_traceback_lies(
    home: Home, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.create()
    monkeypatch.setattr(main, "overview", lambda: 1 // 0)
    said = lemctl("--help")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "Traceback" not in said.err
    place = home.logs / "lemctl-errors.log"
    assert str(place) in said.err
    assert "ZeroDivisionError" in place.read_text()


def test_verbose_shows_the_traceback(home: Home, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "overview", lambda: 1 // 0)
    assert "Traceback" in lemctl("-v", "--help").err


def test_ctrl_c_ends_with_130(lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "overview", interrupted)
    assert lemctl("--help").code == 130


def test_a_reader_that_goes_away_is_no_error(lived_in: Night, home: Home) -> None:
    command = [sys.executable, "-m", "lemctl.cli.main", "results", "export", "--all"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(), said) == (0, b"")


def test_quiet_silences_chatter_and_keeps_results(lived_in: Night, lemctl: Lemctl) -> None:
    loud, quiet = lemctl("logs", "2"), lemctl("logs", "2", "-q")
    assert "run 2, attempt 1" in loud.out
    assert "run 2, attempt 1" not in quiet.out
    assert "device-side assert" in quiet.out


def test_no_colour_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.styled("OK", "green") == "OK"


def test_colour_on_a_terminal_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.styled("OK", "green") == "\033[32mOK\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.styled("OK", "green") == "OK"


def test_home_before_the_command_chooses_the_state_folder(lemctl: Lemctl, tmp_path: Path) -> None:
    said = lemctl("--home", str(tmp_path / "other"), "status")
    assert str(tmp_path / "other") in said.out


def test_completion_knows_the_commands() -> None:
    environment = {**os.environ, "_LEMCTL_COMPLETE": "complete_bash", "COMP_WORDS": "lemctl cam", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "lemctl.cli.main"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert said.stdout.split() == ["campaign"]
