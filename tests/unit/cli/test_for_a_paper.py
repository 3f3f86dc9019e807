"""What leaves the house: tables, plots and methods for a paper, and a bundle that can be checked by others."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from build import Night, plan_of
from command_line import Lemctl

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.cli.main import run
from lemctl.paths import Home, data_folder
from lemctl.report.paper import latex, markdown
from lemctl.simulate import run_campaign
from lemctl.store.slice import LEFT_OUT, SLICED

CAMPAIGN = """\
name: demo
# as a person wrote it
model: "random:{vocab_size: 1000}"
backend: replay
preset: throughput
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 16}
sweep: {workload.load.batch_size: [4, 16]}
cycles: 2
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two campaigns, so that a slice has something to leave out."""
    home = Home(tmp_path_factory.mktemp("paper"))
    for name in ("demo", "other"):
        text = CAMPAIGN.replace("demo", name)
        assert run_campaign(plan(loads(text, catalogue_dir=data_folder() / "images")), text, home) == 0
    return home


@pytest.fixture(autouse=True)
def _at(state: Home, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_HOME", str(state.root))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def bundle(state: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive of `demo`."""
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEM_HOME", str(state.root))
        patch.chdir(folder)
        assert run(["results", "bundle", "demo", "--author", "Doe, Jane", "--author", "ACME"]) == 0
    with zipfile.ZipFile(folder / "demo.zip") as archive:
        archive.extractall(folder)
    return folder / "demo"


