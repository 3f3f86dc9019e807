"""Data sets of the hub, with the hub's real client against a server that answers the hub's paths: pinned, resumed, and
going on with what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from hub_server import Hub, Repository, commit_of, serving
from lem_runner.prompts import Prompt
from lemctl.campaign.file import loads
from lemctl.campaign.plan import plan
from lemctl.campaign.references import dataset_reference
from lemctl.engines.prefetch import locate, missing
from lemctl.engines.prefetch import prefetch as prefetch_on_host
from lemctl.settings import load_settings
from lemctl.steps import Step

pytestmark = pytest.mark.engine

MAKE_PARQUET = """
import json, sys
import pyarrow as pa, pyarrow.parquet as pq
for path, rows in json.load(sys.stdin).items():
    pq.write_table(pa.Table.from_pylist(rows), path)
"""
GSM8K = [{"question": f"How much is {n} + 1?", "answer": str(n + 1)} for n in range(40)]
MMLU = [
    {
        "question": f"Which is {n}?",
        "choices": [str(n), "none", "all"],
        "answer": 0,
        "subject": "law" if n % 2 else "art",
    }
    for n in range(20)
]
ORCA = [{"id": str(n), "system_prompt": "Be brief." if n % 2 else "", "question": f"Why {n}?"} for n in range(20)]
ULTRA = [{"prompt": f"Tell me of {n}.", "messages": [{"role": "user", "content": "x"}]} for n in range(20)]
ALPACA = [{"instruction": f"Add {n}.", "input": "to 3" if n % 2 else "", "output": "", "text": "no"} for n in range(20)]


@pytest.fixture(scope="module")
def parquet(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Parquet files as the engine's own pyarrow writes them."""
    folder = tmp_path_factory.mktemp("parquet")
    tables = {"gsm8k": GSM8K, "mmlu": MMLU, "openorca": ORCA, "ultrafeedback": ULTRA, "alpaca": ALPACA}
    asked = json.dumps({str(folder / name): rows for name, rows in tables.items()})
    subprocess.run([engine_python, "-c", MAKE_PARQUET], input=asked, text=True, check=True, timeout=120)
    return {name: (folder / name).read_bytes() for name in tables}


@pytest.fixture
def hub(parquet: dict[str, bytes]) -> Iterator[Hub]:
    """The five named data sets, each laid out as it is on the hub, and one of JSON Lines."""
    configs = [
        {"config_name": name, "data_files": [{"split": "test", "path": f"{name}/test-*"}]} for name in ("main", "all")
    ]
    splits = [{"split": name, "path": f"data/{name}-*"} for name in ("train_sft", "train_prefs")]
    ultra = {"configs": [{"config_name": "default", "data_files": splits}]}
    lines = "".join(json.dumps({"ask": f"what is {n}", "kind": n % 3}) + "\n" for n in range(30)).encode()
    made = {
        "tatsu-lab/alpaca": Repository({"data/train-00000-of-00001.parquet": parquet["alpaca"], "README.md": b"#"}),
        "openai/gsm8k": Repository({"main/test-00000-of-00001.parquet": parquet["gsm8k"]}, {"configs": configs[:1]}),
        "cais/mmlu": Repository({"all/test-00000-of-00001.parquet": parquet["mmlu"]}, {"configs": configs[1:]}),
        "Open-Orca/OpenOrca": Repository(
            {"1M-GPT4-Augmented.parquet": parquet["openorca"], "3_5M-GPT3_5-Augmented.parquet": b"never read"}
        ),
        "HuggingFaceH4/ultrafeedback_binarized": Repository(
            {f"data/{name}-00000-of-00001.parquet": parquet["ultrafeedback"] for name in ("train_sft", "train_prefs")},
            ultra,
        ),
        "org/lines": Repository({"train.jsonl": lines, "test.jsonl": b'{"ask": "no"}\n'}),
        "org/script": Repository({"script.py": b"x"}, converted={"default/train/0000.parquet": parquet["gsm8k"]}),
    }
    with serving(Hub(made)) as found:
        yield found


