"""What every reading command prints, held against files: a change of the output is seen, and wanted or not.

`LEM_UPDATE_GOLDEN=1 pytest tests/unit/cli/test_golden.py` writes the files anew; the diff is then looked at.
"""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest
from build import Night
from command_line import PLAN, Lemctl

from lemctl.paths import Home

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
REPO = Path(__file__).parents[3]

TEXT = {
    "status": ("status",),
    "campaign-list": ("campaign", "list"),
    "campaign-show": ("campaign", "show", "demo"),
    "report": ("report", "demo"),
    "report-all-suspect": ("report", "demo", "--include-suspect", "--all"),
    "report-csv": ("report", "demo", "--format", "csv"),
    "results-list": ("results", "list"),
    "results-show": ("results", "show", "3"),
    "results-export": ("results", "export", "demo"),
    "logs": ("logs", "2"),
    "daemon-status": ("daemon", "status"),
    "db-check": ("db", "check"),
}
AS_JSON = {
    "status": ("status", "--json"),
    "campaign-list": ("campaign", "list", "--json"),
    "campaign-show": ("campaign", "show", "demo", "--json"),
    "report": ("report", "demo", "--json"),
    "results-list": ("results", "list", "--json"),
    "results-show": ("results", "show", "3", "--json"),
    "logs": ("logs", "2", "--json"),
    "daemon-status": ("daemon", "status", "--json"),
    "db-check": ("db", "check", "--json"),
}


def normal(text: str, home: Home) -> str:
    """Without what differs from machine to machine and from run to run."""
    text = text.replace(str(home.root), "HOME").replace(str(REPO), "REPO")
    text = re.sub(r"\b[0-9a-f]{32}\b", "UUID", text)
    return re.sub(rf"(host\s+|\"host\": \"){re.escape(socket.gethostname())}", r"\1HOST", text)


def hold(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("LEM_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), f"{path.name} differs; LEM_UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize("name", TEXT)
def test_text_is_as_recorded(name: str, lived_in: Night, home: Home, lemctl: Lemctl) -> None:
    said = lemctl(*TEXT[name])
    assert said.err == ""
    hold(f"{name}.txt", normal(said.out, home))


@pytest.mark.parametrize("name", AS_JSON)
def test_json_is_as_recorded_and_carries_its_schema(name: str, lived_in: Night, home: Home, lemctl: Lemctl) -> None:
    said = lemctl(*AS_JSON[name])
    body = json.loads(said.out)
    assert body["schema"] == 1
    assert body["kind"]
    hold(f"{name}.json", normal(said.out, home))


def test_plan_is_as_recorded(home: Home, lemctl: Lemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lemctl.cli import campaign_plan

    monkeypatch.setattr(campaign_plan, "_free_bytes", lambda _: 50_000_000_000)
    monkeypatch.setattr(campaign_plan, "NVIDIA_DEVICE", tmp_path / "no-gpu")
    file = tmp_path / "night.yaml"
    file.write_text(PLAN)
    said = lemctl("campaign", "plan", str(file))
    assert said.code == 0
    hold("campaign-plan.txt", said.out.replace(str(file), "night.yaml"))
    as_json = lemctl("campaign", "plan", str(file), "--json", "--all")
    hold("campaign-plan.json", as_json.out.replace(str(file), "night.yaml"))
