"""Mistakes in a campaign file: each is one line with file, line and key, and names what would be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lemctl.campaign.file import CampaignFile, explained, load, loads
from lemctl.campaign.plan import plan
from lemctl.errors import CampaignFileError

Read = Callable[..., CampaignFile]


@pytest.mark.parametrize(
    ("added", "line", "key", "said"),
    [
        ("cycels: 3", 6, "cycels", "unknown key; did you mean cycles?"),
        ("gate: {kind: cool, maximum: 3s}", 6, "gate.maximum", "did you mean max?"),
        ("engine: {load_in_4bit: true}", 6, "engine.load_in_4bit", "unknown key"),
        ("order: bloked", 6, "order", "did you mean blocked?"),
        ("seed: seven", 6, "seed", "must be a whole number, found the text 'seven'"),
        ("seed: 1.5", 6, "seed", "whole number"),
        ("seed: true", 6, "seed", "must be a whole number, found true"),
        ("seed: -1", 6, "seed", "at least 0"),
        ("gate: {max: 300}", 6, "gate.max", "duration with its unit"),
        ("gate: {max: 300 parsecs}", 6, "gate.max", "duration with its unit"),
        ("gate: {kind: fixed, max: 30s}", 6, "gate.max", "no effect with gate kind 'fixed'"),
        ("gate: {kind: steady, gap: 30s}", 6, "gate.gap", "no effect"),
        ("targets: {ttft: 1s}", 6, "targets", "no effect: no load here hands requests over one by one"),
        ("targets: {}\nworkload.load: {mode: closed, concurrency: 2}", 6, "targets", "names no latency"),
        ("targets: {itl: 1s}", 6, "targets.itl", "allowed: ttft, tpot, e2e"),
        ("targets: {e2e: 10}", 6, "targets.e2e", "duration with its unit"),
        ("timeouts: {run: 0s}", 6, "timeouts.run", "longer than 0"),
        ("timeouts: 3", 6, "timeouts", "must be a mapping"),
        ("gpus: 0", 6, "gpus", "must be a list"),
        ("gpus: [-1]", 6, "gpus[0]", "at least 0"),
        ("description: [a]", 6, "description", "must be text"),
        ("preset: benchmrk", 6, "preset", "did you mean benchmark?"),
        ("sampling: {temperature: 0.7}", 6, "sampling.temperature", "do_sample: true"),
        ("sampling: {do_sample: true, top_p: 1.5}", 6, "sampling.top_p", "at most 1"),
        ("measure: {warmup: {min: 200s}}", 6, "measure.warmup.min", "longer than the longest"),
        ("measure: {window: 0s}", 6, "measure.window", "longer than 0"),
        ("engine: {dtype: int3}", 6, "engine.dtype", "allowed: auto, float32, float16, bfloat16"),
        ("workload.load.batch_size: 65", 6, "workload.load.batch_size", "never reached with 64 prompts"),
        ("workload.prompts: 4", 6, "workload.prompts", "duplicate key"),
        ("workload.template: chat", 6, "workload.template", "no template"),
        ("name.x: 3", 6, "name.x", "plain value"),
        ("pytorch.engine.load_in_5bit: true", 6, "pytorch.engine.load_in_5bit", "did you mean 'load_in_4bit'"),
        ("pytorch: {engin: {a: 1}}", 6, "pytorch.engin", "did you mean engine?"),
        ("pytorch: 3", 6, "pytorch", "must be a mapping"),
        ("tensorrt.engine.x: 1", 6, "tensorrt.engine.x", "has no catalogue"),
        ("vllm.engine.max_num_seqs: 8", 6, "vllm", "no experiment of this campaign uses the backend vllm"),
        ("sweep: [1]", 6, "sweep", "must be a mapping"),
        ("exclude: {backend: pytorch}", 6, "exclude", "must be a list"),
        ("exclude:\n  - {}", 7, "exclude[0]", "empty entry"),
        ("include:\n  - {workload.prompts: none}", 7, "include[0].workload.prompts", "whole number"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(
    read: Read, small: str, added: str, line: int, key: str, said: str
) -> None:
    with pytest.raises(CampaignFileError) as caught:
        plan(read(small + added + "\n"))
    message = str(caught.value)
    assert message.startswith(f"file.yaml:{line}: {key}: ")
    assert said.replace("'", "") in message.replace("'", "")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a campaign file is a mapping of keys; found nothing"),
        ("- a\n", "found a list"),
        ("hello\n", "found plain text"),
        ("cycles: 1\n", "name: this key is required"),
        ("name: x/y\n", "name: must match"),
        ("name: x\n", "backend: this key is required, here or in sweep"),
        ("name: x\nbackend: pytorch\n", "model: this key is required"),
        ("name: x\nbackend: pytorch\nmodel: hf:a/b\n", "workload.dataset: this key is required"),
        ("name: x\nbackend: pytroch\n", "did you mean pytorch?"),
    ],
)
def test_what_is_missing_is_named(read: Read, text: str, said: str) -> None:
    with pytest.raises(CampaignFileError) as caught:
        plan(read(text))
    assert said in str(caught.value)


def test_of_several_mistakes_the_first_is_shown_and_the_others_counted(read: Read, small: str) -> None:
    with pytest.raises(CampaignFileError, match=r"file.yaml:6: seed: .*\(and 1 more\)"):
        read(small + "seed: x\norder: y\n")


def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(read: Read, small: str) -> None:
    with pytest.raises(CampaignFileError) as caught:
        read(small, {"seed": "x"})
    assert caught.value.line is None
    assert "from the command line" in str(caught.value)


@pytest.mark.parametrize("key", ["", ".", "a..b", "name.x", "sweep.nowhere", "sweep", "gate"])
def test_a_strange_key_on_the_command_line_is_a_mistake_not_a_crash(read: Read, small: str, key: str) -> None:
    with pytest.raises(CampaignFileError):
        read(small, {key: "1"})


def test_precedence_is_command_line_over_file_over_preset_over_default(read: Read, small: str) -> None:
    text = small + "preset: throughput\nmeasure: {baseline: 7s}\ngate.max: 20s\n"
    campaign = read(text, {"gate.max": "10s"})
    settings = campaign.settings
    assert (settings.gate.max, campaign.origin("gate.max")) == (10.0, "command line")
    assert (settings.measure.baseline, campaign.origin("measure.baseline")) == (7.0, "file")
    assert (settings.cycles, campaign.origin("cycles")) == (2, "file")
    assert (settings.measure.window, campaign.origin("measure.window")) == (30.0, "preset throughput")
    assert (settings.workload.load.batching, campaign.origin("workload.load.batching")) == (
        "dynamic",
        "preset throughput",
    )
    assert (settings.retry.max, campaign.origin("retry.max")) == (2, "default")
    assert campaign.settings.gate.gap == 10.0


def test_a_preset_on_the_command_line_replaces_the_files(read: Read, small: str) -> None:
    campaign = read(small + "preset: throughput\n", preset="quick-test")
    assert campaign.settings.preset == "quick-test"
    assert campaign.settings.measure.window is None
    assert campaign.settings.workload.load.batching == "static"


def test_values_of_a_preset_are_blamed_on_the_preset(read: Read, small: str) -> None:
    with pytest.raises(CampaignFileError) as caught:
        plan(read(small + "preset: throughput\n", {"workload.prompts": "4"}))
    assert "workload.load.batch_size: a batch of 8 is never reached with 4 prompts (from the preset throughput)" in str(
        caught.value
    )


def test_explained_names_the_origin_of_every_value(read: Read, small: str) -> None:
    rows = {
        key: (value, origin) for key, value, origin in explained(read(small + "preset: quick-test\n", {"seed": "3"}))
    }
    assert rows["seed"] == (3, "command line")
    assert rows["cycles"] == (2, "file")
    assert rows["measure.window"] == ("one_pass", "preset quick-test")
    assert rows["gate.max"] == ("300s", "default")


def test_explained_names_hours_as_the_file_writes_them(read: Read, small: str) -> None:
    window = {"from": "22:00", "to": "07:00", "tz": "UTC"}
    one = {key: value for key, value, _ in explained(read(small + f"hours: {json.dumps(window)}\n"))}
    assert (one["hours.from"], one["hours.to"], one["hours.tz"]) == ("22:00", "07:00", "UTC")
    rows = explained(read(small + f"hours: {json.dumps([window, window])}\n"))
    assert ("hours", [window, window], "file") in rows


def test_a_key_of_the_command_line_is_no_longer_swept(read: Read, small: str) -> None:
    text = small + "sweep: {workload.load.batch_size: [1, 2], seed: [1]}\n"
    text = text.replace(", seed: [1]", ", workload.seed: [1, 2]")
    done = plan(read(text, {"workload.load.batch_size": "4"}))
    assert {experiment.spec["workload"]["load"]["batch_size"] for experiment in done.experiments} == {4}
    assert len(done.experiments) == 2
    assert "workload.load.batch_size is given on the command line: not swept" in done.warnings


def test_a_backend_of_the_command_line_leaves_the_others_out(read: Read, small: str) -> None:
    text = small + (
        "sweep: {backend: [pytorch, vllm], vllm.engine.max_num_seqs: [1, 2]}\n"
        "include: [{backend: vllm, workload.prompts: 9}, {backend: pytorch, workload.prompts: 9}]\n"
    )
    done = plan(read(text, {"backend": "pytorch"}))
    assert {experiment.backend for experiment in done.experiments} == {"pytorch"}
    assert len(done.experiments) == 2


def test_a_nested_key_may_be_written_with_dots(read: Read, small: str) -> None:
    assert plan(read(small + "gate.max: 9s\n")).hash == plan(read(small + "gate: {max: 9s}\n")).hash


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "not valid UTF-8"),
        (b"name: a\nmodel: \xff\n", "f.yaml:2: not valid UTF-8"),
        (b"#" * 1_000_001, "larger than"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "f.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(CampaignFileError, match=said):
        load(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path, small: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + small.encode())
    assert load(path).name == "small"


def test_a_backend_that_the_caller_adds_needs_no_change_here(small: str) -> None:
    done = plan(loads(small.replace("pytorch", "toy"), backends=("pytorch", "toy")))
    assert done.experiments[0].backend == "toy"


def test_fractions_of_a_unit_and_every_unit_are_read(read: Read, small: str) -> None:
    timeouts: dict[str, Any] = {"start": "1.5h", "silence": "500ms", "progress": "2m", "run": "1d"}
    document = plan(read(small, {f"timeouts.{key}": value for key, value in timeouts.items()})).document
    read_s = {"start_s": 5400.0, "silence_s": 0.5, "progress_s": 120.0, "run_s": 86400.0}
    assert read_s.items() <= document["timeouts"].items()
