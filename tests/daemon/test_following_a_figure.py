"""The guide from a figure to its readings, machine and file, typed as it stands, after a night with model GPUs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nvml_stub"))

from lemctl.cli.main import run
from lemctl.report.figures import number
from needed import needs
from night import Night
from nvml_stub import NvmlStub

pytestmark = [
    needs("gcc"),
    # The sampler's own rhythm is a part of what is judged here.
    pytest.mark.alone,
]

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "follow-a-figure.md"
CAMPAIGN = """\
name: demo
# as a person wrote it
model: "random:{vocab_size: 1000}"
backend: replay
preset: quick-test
workload: {dataset: random, random: {input_len: 8}, prompts: 4, max_new_tokens: 4}
replay: {engine: {load_s: 0.1, decode_ms_per_token: 20.0}}
sweep: {workload.load.batch_size: [1, 4]}
measure: {window: "3s", baseline: "1s"}
gate: {kind: fixed, gap: "0s"}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    """A model GPU under load all along."""
    stub = NvmlStub(tmp_path_factory.mktemp("gpu"))
    stub.gpu().noise_w = 0.5
    stub.gpu().add_load(stub.now_s() + 0.1, 200.0)
    return stub


@pytest.fixture(scope="module")
def night(host: NvmlStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Two runs, measured by the real sampler."""
    with Night(tmp_path_factory.mktemp("demo"), host.host_environment(with_cuda=True)) as made:
        made.add(CAMPAIGN)
        made.begin()
        made.wait_campaign(name="demo", ceiling_s=120.0)
        made.end()
        yield made


@pytest.fixture(scope="module")
def said(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What every line of the guide printed: a command by its text, a block of Python by its first use of a name."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert {language for language, _ in blocks} == {"sh", "python"}, "there is nothing in it that is not tried"
    found: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in night.variables().items():
            patch.setenv(name, value)
        patch.chdir(tmp_path_factory.mktemp("typed"))
        for language, text in blocks:
            for line in [text] if language == "python" else text.strip().splitlines():
                found[line] = _typed(line) if language == "sh" else _python(line)
        found["folder"] = str(Path.cwd())
    return found


def _typed(line: str) -> str:
    program, *words = shlex.split(line)
    assert program == "lemctl"
    return _heard(lambda: run(words), line)


def _python(text: str) -> str:
    return _heard(lambda: exec(compile(text, str(GUIDE), "exec"), {}) or 0, text)


def _heard(does: Any, what: str) -> str:
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as heard:
        assert does() == 0, what
    return heard.getvalue()


def only(said: Mapping[str, str], beginning: str) -> str:
    """What the one command of the guide that begins so printed."""
    (found,) = (text for line, text in said.items() if line.startswith(beginning))
    return found


def folder(said: Mapping[str, str]) -> Path:
    """Where the guide was typed."""
    return Path(said["folder"])


def test_the_report_leads_to_the_runs_behind_a_row(said: Mapping[str, str], night: Night) -> None:
    (mean,) = night.rows(
        "SELECT m.value FROM metrics m JOIN attempts a ON a.id = m.attempt_id AND a.outcome = 'ok'"
        " WHERE m.name = 'energy_per_output_token' AND a.run_id = 1"
    )[0]
    assert number(mean) in said["lemctl report demo"]
    listed = only(said, "lemctl results list").splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["2", "demo"], ["1", "demo"]]


def test_everything_of_the_run_is_told(said: Mapping[str, str], night: Night) -> None:
    text = said["lemctl results show 1"]
    for name, value, unit in night.rows(
        "SELECT m.name, m.value, m.unit FROM metrics m JOIN attempts a ON a.id = m.attempt_id AND a.outcome = 'ok'"
        " WHERE a.run_id = 1 AND m.value IS NOT NULL"
    ):
        # The last attempt is the one that gave the result.
        line = [one for one in text.splitlines() if one.startswith(f"  {name} ")][-1]
        words = line.split()
        assert words[1] == number(value)
        assert line.endswith(unit)
    assert "power of GPU-00000000: " in text


def test_its_readings_are_those_that_were_stored_and_give_its_energy(said: Mapping[str, str], night: Night) -> None:
    read = pd.read_parquet(folder(said) / "samples.parquet")
    stored = night.rows(
        "SELECT s.series, s.t_mono_ns, s.reading FROM samples s JOIN attempts a ON a.boot_id = s.boot_id"
        " AND s.t_mono_ns BETWEEN a.started_mono_ns AND a.ended_mono_ns WHERE a.run_id = 1"
    )
    assert len(stored) > 100
    exported = {(row.series, row.t_mono_ns): json.loads(row.reading) for row in read.itertuples()}
    assert exported == {(series, t_ns): json.loads(reading) for series, t_ns, reading in stored}
    told = re.fullmatch(r"([\d.]+) W over ([\d.]+) s\n", only(said, "import pandas as pd\n\nsamples"))
    assert told is not None
    ((power_w,),) = night.rows(
        "SELECT m.value FROM metrics m JOIN attempts a ON a.id = m.attempt_id AND a.outcome = 'ok'"
        " WHERE a.run_id = 1 AND m.name = 'power_mean'"
    )
    ((begin_ns, end_ns),) = night.rows(
        "SELECT w.t_begin_mono_ns, w.t_end_mono_ns FROM windows w JOIN attempts a ON a.id = w.attempt_id"
        " AND a.outcome = 'ok' WHERE a.run_id = 1"
    )
    assert float(told[1]) == pytest.approx(power_w, rel=0.05)
    assert float(told[2]) == pytest.approx((end_ns - begin_ns) / 1e9, abs=0.5)


def test_its_machine_is_told_with_versions_and_commits(said: Mapping[str, str], host: NvmlStub) -> None:
    told = json.loads(said["lemctl results environment 1"])[-1]
    assert [gpu["uuid"] for gpu in told["host"]["document"]["gpus"]] == [host.uuid()]
    assert told["host"]["document"]["kernel"]
    assert told["container"]["document"]["python"]
    assert told["container"]["document"]["executor"] == "local"
    assert told["project"]["document"]["version"]
    assert told["sources"]["model"]["reason"] == "its weights are random"


def test_its_file_is_told_as_it_was_written(said: Mapping[str, str]) -> None:
    assert said["lemctl campaign show demo"].endswith(f"\n\n{CAMPAIGN}")


def test_all_figures_make_a_data_frame(said: Mapping[str, str], night: Night) -> None:
    figures = pd.read_parquet(folder(said) / "figures.parquet").dropna(subset=["value"])
    stored = night.rows(
        "SELECT a.run_id, m.name, m.value FROM metrics m JOIN attempts a ON a.id = m.attempt_id"
        " WHERE m.value IS NOT NULL AND a.outcome = 'ok'"
    )
    kept = figures[figures.outcome == "ok"]
    assert sorted(zip(kept.run, kept.metric, kept.value, strict=True)) == sorted(stored)
    table = only(said, "import json").splitlines()
    assert table[0].split() == ["mean", "std", "count"]
    experiments = {experiment for (experiment,) in night.rows("SELECT experiment FROM runs")}
    assert {line.split()[0] for line in table[2:]} == experiments


def test_what_goes_into_a_paper_is_there(said: Mapping[str, str]) -> None:
    assert only(said, "lemctl report demo --format latex").startswith("% lemctl report demo")
    assert only(said, "lemctl report demo --format markdown").startswith(r"| batch\_size |")
    assert only(said, "lemctl report demo --format methods").startswith("We measured 2 configurations")
    for name in ("demo.html", "demo.zip", "plots/energy-by-batch_size.pdf", "plots/trace.svg"):
        assert (folder(said) / name).stat().st_size > 1000
