"""`lemctl notify test`, and a start whose notifications could not arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import PLAN, Lemctl

from lemctl.paths import Home
from letterbox import SECRET, Letterbox, letterbox


@pytest.fixture
def box() -> Iterator[Letterbox]:
    with letterbox() as made:
        yield made


def test_a_test_message_arrives(lemctl: Lemctl, box: Letterbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_NOTIFY", box.address)
    said = lemctl("notify", "test")
    assert (said.code, said.out) == (0, "LEM_NOTIFY: delivered to 1 of 1 addresses\n")
    assert box.letters[0]["message"] == "This is a test of lemctl's notifications."


def test_a_refused_test_message_exits_4_without_the_address(
    lemctl: Lemctl, box: Letterbox, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.refuses = True
    home.create()
    path = home.notify / "LEM_NOTIFY_TEAM"
    path.write_text(f"# on call\n{box.address} # a remark\n")
    path.chmod(0o600)
    said = lemctl("notify", "test", "LEM_NOTIFY_TEAM")
    assert said.code == 4
    assert "LEM_NOTIFY_TEAM: address 1 of 1: " in said.err
    assert SECRET not in said.err + said.out


@pytest.mark.parametrize(
    ("mode", "content", "words"),
    [
        (None, "", "put addresses (see https://github.com/caronc/apprise) into"),
        (0o644, "json://localhost", "chmod 600"),
        (0o600, "# nothing\n", "holds 0 addresses"),
        (0o600, "json://h " * 21, "holds 21 addresses"),
    ],
)
def test_addresses_that_cannot_be_had_are_said_and_refuse_a_start(
    lemctl: Lemctl, home: Home, tmp_path: Path, mode: int | None, content: str, words: str
) -> None:
    home.create()
    if mode is not None:
        path = home.notify / "LEM_NOTIFY"
        path.write_text(content)
        path.chmod(mode)
    said = lemctl("notify", "test")
    assert said.code == 4
    assert words in said.err
    file = tmp_path / "campaign.yaml"
    file.write_text(PLAN + "notify: {urls_from: LEM_NOTIFY}\n")
    started = lemctl("campaign", "start", str(file))
    assert started.code == 4
    assert words in started.err
    assert not home.database.exists()


def test_a_campaign_can_name_no_other_secret(lemctl: Lemctl, tmp_path: Path) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(PLAN + "notify: {urls_from: HF_TOKEN}\n")
    said = lemctl("campaign", "plan", str(file))
    assert said.code == 2
    assert "notify.urls_from" in said.err
    assert lemctl("notify", "test", "HF_TOKEN").code == 4
