"""A bundle of what really ran: checksums hold, the prompts are those that were measured, and they can stay at home."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import zipfile
from pathlib import Path

import jsonschema
import pytest
import yaml

from lem_runner.prompts import Prompt, file_sha256
from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.cli.main import run
from lemctl.paths import data_folder
from night import Night

ROWS = [f"tell me of the quagga number {number}" for number in range(6)]
CAMPAIGN = """
name: quaggas
preset: quick-test
model: "random:{vocab_size: 1000}"
backend: replay
workload: {dataset: "file:own.txt", prompts: 4, max_new_tokens: 4}
replay: {engine: {decode_ms_per_token: 1.0}}
sweep: {workload.load.batch_size: [1, 2], workload.seed: [0, 1]}
order: as_written
"""
#: What CITATION.cff may hold of the Citation File Format 1.2.0, and what it asks for.
#: https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md
WORDS = {"type": "string", "minLength": 1}
AUTHORS = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {
        "oneOf": [
            {"required": ["name"], "properties": {"name": WORDS}, "additionalProperties": False},
            {
                "minProperties": 1,
                "properties": {"family-names": WORDS, "given-names": WORDS},
                "additionalProperties": False,
            },
        ]
    },
}
REFERENCE = {
    "required": ["type", "title", "authors"],
    "properties": {"type": {"const": "software"}, "title": WORDS, "version": WORDS, "authors": AUTHORS},
    "additionalProperties": False,
}
CITATION = {
    "required": ["cff-version", "message", "title", "authors"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "message": WORDS,
        "type": {"enum": ["software", "dataset"]},
        "title": WORDS,
        "authors": AUTHORS,
        "date-released": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
        "references": {"type": "array", "minItems": 1, "items": REFERENCE},
    },
    "additionalProperties": False,
}


class WithData(Night):
    """A night whose campaigns may name data files."""

    def plan(self, text: str) -> Plan:
        """The plan of a campaign file."""
        folders = tuple(self.settings.dataset_dirs)
        return plan(loads(text, "night.yaml", catalogue_dir=data_folder() / "images", dataset_dirs=folders))


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Four configurations with two choices of prompts, measured by a real daemon and runner."""
    folder = tmp_path_factory.mktemp("quaggas")
    (folder / "data").mkdir()
    (folder / "data" / "own.txt").write_text("\n".join(ROWS) + "\n")
    with pytest.MonkeyPatch.context() as patch, WithData(folder) as made:
        made.environment["LEM_DATASETS_DIR"] = str(folder / "data")
        for name, value in made.variables().items():
            patch.setenv(name, value)
        made.add(CAMPAIGN)
        made.begin()
        made.wait_campaign(name="quaggas", ceiling_s=60.0)
        made.end()
    return made


def bundle(night: Night, folder: Path, *options: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked archive, as a person makes it."""
    for name, value in night.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    assert run(["results", "bundle", "quaggas", *options]) == 0
    with zipfile.ZipFile("quaggas.zip") as archive:
        archive.extractall()
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd="quaggas", capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = {line.partition("  ")[2] for line in Path("quaggas/SHA256SUMS").read_text().splitlines()}
    here = {path.relative_to("quaggas").as_posix() for path in Path("quaggas").rglob("*") if path.is_file()}
    assert here == listed | {"SHA256SUMS"}
    return folder / "quaggas"


def test_the_prompts_are_those_that_were_measured(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle(night, tmp_path, monkeypatch=monkeypatch)
    files = sorted((folder / "prompts").iterdir())
    with sqlite3.connect(folder / "lem.db") as connection:
        works = [json.loads(row[0]) for row in connection.execute("SELECT document FROM works")]
    assert {work["pool_sha256"] for work in works} == {file_sha256(path) for path in files}
    assert len(files) == 2
    prompts = {prompt.sha256: prompt for path in files for prompt in map(Prompt.decode, path.open("rb"))}
    assert {prompt.text for prompt in prompts.values()} <= set(ROWS)
    records = [
        json.loads(line)
        for path in night.home.sessions.glob("*/*.requests.jsonl")
        for line in path.read_text().splitlines()
    ]
    served = {record["prompt_sha256"]: record["tokens_in"] for record in records}
    assert served == {digest: len(prompt.ids) for digest, prompt in prompts.items()}
    assert "Not in it" not in (folder / "README.md").read_text()


def test_prompts_that_are_not_ours_to_give_away_are_nowhere_in_it(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle(night, tmp_path, "--no-prompts", monkeypatch=monkeypatch)
    assert "not in it: prompts: left out" in capsys.readouterr().out
    assert not (folder / "prompts").exists()
    assert "- prompts: left out" in (folder / "README.md").read_text()
    holding = [path.name for path in folder.rglob("*") if path.is_file() and b"quagga number" in path.read_bytes()]
    assert holding == []
    with sqlite3.connect(folder / "lem.db") as connection:
        assert connection.execute("SELECT count(*) FROM works").fetchone() == (4,)


def test_prompts_that_are_gone_are_named_by_their_hash(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(night.home.root, tmp_path / "copy")
    gone, *_ = sorted((tmp_path / "copy" / "prompts").glob("*.jsonl"))
    digest = file_sha256(gone)
    gone.unlink()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert run(["--home", str(tmp_path / "copy"), "results", "bundle", "quaggas", "--no-samples"]) == 0
    with zipfile.ZipFile("quaggas.zip") as archive:
        told = archive.read("quaggas/README.md").decode()
        assert len([name for name in archive.namelist() if "/prompts/" in name]) == 1
    assert f"- prompts: no file with sha256 {digest} is left" in told


@pytest.mark.parametrize(
    ("authors", "wanted"),
    [
        ([], [{"name": "anonymous"}]),
        (["Doe, Jane"], [{"family-names": "Doe", "given-names": "Jane"}]),
        (['The "A: B" Group #1', "Ng,"], [{"name": 'The "A: B" Group #1'}, {"family-names": "Ng"}]),
        (["Ærø, Zoë", "Ærø, Zoë"], [{"family-names": "Ærø", "given-names": "Zoë"}]),
    ],
)
def test_the_citation_is_valid_and_names_who_was_given(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authors: list[str], wanted: list[dict[str, str]]
) -> None:
    monkeypatch.setattr("lemctl.report.bundle.write_plots", lambda story, folder, tell: [])
    options = [word for author in authors for word in ("--author", author)]
    folder = bundle(night, tmp_path, *options, monkeypatch=monkeypatch)
    # As text: a date of YAML is a string to the format's own schema.
    found = yaml.load((folder / "CITATION.cff").read_text("utf-8"), Loader=yaml.BaseLoader)
    jsonschema.validate(found, CITATION)
    assert found["authors"] == wanted
    assert found["title"] == "Results of the campaign quaggas"
    assert found["references"][0]["title"] == "lemctl"


def test_an_author_without_a_name_is_refused(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in night.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert run(["results", "bundle", "quaggas", "--author", " , "]) == 2
    assert "--author" in capsys.readouterr().err
    assert not Path("quaggas.zip").exists()
