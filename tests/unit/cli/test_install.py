"""`lemctl daemon install`."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Lemctl

from lemctl.paths import Home


def test_a_users_unit_is_written_where_systemd_looks_without_addresses(
    lemctl: Lemctl, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LEM_NOTIFY", "json://user:secret@host")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    said = lemctl("daemon", "install", "--user")
    assert said.code == 0
    path = tmp_path / "config" / "systemd" / "user" / "lemctl.service"
    text = path.read_text()
    assert f"wrote {path}" in said.out
    assert "systemctl --user daemon-reload && systemctl --user enable --now lemctl" in said.out
    assert "loginctl enable-linger" in said.out
    assert f'"LEM_HOME={home.root}"' in text
    assert "LEM_EXECUTOR=local" in text
    assert "secret" not in text
    assert f"put it into {home.notify / 'LEM_NOTIFY'}" in said.err
    assert lemctl("daemon", "install", "--user").code == 0, "written anew"


def test_somebody_elses_unit_is_left_alone(
    lemctl: Lemctl, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "systemd" / "user" / "mine.service"
    path.parent.mkdir(parents=True)
    path.write_text("[Unit]\n")
    said = lemctl("daemon", "install", "--user", "--name", "mine")
    assert said.code == 2
    assert "not of lemctl's making" in said.err
    assert path.read_text() == "[Unit]\n"
    assert lemctl("daemon", "install", "--name", "../x").code == 2


def test_a_unit_can_be_shown_without_being_written(
    lemctl: Lemctl, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    said = lemctl("daemon", "install", "--user", "--print")
    assert said.out.count("[Service]") == 1
    assert list(tmp_path.glob("systemd/**/*")) == []
