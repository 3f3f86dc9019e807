"""A canary: secrets that turn up in one place only, the one where a person put them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from canary import command_lines, commands_that_know, files_with
from hub_server import Hub, Repository, serving
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
        commands = command_lines()
        assert any("lemctl.daemon.sender" in command for command in commands), "the one that knows the address"
        assert not [command for command in commands if TOKEN in command or SECRET in command]
        box.hangs = False
        night.wait_campaign(name="long")
        night.wait_for(lambda: bool(night.rows("SELECT 1 FROM outbox WHERE error IS NOT NULL")), "the refusal", 60)
        night.ask("shutdown")
        night.wait_for(lambda: process.holder(night.home) is None, "the daemon's end")
    night.audit()
    assert files_with(night.home.root, TOKEN, SECRET) == []
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
    assert files_with(home, TOKEN, SECRET) == []
    (kept,) = (home / "logs").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


ENGINE_PYTHON = Path(
    os.environ.get("LEM_PYTHON_PYTORCH", str(Path(__file__).parents[2] / ".venv-pytorch" / "bin" / "python"))
)
#: Unlike any pattern: it is known for a secret by its place alone.
HUB_TOKEN = f"canary-that-opens-the-hub-{uuid4().hex}"
FETCHED = """
name: fetched
preset: quick-test
model: {random: {model_type: llama, vocab_size: 300, hidden_size: 8}}
backend: replay
workload: {dataset: "hub:org/set", prompts: 2, max_new_tokens: 4, select: {column: question}}
notify: {urls_from: LEM_NOTIFY_T, on: [finished]}
"""


class Person:
    """Types commands on a host of their own, with the hub's token in the environment."""

    def __init__(self, night: Night, folder: Path, **variables: str):
        self.folders = [folder / "person", folder / "tmp"]
        for made in self.folders:
            made.mkdir()
        own = {"HOME": str(self.folders[0]), "TMPDIR": str(self.folders[1]), "HF_TOKEN": HUB_TOKEN}
        self._environment = {"PATH": os.environ["PATH"], **night.variables(), **own, **variables}
        self.heard = ""

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        command = [sys.executable, "-m", "lemctl.cli.main", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=self._environment
        )  # fmt: skip
        self.heard += done.stdout + done.stderr
        return done


@pytest.mark.engine
@pytest.mark.skipif(not ENGINE_PYTHON.exists(), reason="no interpreter with huggingface_hub; `make engine-venv`")
def test_the_token_that_fetches_stays_with_the_process_that_fetches(night: Night, tmp_path: Path) -> None:
    """Where it is really used: a hub that asks for it, looked at in the middle of the fetch and after a whole night."""
    file = tmp_path / "fetched.yaml"
    file.write_text(FETCHED)
    repository = Repository({"train.jsonl": b'{"question": "Why?"}\n' * 9}, token="another")
    looks: list[tuple[list[str], list[str], list[str]]] = []

    def look(path: str) -> None:
        looks.append((command_lines(), commands_that_know(HUB_TOKEN), files_with(tmp_path, HUB_TOKEN)))

    with letterbox() as box, serving(Hub({"org/set": repository}, when_asked=look)) as hub:
        addresses = {"HF_ENDPOINT": hub.endpoint, "LEM_NOTIFY_T": box.address}
        person = Person(night, tmp_path, LEM_PYTHON_PYTORCH=str(ENGINE_PYTHON), **addresses)
        refused = person.types("images", "prefetch", str(file), "--executor", "local")
        assert refused.returncode == 4
        assert "nothing here for Bearer ***" in refused.stderr, "the hub told the token back"
        repository.token = HUB_TOKEN
        done = person.types("campaign", "start", str(file), "--prefetch", "--wait", "--executor", "local")
        assert done.returncode == 0, done.stderr
        night.wait_for(lambda: box.letters != [], "the letter")
        assert person.types("daemon", "stop").returncode == 0
    night.audit()
    assert looks, "the hub was never asked for the file"
    for commands, knowing, files in looks:
        assert [command for command in commands if HUB_TOKEN in command] == []
        assert files == []
        assert any("-m lem_runner prefetch" in command for command in knowing), "the one that fetches"
        assert all("-m lem_runner prefetch" in c or "lemctl.cli.main campaign start" in c for c in knowing), knowing
    assert night.statuses("fetched") == ["Done"]
    assert HUB_TOKEN not in person.heard + str(box.letters)
    for folder in (night.home.root, *person.folders):
        assert files_with(folder, HUB_TOKEN) == []
