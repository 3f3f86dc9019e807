"""A canary: secrets that turn up in one place only, the one where a person put them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lemctl.daemon import process
from lemctl.engines.processes import processes_on
from lemctl.paths import Home
from letterbox import SECRET, letterbox
from night import Night, campaign_text

TOKEN = "hf_CanaryThatMustNotSing"
#: Fails, prints its environment where it can, and ends: a night in which much is written.
BAD = campaign_text(
    "bad", cycles=2, engine="fault: error", more="retry: {max: 0}\nnotify: {urls_from: LEM_NOTIFY_T, on: [finished]}"
)
LONG = campaign_text("long", more="notify: {urls_from: LEM_NOTIFY_T, on: [finished]}").replace(
    "decode_ms_per_token: 1.0", "decode_ms_per_token: 200"
)


def singing(folder: Path) -> list[str]:
    """Files that hold a secret."""
    held = [(path, path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path, text in held if TOKEN.encode() in text or SECRET.encode() in text]


def open_to_others(home: Home) -> list[str]:
    """What the host's other users could read if the state folder itself were open; what containers need is left out."""
    shared = {home.sessions, home.prompts, home.runner, home.root / "models"}
    files = [p for p in home.root.rglob("*") if not shared & {p, *p.parents}]
    return [f"{p} {p.stat().st_mode & 0o777:o}" for p in files if p.stat().st_mode & 0o077]


def test_no_secret_is_in_the_state_folder_nor_with_any_process(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    with letterbox() as box:
        box.refuses = box.hangs = True
        for name, value in {**night.variables(), "HF_TOKEN": TOKEN, "LEM_NOTIFY_T": box.address}.items():
            monkeypatch.setenv(name, value)
        night.add(BAD)
        night.add(LONG)
        pid = process.spawn(night.settings)
        night.wait_for(lambda: "Running" in night.statuses("long"), "the long run")
        runner = night.runner_pid()
        assert TOKEN.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        found = Path(f"/proc/{runner}/environ").read_bytes()
        assert TOKEN.encode() not in found
        assert SECRET.encode() not in found
        night.wait_for(lambda: box.tries > 0, "a sending")
        commands = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
        assert any("lemctl.daemon.sender" in command for command in commands), "the one that knows the address"
        assert not [command for command in commands if TOKEN in command or SECRET in command]
        box.hangs = False
        night.wait_campaign(name="long")
        night.wait_for(lambda: bool(night.rows("SELECT 1 FROM outbox WHERE error IS NOT NULL")), "the refusal", 60)
        night.ask("shutdown")
        night.wait_for(lambda: process.holder(night.home) is None, "the daemon's end")
    night.audit()
    assert singing(night.home.root) == []
    assert open_to_others(night.home) == []
    assert night.home.root.stat().st_mode & 0o777 == 0o700
    assert processes_on(night.home.sessions) == []
    for words in (["report", "bad"], ["status", "--json"], ["campaign", "show", "bad", "--json"], ["doctor"]):
        said = subprocess.run(
            [sys.executable, "-m", "lemctl.cli.main", *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert TOKEN not in said.stdout + said.stderr
        assert SECRET not in said.stdout + said.stderr


def test_a_crash_of_the_command_line_keeps_no_secret(tmp_path: Path) -> None:
    """Its traceback is kept, with the words of the command line; whatever they hold."""
    home = tmp_path / "home"
    (home / "logs").mkdir(parents=True)
    program = (
        "import sys, os; from lemctl.cli import main, mishap\n"
        f"sys.exit(mishap.explain(RuntimeError('refused: {TOKEN} and {SECRET}'), False))"
    )
    environment = {**os.environ, "LEM_HOME": str(home), "HF_TOKEN": TOKEN, "LEM_NOTIFY": f"json://x/{SECRET}"}
    said = subprocess.run(
        [sys.executable, "-c", program, TOKEN], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert said.returncode == 1
    assert "internal error: RuntimeError: refused: *** and ***" in said.stderr
    assert singing(home) == []
    (kept,) = (home / "logs").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
