"""What is missing, where it lies, and how it is fetched: the host's side of `images prefetch`, with the real runner."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from command_line import Lemctl

from lem_runner.prompts import Prompt
from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.engines import prefetch as prefetching
from lemctl.engines import prepared
from lemctl.engines.prefetch import locate, missing, prefetch
from lemctl.engines.sources import NO_RECORD, sources_of
from lemctl.errors import PreflightRefused, RunFailed
from lemctl.paths import Home
from lemctl.settings import Settings, load_settings
from lemctl.steps import Step

RANDOM = "{random: {model_type: llama, vocab_size: 300, hidden_size: 8}}"
TOKENIZER = {"model_type": "llama", "vocab_size": 300}


@pytest.fixture
def settings(home: Home) -> Settings:
    found = load_settings()
    (home.root / "datasets").mkdir(parents=True)
    return found


def plan_with(settings: Settings, model: str, dataset: str = "random", extra: str = "") -> Plan:
    shape = ", random: {input_len: 8}" if dataset == "random" else ""
    text = f"""
name: fetch
model: {model}
backend: replay
workload: {{dataset: "{dataset}"{shape}, prompts: 2, max_new_tokens: 4}}
{extra}
"""
    return plan(loads(text, dataset_dirs=settings.dataset_dirs, model_dirs=(settings.models,)))


def write_data(settings: Settings, *rows: str) -> Path:
    path = settings.dataset_dirs[0] / "own.txt"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_what_was_missing_is_there_after_a_prefetch(settings: Settings) -> None:
    wanted = plan_with(settings, RANDOM)
    assert [gap.what for gap in missing(wanted, settings, "local")] == ["prompts"]
    steps: list[Step] = []
    prefetch(wanted, settings, "local", steps.append)
    assert missing(wanted, settings, "local") == []
    assert steps[-1].what == "prompts: done"

    located = locate(wanted.experiments[0].spec, settings)
    assert located.model_path is None
    prompts = [Prompt.decode(line) for line in located.prompts.read_bytes().splitlines()]
    assert [len(prompt.ids) for prompt in prompts] == [8, 8]


def test_experiments_that_ask_for_the_same_prompts_share_one_file(settings: Settings) -> None:
    wanted = plan_with(settings, RANDOM, extra="sweep: {workload.max_new_tokens: [4, 8, 16]}")
    assert len(wanted.experiments) == 3
    assert len(missing(wanted, settings, "local")) == 1


def test_a_data_file_is_prepared_and_its_job_folder_removed(settings: Settings) -> None:
    write_data(settings, "one", "two", "three")
    wanted = plan_with(settings, RANDOM, "file:own.txt")
    prefetch(wanted, settings, "local", lambda _: None)
    located = locate(wanted.experiments[0].spec, settings)
    assert {Prompt.decode(line).text for line in located.prompts.read_bytes().splitlines()} <= {"one", "two", "three"}
    assert list(settings.paths.prompts.glob(".job-*")) == []


def test_a_data_file_that_changed_after_the_plan_is_refused(settings: Settings) -> None:
    write_data(settings, "one", "two", "three")
    wanted = plan_with(settings, RANDOM, "file:own.txt")
    write_data(settings, "one", "two", "four")
    with pytest.raises(PreflightRefused, match="changed"):
        prefetch(wanted, settings, "local", lambda _: None)


def test_a_data_file_with_too_few_rows_is_refused_with_both_numbers(settings: Settings) -> None:
    write_data(settings, "one")
    with pytest.raises(PreflightRefused, match=r"^file:own\.txt: 1 prompts, 2 are asked for"):
        prefetch(plan_with(settings, RANDOM, "file:own.txt"), settings, "local", lambda _: None)


def test_a_model_that_is_not_there_is_missing_before_its_prompts(settings: Settings) -> None:
    assert [gap.what for gap in missing(plan_with(settings, "path:none"), settings, "local")] == ["model"]
    (gap,) = missing(plan_with(settings, "hf:org/name"), settings, "local")
    assert (gap.name, gap.fix) == ("hf:org/name", None)


def test_a_model_folder_is_found_under_its_name(settings: Settings) -> None:
    models = settings.models
    hub = {"kind": "hf", "name": "org/name", "revision": "v1", "config": None}
    assert prepared.model_path(hub, settings) == models / "org--name--v1"
    assert prepared.model_path({**hub, "revision": None}, settings) == models / "org--name"
    assert prepared.model_path({**hub, "kind": "path", "name": "a/b"}, settings) == models / "a" / "b"


def test_a_run_knows_the_commit_of_what_was_fetched_and_why_there_is_none(settings: Settings) -> None:
    folder = settings.models / "org--name--v1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TOKENIZER))
    wanted = plan_with(settings, "hf:org/name@v1")
    prefetch(wanted, settings, "local", lambda _: None)
    asked = {"kind": "hf", "name": "org/name", "revision": "v1"}
    spec = wanted.experiments[0].spec
    assert locate(spec, settings).sources["model"] == {**asked, "commit": None, "reason": NO_RECORD}
    record = {"name": "org/name", "revision": "v1", "commit": "c0ffee"}
    (folder / "lemctl.json").write_text(json.dumps(record))
    assert locate(spec, settings).sources["model"] == {**asked, "commit": "c0ffee"}
    assert missing(wanted, settings, "local") == [], "the record is no part of the tokenizer"
    (folder / "lemctl.json").write_text(json.dumps({**record, "name": "org/other"}))
    assert locate(spec, settings).sources["model"]["commit"] is None, "a folder copied from another model"
    assert locate(spec, settings).sources["dataset"]["reason"] == "its token ids are random"


def test_a_data_set_is_known_by_its_commit_or_its_content(settings: Settings) -> None:
    write_data(settings, "one", "two", "three")
    spec = plan_with(settings, RANDOM, "file:own.txt").experiments[0].spec
    found = sources_of(spec, None, None)["dataset"]
    assert (found["commit"], found["reason"]) == (None, "it is a local file")
    assert found["sha256"] == hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()
    hub = {**spec["workload"], "dataset": {"kind": "hub", "name": "org/data", "revision": "v2", "sha256": None}}
    record = {"name": "org/data", "revision": "v2", "commit": "beef", "parts": {}}
    found = sources_of({**spec, "workload": hub}, None, record)["dataset"]
    assert found == {"kind": "hub", "name": "org/data", "revision": "v2", "commit": "beef"}


def test_drawn_prompts_for_a_stored_model_need_no_engine(settings: Settings) -> None:
    folder = settings.models / "deep" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TOKENIZER))
    wanted = plan_with(settings, "path:deep/tiny")
    prefetch(wanted, settings, "docker", lambda _: None)
    located = locate(wanted.experiments[0].spec, settings)
    assert located.model_path == folder


def test_a_model_that_containers_cannot_read_is_missing_for_them(settings: Settings) -> None:
    settings = settings.model_copy(update={"puid": 65532})
    folder = settings.models / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TOKENIZER))
    (folder / "model.safetensors").touch(mode=0o600)
    wanted = plan_with(settings, "path:tiny")
    prefetch(wanted, settings, "local", lambda _: None)
    assert missing(wanted, settings, "local") == []
    (gap,) = [gap for gap in missing(wanted, settings, "docker") if gap.what == "model"]
    assert gap.fix == f"chmod -R a+rX {folder}"
    (folder / "model.safetensors").chmod(0o644)
    assert [gap for gap in missing(wanted, settings, "docker") if gap.what == "model"] == []


def test_a_changed_tokenizer_asks_for_other_prompts(settings: Settings) -> None:
    folder = settings.models / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TOKENIZER))
    wanted = plan_with(settings, "path:tiny")
    prefetch(wanted, settings, "local", lambda _: None)
    (folder / "tokenizer.json").write_text("{}")
    assert [gap.what for gap in missing(wanted, settings, "local")] == ["prompts"]


def test_prompts_that_vanish_after_the_start_fail_the_attempt_as_infra(settings: Settings) -> None:
    wanted = plan_with(settings, RANDOM)
    prefetch(wanted, settings, "local", lambda _: None)
    locate(wanted.experiments[0].spec, settings).prompts.unlink()
    with pytest.raises(RunFailed) as failed:
        locate(wanted.experiments[0].spec, settings)
    assert failed.value.kind == "infra"


def test_prepared_files_are_readable_by_the_user_of_containers(settings: Settings) -> None:
    wanted = plan_with(settings, RANDOM)
    prefetch(wanted, settings, "local", lambda _: None)
    prompts = locate(wanted.experiments[0].spec, settings).prompts
    assert prompts.stat().st_mode & 0o044 == 0o044
    assert prompts.parent.stat().st_mode & 0o055 == 0o055
    assert settings.paths.root.stat().st_mode & 0o077 == 0


def test_the_fetching_process_sees_the_token_and_no_other_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws")
    environment = prefetching._environment()
    assert environment["HF_TOKEN"] == "hf_1"
    assert "aws" not in environment.values()


def test_images_prefetch_prints_what_it_did(lemctl: Lemctl, tmp_path: Path) -> None:
    file = tmp_path / "fetch.yaml"
    file.write_text(
        f"name: fetch\nmodel: {RANDOM}\nbackend: replay\n"
        "workload: {dataset: random, random: {input_len: 8}, prompts: 2}\n"
    )
    said = lemctl("images", "prefetch", str(file))
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("fetch: models and prompts are ready\n")