def test_a_bundle_holds_the_campaign_and_nothing_of_others(bundle: Path, state: Home) -> None:
    folder = bundle
    listed = dict(reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert set(listed) == files
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (folder / "campaign.yaml").read_text() == CAMPAIGN
    assert {"report.html", "report.json", "methods.md", "tables/figures.tex", "plots/trace.pdf"} <= files
    with sqlite3.connect(folder / "lem.db") as mine, sqlite3.connect(state.database) as whole:
        assert mine.execute("SELECT name FROM campaigns").fetchall() == [("demo",)]
        of_runs = "attempt_id IN (SELECT a.id FROM attempts a JOIN runs r ON r.id = a.run_id AND campaign_id = 1)"
        of_attempts = (
            "EXISTS (SELECT 1 FROM attempts a JOIN runs r ON r.id = a.run_id AND campaign_id = 1 WHERE"
            " a.boot_id = samples.boot_id AND t_mono_ns BETWEEN a.started_mono_ns AND a.ended_mono_ns)"
        )
        for table, where in (("runs", "campaign_id = 1"), ("metrics", of_runs), ("samples", of_attempts)):
            rows = [
                c.execute(f"SELECT * FROM {table} WHERE {where} ORDER BY 1, 2, 3, 4").fetchall() for c in (mine, whole)
            ]
            assert rows[0] == rows[1]
            assert rows[0]
    digests = json.loads((folder / "digests.json").read_text())
    assert [source["reason"] for source in digests["models"]] == ["its weights are random"]
    assert [source["reason"] for source in digests["datasets"]] == ["its token ids are random"]
    citation = (folder / "CITATION.cff").read_text()
    assert 'family-names: "Doe"\n    given-names: "Jane"' in citation
    assert '- name: "ACME"' in citation


def test_a_bundle_is_a_state_folder_with_the_same_report(
    bundle: Path, lemctl: Lemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = json.loads(lemctl("report", "demo", "--json").out)
    shutil.copytree(bundle, tmp_path / "mine")
    monkeypatch.setenv("LEM_HOME", str(tmp_path / "mine"))
    there = json.loads(lemctl("report", "--json").out)
    assert there["experiments"] == here["experiments"]
    assert lemctl("db", "check").code == 0


def test_a_bundle_says_what_was_left_out(lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lemctl.report.bundle.write_plots", lambda story, folder, tell: [])
    said = lemctl("results", "bundle", "demo", "--no-samples", "-o", "small.zip")
    assert "not in it: samples: left out" in said.out
    with zipfile.ZipFile("small.zip") as archive:
        archive.extractall()
    with sqlite3.connect("demo/lem.db") as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM metrics").fetchone() != (0,)
    assert "samples: left out" in Path("demo/README.md").read_text()


def test_every_table_is_sliced_or_left_out_knowingly(state: Home) -> None:
    with sqlite3.connect(state.database) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert set(SLICED) | LEFT_OUT | {"samples"} == tables - {"sqlite_sequence"}


def test_tables_for_a_paper_hold_the_reports_figures(lemctl: Lemctl) -> None:
    report = json.loads(lemctl("report", "demo", "--json").out)
    tex, md = lemctl("report", "demo", "--format", "latex").out, lemctl("report", "demo", "--format", "markdown").out
    assert tex.count(r"\\") == 1 + len(report["experiments"])
    for one in report["experiments"]:
        speed = one["figures"]["output_tokens_per_s"]
        assert f"{speed['mean']:.1f}"[:4] in tex.replace(",", "")
        assert f"{speed['mean']:.1f}"[:4] in md.replace(",", "")
    assert "SIMULATED" in tex
    assert "SIMULATED" in md
    rows = [line for line in md.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_no_character_of_a_campaign_breaks_a_table() -> None:
    text = r"a_b & 50% {x} $y$ #1 ~ ^ \n | `c` <b> *d*"
    assert re.search(r"(?<!\\)[&%$#_]", latex(text)) is None
    assert latex("\\{}") == r"\textbackslash{}\{\}"
    assert re.search(r"(?<!\\)[|`*<]", markdown(text)) is None


def test_plots_are_vector_graphics(lemctl: Lemctl) -> None:
    said = lemctl("report", "demo", "--plots", "plots")
    paths = [Path(line) for line in said.out.splitlines()]
    assert {path.stem for path in paths} >= {"energy-by-batch_size", "pareto-throughput", "trace", "start-temperature"}
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".pdf":
            assert content.startswith(b"%PDF-")
            assert b"/Subtype /Image" not in content
        else:
            root = ElementTree.fromstring(content)
            assert root.tag.endswith("svg")
            assert not list(root.iter("{http://www.w3.org/2000/svg}image"))


def test_what_the_page_lets_one_choose_are_options_of_the_plots(lemctl: Lemctl) -> None:
    chosen = ("--figure", "e2e_p90", "--by", "batch_size", "--colour", "batch_size", "--scale", "linear")
    said = lemctl("report", "demo", "--plots", "chosen", *chosen, "--against", "ttft_p50")
    names = {Path(line).stem for line in said.out.splitlines()}
    assert {"e2e_p90-by-batch_size", "pareto-ttft_p50", "latency-e2e", "hours-since-the-first-run"} <= names
    assert not {"energy-by-batch_size", "pareto-throughput"} & names
    words = {node.text for node in ElementTree.parse("chosen/e2e_p90-by-batch_size.svg").iter()}
    assert {"4", "16"} <= words, "the colours are those of the batch sizes"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--by", "batch_size"), "go with --plots"),
        (("--plots", "none", "--by", "dtype"), "does not sweep 'dtype'; it sweeps batch_size"),
        (("--plots", "none", "--scale", "cubic"), "--scale is one of auto, linear, log"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_in_one_line(lemctl: Lemctl, options: tuple[str, ...], words: str) -> None:
    said = lemctl("report", "demo", *options)
    assert said.code == 2
    assert words in said.err


def test_methods_tell_the_settings_and_counts_that_were_used(lemctl: Lemctl) -> None:
    text = lemctl("report", "demo", "--format", "methods").out
    for words in (
        "simulated (no engine ran) 2 configurations",
        "batch_size (4, 16)",
        "64 prompts, seed 0",
        "repeated in 2 cycles, in randomised complete blocks (seed 0)",
        "offline in batches of 4 / 16 (dynamic batching)",
        "Decoding was greedy",
        "GPU energy is that of simulated counter",
        "at least 30 s asked for",
        "Of 4 runs planned, 4 gave a VALID",
    ):
        assert words in text


def test_methods_of_what_had_no_meter_say_so(lemctl: Lemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_HOME", str(tmp_path / "bare"))
    night = Night(Home(tmp_path / "bare"))
    night.add(plan_of())
    night.activate()
    night.finish(night.runs()[0])
    night.close()
    text = lemctl("report", "--format", "methods").out
    assert "simulated" not in text
    assert "energy counter" not in text
    assert "Of 4 runs planned, 1 gave a VALID" in text
