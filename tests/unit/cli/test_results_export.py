"""Exports hold what the database holds, in every form, as their schemas say."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import jsonschema
import pyarrow.parquet
import pytest
from build import Night
from command_line import Lemctl

from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.paths import Home, data_folder
from lemctl.report.fields import FIGURES, READING_KEYS, SAMPLES
from lemctl.simulate import run_campaign
from lemctl.store.read_results import EXPORT_COLUMNS

CAMPAIGN = """
name: small
model: "random:{vocab_size: 1000}"
backend: replay
preset: throughput
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 16}
sweep: {workload.load.batch_size: [4, 16]}
cycles: 2
"""


@pytest.fixture
def simulated(home: Home) -> Home:
    assert run_campaign(plan(loads(CAMPAIGN, catalogue_dir=data_folder() / "images")), CAMPAIGN, home) == 0
    return home


def query(home: Home, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(home.database) as connection:
        return connection.execute(sql).fetchall()


def test_the_columns_are_those_that_the_store_reads() -> None:
    assert tuple(field.name for field in FIGURES) == EXPORT_COLUMNS


def test_every_form_holds_the_same_figures(simulated: Home, lemctl: Lemctl, tmp_path: Path) -> None:
    stored = query(
        simulated,
        "SELECT a.uuid, m.name, m.value FROM metrics m JOIN attempts a ON a.id = m.attempt_id ORDER BY a.id, m.name",
    )
    as_csv = list(csv.DictReader(io.StringIO(lemctl("results", "export").out)))
    lines = [json.loads(line) for line in lemctl("results", "export", "--format", "json").out.splitlines()]
    file = tmp_path / "figures.parquet"
    assert lemctl("results", "export", "--format", "parquet", "-o", str(file)).code == 0
    table = pyarrow.parquet.read_table(file).to_pylist()
    key = ("attempt_uuid", "metric")
    for rows in (as_csv, lines[1:], table):
        assert [tuple(row[name] for name in key) for row in rows] == [row[:2] for row in stored]
    assert [row["value"] for row in lines[1:]] == [row["value"] for row in table] == [row[2] for row in stored]
    assert [float(row["value"]) if row["value"] else None for row in as_csv] == [row[2] for row in stored]


def test_every_line_of_json_is_as_its_schema_says(lived_in: Night, simulated: Home, lemctl: Lemctl) -> None:
    for kind, words in (("metrics", ["--all"]), ("samples", ["small", "--samples"])):
        schema = json.loads(lemctl("results", "schema", kind).out)
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        lines = lemctl("results", "export", *words, "--format", "json").out.splitlines()
        assert len(lines) > 20
        for line in [*lines[:200], lines[-1]]:
            validator.validate(json.loads(line))


@pytest.mark.parametrize("words", [[], ["--all"], ["--include-suspect"]])
def test_the_report_as_json_is_as_its_schema_says(lived_in: Night, lemctl: Lemctl, words: list[str]) -> None:
    schema = json.loads(lemctl("results", "schema", "report").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    body = json.loads(lemctl("report", "demo", "--json", *words).out)
    jsonschema.validate(body, schema, jsonschema.Draft202012Validator)
    assert set(body) == set(schema["properties"])


def test_samples_are_every_reading_of_the_run(simulated: Home, lemctl: Lemctl, tmp_path: Path) -> None:
    ((count, most_mw, inside),) = query(
        simulated,
        "SELECT count(*), max(s.reading->>'power_mw'), sum(s.t_mono_ns BETWEEN w.t_begin_mono_ns AND w.t_end_mono_ns)"
        " FROM attempts a JOIN windows w ON w.attempt_id = a.id JOIN samples s ON s.boot_id = a.boot_id AND s.t_mono_ns"
        " BETWEEN a.started_mono_ns AND a.ended_mono_ns WHERE a.run_id = 1",
    )
    file = tmp_path / "samples.parquet"
    said = lemctl("results", "samples", "1", "--format", "parquet", "-o", str(file))
    assert said.code == 0
    table = pyarrow.parquet.read_table(file)
    rows = table.to_pylist()
    assert len(rows) == count
    assert max(row["power_mw"] or 0 for row in rows) == most_mw
    assert sum(row["in_window"] for row in rows) == inside
    assert {row["phase"] for row in rows} >= {"loading", "cooling", "warmup", "window"}
    first = next(row for row in rows if row["series"] == "power")
    assert {key: first[key] for key in READING_KEYS if first[key] is not None} == json.loads(first["reading"])
    assert table.schema.field("power_mw").metadata[b"meaning"]
    assert [field.name for field in SAMPLES] == table.schema.names


def test_an_environment_is_told_with_its_hash(night: Night, lemctl: Lemctl) -> None:
    from build import plan_of

    from lemctl.store.sessions import add_environment

    night.add(plan_of())
    night.activate()
    run = night.runs()[0]
    attempt = night.begin(run)
    with night.store.transaction() as tx:
        add_environment(tx, attempt.id, "host", "abc", '{"cpu": {"model": "Some CPU"}}', night.clock)
    body = json.loads(lemctl("results", "environment", str(run), "--json").out)
    assert body["attempts"][0]["host"] == {"hash": "abc", "document": {"cpu": {"model": "Some CPU"}}}


def test_what_cannot_be_exported_is_one_line(simulated: Home, lemctl: Lemctl) -> None:
    for words, text in (
        (["results", "export", "--format", "parquet"], "name a file with -o FILE"),
        (["results", "export", "--format", "xml"], "found 'xml'"),
        (["results", "samples", "99"], "run 99 has no ended attempt"),
        (["results", "schema", "x"], "there are metrics, samples, report"),
        (["results", "export", "-o", "no/such/x.csv"], "no/such/x.csv cannot be written"),
    ):
        said = lemctl(*words)
        assert said.code in (2, 7)
        assert text in said.err
        assert said.err.count("\n") == 1