class Prefetch:
    """Prefetch jobs for a random model, in the engine's interpreter."""

    def __init__(self, python: str, folder: Path, endpoint: str):
        self.python, self.folder, self.endpoint = python, folder, endpoint

    def run(self, *datasets: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        model = {"kind": "random", "name": "shape", "config": {"vocab_size": 512}}
        job = {"model": model, "prompts_dir": str(self.folder), "datasets": datasets, "download_datasets": True}
        path = self.folder / "job.json"
        path.write_text(json.dumps(job))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = {**clean, "HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.folder / "home")}
        environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "5"
        return subprocess.run(
            [self.python, "-m", "lem_runner", "prefetch", str(path)],
            capture_output=True, text=True, timeout=180, env={**environment, "PYTHONPATH": str(RUNNER)},
        )  # fmt: skip

    def metas(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.meta.json"))]

    def texts(self, name: str) -> list[str]:
        """Of the prompts made from that repository."""
        (meta,) = [meta for meta in self.metas() if meta["source"].get("name") == name]
        lines = (self.folder / f"{meta['key']}.jsonl").read_bytes().splitlines()
        return [Prompt.decode(line).text or "" for line in lines]


RUNNER = Path(__file__).parents[2] / "runner"


@pytest.fixture
def prefetch(engine_python: str, tmp_path: Path, hub: Hub) -> Prefetch:
    return Prefetch(engine_python, tmp_path, hub.endpoint)


def asked(name: str, **changes: Any) -> dict[str, Any]:
    """The entry of a job, from what a campaign file says."""
    reference = dataset_reference(name, [], {})
    entry = {key: value for key, value in reference.items() if value is not None}
    return {**entry, "prompts": 4, "seed": 1, "template": "none", **changes}


def complained(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Our lines; the hub's client tells of its retries beside them."""
    return [line for line in done.stderr.splitlines() if line.startswith("prefetch: ")]


def test_the_named_data_sets_are_fetched_and_read_as_what_they_are(prefetch: Prefetch, hub: Hub) -> None:
    done = prefetch.run(*(asked(name, prompts=20) for name in ("alpaca", "gsm8k", "mmlu", "openorca", "ultrafeedback")))
    assert done.returncode == 0, done.stderr
    assert all(text.startswith("How much is ") for text in prefetch.texts("openai/gsm8k"))
    assert all(text.endswith("B. none\nC. all\nAnswer:") for text in prefetch.texts("cais/mmlu"))
    assert {text.startswith("Be brief.\n\nWhy") for text in prefetch.texts("Open-Orca/OpenOrca")} == {True, False}
    assert all(text.startswith("Tell me of") for text in prefetch.texts("HuggingFaceH4/ultrafeedback_binarized"))
    assert {text.endswith("\n\nto 3") for text in prefetch.texts("tatsu-lab/alpaca")} == {True, False}
    files = [path for path in hub.paths() if "/resolve/" in path]
    assert len(files) == 5
    assert not any("train_sft" in path or "GPT3_5" in path for path in files)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(step) == {"step", "done", "total", "message"} for step in steps)


def test_the_commit_is_pinned_and_asked_for_and_told(prefetch: Prefetch, hub: Hub) -> None:
    assert prefetch.run(asked("hub:org/lines", column="ask")).returncode == 0
    commit = commit_of(hub.repositories["org/lines"].files)
    assert f"/datasets/org/lines/resolve/{commit}/train.jsonl" in hub.paths()
    assert [meta["source"]["commit"] for meta in prefetch.metas()] == [commit]
    hub.repositories["org/lines"].files["train.jsonl"] += b'{"ask": "newer"}\n'
    before = len(hub.asked)
    assert (
        prefetch.run(asked("hub:org/lines", column="ask"), asked("hub:org/lines", column="ask", seed=2)).returncode == 0
    )
    assert len(hub.asked) == before
    assert {meta["source"]["commit"] for meta in prefetch.metas()} == {commit}


def test_a_data_set_without_files_of_its_own_is_taken_from_its_conversion(prefetch: Prefetch) -> None:
    done = prefetch.run(asked("hub:org/script"))
    assert done.returncode == 0, done.stderr
    assert all(text.startswith("How much is ") for text in prefetch.texts("org/script"))


def test_a_fetch_that_broke_goes_on_with_the_file_where_it_stopped(prefetch: Prefetch, hub: Hub) -> None:
    names = ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]
    files = {name: b"".join(b'{"ask": "%d"}\n' % n for n in range(50)) for name in names}
    repository = hub.repositories["org/lines"] = Repository(files, breaks_at=names[1])
    entry = asked("hub:org/lines", column="ask", prompts=100)
    done = prefetch.run(entry, {"kind": "random", "input_len": 4, "prompts": 2, "seed": 1})
    assert done.returncode == 1
    (line,) = complained(done)
    assert "data set 'org/lines' is not in" in line
    assert len(prefetch.metas()) == 1, "what could be prepared was not"
    repository.breaks_at, before = None, len(hub.asked)
    assert prefetch.run(entry).returncode == 0
    fetched = {path for kind, path, _ in hub.asked[before:] if kind == "GET" and "/resolve/" in path}
    assert fetched == {f"/datasets/org/lines/resolve/{commit_of(files)}/{names[1]}"}
    assert len(prefetch.texts("org/lines")) == 100


def test_what_is_there_needs_no_hub_and_what_is_not_is_one_line(prefetch: Prefetch) -> None:
    assert prefetch.run(asked("hub:org/lines", column="ask")).returncode == 0
    prefetch.endpoint = "http://127.0.0.1:9"
    done = prefetch.run(asked("hub:org/lines", column="ask", seed=5), asked("gsm8k"))
    assert done.returncode == 1
    (line,) = complained(done)
    assert "data set 'openai/gsm8k' is not in" in line
    assert "the hub cannot be reached" in line
    assert len(prefetch.metas()) == 2


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("hub:org/none", {}, "the hub has none of that name"),
    ("hub:org/lines@v9", {}, "the hub has no such revision"),
    ("hub:org/lines", {"column": "prompt"}, "no column prompt with text (it has ask, kind)"),
    ("hub:org/lines", {}, "or conversations with text (it has ask, kind)"),
    ("hub:org/lines", {"split": "dev"}, "no file of split dev (it has train.jsonl, test.jsonl)"),
    ("hub:openai/gsm8k:socratic", {}, "no configuration socratic; there are main"),
    ("hub:org/lines", {"column": "ask", "where": {"kind": 7}}, "no prompts in it that pass the filter"),
    ("hub:org/lines", {"column": "ask", "where": {"sort": 7}}, "no column sort to filter by (it has ask, kind)"),
]


def test_what_cannot_be_had_is_one_line_each(prefetch: Prefetch) -> None:
    done = prefetch.run(*(asked(name, **changes) for name, changes, _ in REFUSED))
    assert done.returncode == 1
    complaints = complained(done)
    assert len(complaints) == len(REFUSED)
    for complaint, (_, _, told) in zip(complaints, REFUSED, strict=True):
        assert told in complaint


def test_a_gated_data_set_says_what_to_do(prefetch: Prefetch, hub: Hub) -> None:
    hub.repositories["org/lines"].gated = True
    done = prefetch.run(asked("hub:org/lines", column="ask"))
    assert "data set 'org/lines' is gated: accept its terms" in done.stderr


def test_filters_choose_rows(prefetch: Prefetch) -> None:
    done = prefetch.run(asked("mmlu", where={"subject": ["law"]}, prompts=10))
    assert done.returncode == 0, done.stderr
    numbers = {int(text.split()[2].rstrip("?")) for text in prefetch.texts("cais/mmlu")}
    assert numbers == set(range(1, 20, 2))


def test_a_local_parquet_file_is_read(prefetch: Prefetch, parquet: dict[str, bytes]) -> None:
    file = prefetch.folder / "own.parquet"
    file.write_bytes(parquet["gsm8k"])
    entry = {"kind": "file", "path": str(file), "column": "question", "prompts": 40, "seed": 1}
    assert prefetch.run(entry).returncode == 0
    (meta,) = prefetch.metas()
    assert meta["prompts"] == 40
    file.write_bytes(b"PAR1 no more")
    assert "no Parquet file" in prefetch.run(entry).stderr


def test_hub_prompts_are_prepared_pinned_and_found_again(
    engine_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(home=tmp_path / "home")
    rows = "".join(json.dumps({"question": f"Why {n}?"}) + "\n" for n in range(9)).encode()
    text = """
name: fetch
model: {random: {model_type: llama, vocab_size: 300, hidden_size: 8}}
backend: replay
workload: {dataset: "hub:org/set", prompts: 2, max_new_tokens: 4, select: {column: question}}
"""
    wanted = plan(loads(text))
    (gap,) = missing(wanted, settings, "local")
    assert (gap.what, gap.name) == ("prompts", "2 of hub:org/set")
    monkeypatch.setenv("LEM_PYTHON_PYTORCH", engine_python)
    with serving(Hub({"org/set": Repository({"train.jsonl": rows})})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        steps: list[Step] = []
        prefetch_on_host(wanted, settings, "local", steps.append)
    located = locate(wanted.experiments[0].spec, settings)
    meta = json.loads(located.prompts.with_suffix(".meta.json").read_text())
    assert meta["source"]["commit"] == commit_of({"train.jsonl": rows})
    asked = {"kind": "hub", "name": "org/set", "revision": None}
    assert located.sources["dataset"] == {**asked, "commit": commit_of({"train.jsonl": rows})}
    assert missing(wanted, settings, "local") == []
    prefetch_on_host(wanted, settings, "local", lambda _: None)
    assert steps[-1].what == "prompts: done"


def test_a_model_of_the_hub_is_known_by_its_commit_from_then_on(
    engine_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(home=tmp_path / "home")
    text = """
name: fetch
model: "hf:org/model@main"
backend: replay
workload: {dataset: random, random: {input_len: 8}, prompts: 2, max_new_tokens: 4}
"""
    config = json.dumps({"model_type": "llama", "vocab_size": 300, "hidden_size": 8}).encode()
    files = {"config.json": config, "model.safetensors": b"weights", "README.md": b"not needed"}
    wanted = plan(loads(text))
    monkeypatch.setenv("LEM_PYTHON_PYTORCH", engine_python)
    with serving(Hub({"org/model": Repository(files)})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        prefetch_on_host(wanted, settings, "local", lambda _: None)
        hub.repositories["org/model"] = Repository({**files, "model.safetensors": b"other weights"})
        prefetch_on_host(wanted, settings, "local", lambda _: None)
    located = locate(wanted.experiments[0].spec, settings)
    asked = {"kind": "hf", "name": "org/model", "revision": "main"}
    assert located.sources["model"] == {**asked, "commit": commit_of(files)}
    assert located.model_path is not None
    assert (located.model_path / "model.safetensors").read_bytes() == b"weights"
