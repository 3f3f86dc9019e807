"""`lemctl config ...` as typed: what it prints and its exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lemctl.campaign.docs import json_schema
from lemctl.campaign.presets import PRESETS
from lemctl.cli.main import run
from lemctl.settings import Settings

IMAGES = Path(__file__).parents[3] / "images"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_HOME", str(tmp_path / "home"))


@pytest.fixture
def file(tmp_path: Path, small: str) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(small + "sweep: {workload.load.batch_size: [1, 2, 4], engine.dtype: [fp16, bf16]}\n")
    return path


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(["config", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code, out, _ = typed(capsys, *words, "--json")
    assert code == 0
    body: dict[str, Any] = json.loads(out)
    assert isinstance(body["schema"], int)
    return body


def test_validate_says_what_a_file_expands_to(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert typed(capsys, "validate", str(file)) == (0, f"{file}: OK: 6 experiments x 2 cycles = 12 runs\n", "")


def test_validate_exits_2_with_one_line_on_a_mistake(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(file.read_text() + "cycels: 3\n")
    code, out, err = typed(capsys, "validate", str(file))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"{file}:7: cycels: unknown key; did you mean cycles?" in err


def test_validate_explains_where_values_come_from(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    _, out, _ = typed(capsys, "validate", str(file), "--explain", "--set", "seed=3", "--preset", "throughput")
    lines = [line.split() for line in out.splitlines()]
    assert ["seed", "3", "command", "line"] in lines
    assert ["cycles", "2", "file"] in lines
    assert ["measure.window", "30s", "preset", "throughput"] in lines


def test_validate_warns_without_failing(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, _, err = typed(capsys, "validate", str(file), "--set", "engine.dtype=fp16")
    assert code == 0
    assert "engine.dtype is given on the command line: not swept" in err


def test_grid_lists_the_experiments_of_a_file(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    body = as_json(capsys, "grid", str(file))
    assert [each["axes"]["workload.load.batch_size"] for each in body["experiments"]] == [1, 1, 2, 2, 4, 4]
    _, out, _ = typed(capsys, "grid", str(file))
    assert len(out.splitlines()) == 7
    assert all(each["hash"] in out for each in body["experiments"])


def test_grid_takes_axes_by_their_last_part_alone(capsys: pytest.CaptureFixture[str]) -> None:
    body = as_json(capsys, "grid", "--vary", "batch_size=1,2", "--vary", "dtype=fp16,bf16,fp32")
    assert len(body["experiments"]) == 6
    assert set(body["experiments"][0]["axes"]) == {"workload.load.batch_size", "engine.dtype"}


def test_grid_adds_axes_to_a_file(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    body = as_json(capsys, "grid", str(file), "--vary", "workload.seed=1,2")
    assert len(body["experiments"]) == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a campaign file, or --vary"),
        (["--vary", "batchsize=1"], "did you mean"),
        (["--vary", "seed=1"], "seed could be"),
        (["--vary", "batch_size"], "KEY=VALUE"),
        (["--vary", "batch_size=one"], "whole number"),
    ],
)
def test_grid_names_what_is_wrong_with_the_call(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, _, err = typed(capsys, "grid", *words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_schema_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = typed(capsys, "schema")
    assert json.loads(out) == json_schema() == as_json(capsys, "schema")["json_schema"]


def test_presets_shows_each_preset(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = typed(capsys, "presets")
    assert out.splitlines()[0].split() == ["key", *PRESETS]
    assert as_json(capsys, "presets")["presets"]["throughput"]["cycles"] == 3


def test_params_lists_what_a_backend_takes(capsys: pytest.CaptureFixture[str]) -> None:
    body = as_json(capsys, "params", "replay")
    assert "decode_ms_per_token" in {each["name"] for each in body["parameters"]}
    _, out, _ = typed(capsys, "params", "replay", "--search", "JITTER")
    assert len(out.splitlines()) == 2
    assert typed(capsys, "params", "nothing")[0] == 7
    assert typed(capsys, "params", "../replay")[0] == 7


def test_settings_shows_value_variable_and_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEM_MAX_RUNS", "77")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "settings.yaml").write_text("shm_size: 2g\n")
    rows = {row["name"]: row for row in as_json(capsys, "settings")["settings"]}
    assert set(Settings.model_fields) <= set(rows)
    assert (rows["max_runs"]["value"], rows["max_runs"]["origin"]) == (77, "environment")
    assert (rows["shm_size"]["value"], rows["shm_size"]["origin"]) == ("2g", "settings.yaml")
    assert rows["executor"]["origin"] == "default"
    assert rows["executor"]["variable"] == "LEM_EXECUTOR"


def test_the_limit_on_runs_is_the_hosts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("LEM_MAX_RUNS", "11")
    code, _, err = typed(capsys, "validate", str(file))
    assert code == 2
    assert "more than 11 runs" in err


def test_params_without_a_backend_shows_what_is_portable(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["key"]: row for row in as_json(capsys, "params")["parameters"]}
    assert rows["engine.tensor_parallel"]["vllm"] == "tensor_parallel_size"
    assert rows["engine.max_model_len"]["pytorch"].startswith("none: ")
    _, out, _ = typed(capsys, "params", "--search", "max_seq_len")
    assert "engine.max_model_len" in out
    assert typed(capsys, "params", "--diff")[0] == 2


def test_params_says_range_choices_label_and_what_cannot_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = typed(capsys, "params", "tensorrt")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert lines["tensorrt.engine.kv_cache_config.free_gpu_memory_fraction"].startswith(
        "float | None, 0 to 1 0.9 stable"
    )
    assert lines["tensorrt.engine.backend"].startswith('pytorch | tensorrt "pytorch"')
    assert "cannot be set: the workload sets the length" in lines["tensorrt.sampling.max_tokens"]
    assert "only with backend: tensorrt" in lines["tensorrt.engine.quant_config"]
    assert " prototype" in lines["tensorrt.engine.model_kwargs"]


def test_params_diff_asks_the_installed_engine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert typed(capsys, "params", "replay", "--diff", "--executor", "local")[1].startswith("replay: as the catalogue")
    catalogue = json.loads((IMAGES / "replay" / "params.json").read_text())
    changed, dropped = catalogue["parameters"][4], catalogue["parameters"].pop(5)
    changed["default"] = 7.5
    catalogue["parameters"].append({**dropped, "name": "brand_new"})
    said = tmp_path / "said.json"
    said.write_text(json.dumps(catalogue))
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat {said}\n")
    python.chmod(0o755)
    monkeypatch.setenv("LEM_PYTHON_REPLAY", str(python))
    found = as_json(capsys, "params", "replay", "--diff", "--executor", "local")["differences"]
    assert [(each["name"], each["what"]) for each in found] == [
        (changed["name"], "differs"),
        (dropped["name"], "only in the catalogue"),
        ("brand_new", "only in the engine"),
    ]
    assert found[0]["engine"] == "default 7.5"


def test_an_engine_that_is_not_here_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEM_PYTHON_TENSORRT", sys.executable)
    code, _, err = typed(capsys, "params", "tensorrt", "--diff", "--executor", "local")
    assert (code, err.count("\n")) == (4, 1)
    assert "No module named 'tensorrt_llm'" in err
