"""`lemctl doctor`: a fault is found, needed ones end with 4, and each has its remedy."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from build import Night
from command_line import PLAN, Lemctl

from lemctl.paths import Home


def results(lemctl: Lemctl, *words: str) -> tuple[int, dict[str, dict[str, str]]]:
    said = lemctl("doctor", "--json", *words)
    return said.code, {check["name"]: check for check in json.loads(said.out)["checks"]}


def test_a_sound_host_is_fit(lived_in: Night, lemctl: Lemctl) -> None:
    code, found = results(lemctl)
    assert code == 0
    for name in ("python", "state folder", "disk", "database", "daemon", "lock folder", "clock", "engine replay"):
        assert found[name]["result"] == "OK", found[name]


def test_a_corrupt_database_is_a_fault_with_a_remedy(lived_in: Night, home: Home, lemctl: Lemctl) -> None:
    lived_in.close()
    home.database.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    code, found = results(lemctl)
    assert (code, found["database"]["result"]) == (4, "FAIL")
    assert str(home.backups) in found["database"]["fix"]


def test_a_state_folder_that_others_can_read_is_a_fault(
    home: Home, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Home, "create", lambda self: self.root.mkdir(parents=True, exist_ok=True))
    home.create()
    home.root.chmod(0o755)
    code, found = results(lemctl)
    assert (code, found["state folder"]["result"]) == (4, "FAIL")
    assert found["state folder"]["fix"] == f"chmod 700 {home.root}"


def test_too_little_disk_is_a_fault(lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_MIN_FREE_DISK_MB", "999999999")
    code, found = results(lemctl)
    assert (code, found["disk"]["result"]) == (4, "FAIL")


@pytest.mark.parametrize("words", [("doctor",), ("campaign", "start", "night.yaml")])
def test_the_first_look_at_the_lock_folder_locks_no_other_user_out(
    lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.yaml").write_text(PLAN)
    umask = os.umask(0o077)
    try:
        lemctl(*words)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o1777


def test_an_interpreter_that_does_not_run_is_noted(
    lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEM_PYTHON_REPLAY", str(tmp_path / "python"))
    _, found = results(lemctl)
    assert found["engine replay"]["result"] == "NOTE"
    assert "LEM_PYTHON_REPLAY" in found["engine replay"]["fix"]


def test_without_docker_the_docker_executor_is_a_fault(
    lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    code, found = results(lemctl, "--executor", "docker")
    assert (code, found["docker"]["result"]) == (4, "FAIL")
    assert "--executor local" in found["docker"]["fix"]


def test_each_fault_in_the_text_is_followed_by_its_fix(lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_MIN_FREE_DISK_MB", "999999999")
    lines = lemctl("doctor").out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("FAIL  disk"))
    assert lines[place + 1].strip().startswith("fix: ")
