"""What was prepared before the night, and where it lies on this host: model folders, prompt files, images.

Only looks, never fetches; the fetching is in `prefetch`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lem_runner.named_datasets import HUB_PARTS
from lem_runner.prompts import (
    TOKENIZER_FILES,
    file_sha256,
    model_folder_name,
    prompt_key,
    read_dataset_record,
    read_model_record,
    tokenizer_identity,
)
from lem_runner.protocol import canonical_json
from lemctl.engines.backends import BACKENDS
from lemctl.engines.folders import folders_named, is_inside
from lemctl.engines.sources import sources_of
from lemctl.engines.traces import trace_of, trace_path
from lemctl.errors import RunFailed

if TYPE_CHECKING:
    from lemctl.campaign.plan import Experiment, Plan
    from lemctl.settings import Settings

DOCKER_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Located:
    """Where an experiment's inputs lie on this host. `model_path` is None for a random model."""

    model_path: Path | None
    prompts: Path
    prompts_sha256: str
    tokenizer: str
    trace: Path | None = None
    trace_sha256: str | None = None
    sources: Mapping[str, Any] = field(default_factory=dict)
    """`sources.sources_of`: which commits the model and the data set are of."""


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that a plan needs and this host has not. `fix` is a command; None: `lemctl images prefetch FILE`."""

    what: Literal["image", "model", "prompts", "trace"]
    name: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts as an experiment asks for them: the entry of a prefetch job, without the key."""

    kind: str
    name: str | None
    sha256: str | None
    input_len: int | None
    prompts: int
    seed: int
    template: str
    revision: str | None = None
    choice: str = "{}"
    """What else chooses the prompts and makes their lengths, as canonical JSON."""

    @classmethod
    def of(cls, workload: Mapping[str, Any]) -> PromptSet:
        """From the `workload` section of a specification."""
        dataset = workload["dataset"]
        return cls(
            kind=dataset["kind"],
            name=dataset["name"],
            sha256=dataset["sha256"],
            input_len=dataset["input_len"],
            prompts=workload["prompts"],
            seed=workload["seed"],
            template=workload["template"],
            revision=dataset["revision"],
            choice=canonical_json(_choice(workload)),
        )

    def content(self) -> dict[str, Any]:
        """What decides the prompts, apart from their number, seed and template. A file counts by its content."""
        choice = json.loads(self.choice)
        if self.kind == "file":
            return {"kind": "file", "sha256": self.sha256, "format": Path(self.name or "").suffix.lower(), **choice}
        if self.kind == "hub":
            return {"kind": "hub", "name": self.name, "revision": self.revision, **choice}
        return {"kind": self.kind, "input_len": self.input_len, **choice}

    @property
    def label(self) -> str:
        """`200 of file:demo.jsonl`: for a message."""
        revision = f"@{self.revision}" if self.revision else ""
        each = f"{self.input_len} each" if self.input_len else "of drawn lengths"
        source = f"random ids, {each}" if self.kind == "random" else f"{self.kind}:{self.name}{revision}"
        return f"{self.prompts} of {source}"


def _choice(workload: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: workload["dataset"].get(name) for name in HUB_PARTS}
    chosen = {**parts, **workload.get("select", {}), "lengths": workload.get("lengths")}
    return {name: value for name, value in chosen.items() if value is not None}


def model_path(model: Mapping[str, Any], settings: Settings) -> Path | None:
    """The folder of a model, whether it is there or not; None for a random one."""
    if model["kind"] == "random":
        return None
    name = model_folder_name(model["name"], model["revision"]) if model["kind"] == "hf" else model["name"]
    return settings.models / name


def has_model(folder: Path | None) -> bool:
    """Whether the folder holds a model; a random one needs none."""
    return folder is None or (folder / "config.json").is_file()


def model_config(model: Mapping[str, Any], settings: Settings) -> dict[str, Any] | None:
    """The model's own configuration, where it is at hand."""
    folder = model_path(model, settings)
    if folder is None:
        config: dict[str, Any] | None = model["config"]
        return config
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def stored_weights_b(folder: Path) -> int | None:
    """Bytes of a model's weights as its files hold them, quantised or not; None where no safetensors say so."""
    try:
        index = folder / "model.safetensors.index.json"
        if not index.is_file():
            return (folder / "model.safetensors").stat().st_size
        files: set[str] = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        return sum((folder / name).stat().st_size for name in files)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def is_stored_quantised(folder: Path) -> bool:
    """Whether NVIDIA's ModelOpt left its note of quantisation; other tools write theirs into `config.json`."""
    return (folder / "hf_quant_config.json").exists()


def tokenizer_of(model: Mapping[str, Any], settings: Settings) -> str:
    """What turns text into ids for this model. The model must be there."""
    folder = model_path(model, settings)
    if folder is None:
        return tokenizer_identity(model, None)
    stats = ((name, (folder / name).stat()) for name in TOKENIZER_FILES if (folder / name).is_file())
    return _tokenizer_of_folder(folder, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@lru_cache(maxsize=256)
def _tokenizer_of_folder(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:  # noqa: ARG001
    """Hashed again only where a file of it has changed."""
    return tokenizer_identity({"kind": "path"}, folder)


def prompt_path(prompts: PromptSet, tokenizer: str, settings: Settings) -> Path | None:
    """The prepared file, whether it is there or not; None for a hub data set that was never fetched: the commit, which
    names the file, is pinned then."""
    content = prompts.content()
    if prompts.kind == "hub":
        record = read_dataset_record(settings.paths.prompts, content)
        if record is None:
            return None
        content["commit"] = record["commit"]
    key = prompt_key(content, prompts.prompts, prompts.seed, prompts.template, tokenizer)
    return settings.paths.prompts / f"{key}.jsonl"


def is_prepared(path: Path | None) -> bool:
    """Whether the file is there and whole: its meta file is written last."""
    return path is not None and path.exists() and path.with_suffix(".meta.json").exists()


def longest_prepared(model: Mapping[str, Any], workload: Mapping[str, Any], settings: Settings) -> int | None:
    """Tokens of the longest prompt of this workload; None where they are not prepared. The model must be there."""
    path = prompt_path(PromptSet.of(workload), tokenizer_of(model, settings), settings)
    try:
        longest = None if path is None else json.loads(path.with_suffix(".meta.json").read_text("utf-8"))["max_length"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return longest if type(longest) is int else None


def locate(spec: Mapping[str, Any], settings: Settings) -> Located:
    """Where the inputs of an experiment lie. Raises `RunFailed` (infra) where they have gone since the start."""
    folder = model_path(spec["model"], settings)
    if not has_model(folder):
        raise RunFailed("infra", f"the model is no longer in {folder}; `lemctl images prefetch FILE` fetches it")
    wanted, tokenizer = PromptSet.of(spec["workload"]), tokenizer_of(spec["model"], settings)
    path = prompt_path(wanted, tokenizer, settings)
    try:
        if path is None or not path.exists():
            raise FileNotFoundError(path)
        meta = json.loads(path.with_suffix(".meta.json").read_text("utf-8"))
        found = Located(folder, path, str(meta["sha256"]), tokenizer, sources=_sources(spec, folder, wanted, settings))
        trace = trace_of(spec["workload"])
        if trace is None:
            return found
        played = trace_path(trace, settings.paths.prompts)
        return replace(found, trace=played, trace_sha256=file_sha256(played))
    except (OSError, ValueError, KeyError) as error:
        raise RunFailed(
            "infra",
            f"the prompts ({wanted.label}) or the trace are not in {settings.paths.prompts};"
            " `lemctl images prefetch FILE` prepares them",
        ) from error


def _sources(spec: Mapping[str, Any], folder: Path | None, prompts: PromptSet, settings: Settings) -> dict[str, Any]:
    fetched = None if folder is None else read_model_record(folder)
    is_hub = prompts.kind == "hub"
    data = read_dataset_record(settings.paths.prompts, prompts.content()) if is_hub else None
    return sources_of(spec, fetched, data)


def missing(plan: Plan, settings: Settings, executor: str) -> list[Missing]:
    """What the plan needs and this host has not: images (docker only), models, prompts."""
    gaps: list[Missing] = []
    if executor == "docker":
        gaps += missing_images({experiment.backend for experiment in plan.experiments})
    for model, experiments in by_model(plan):
        folder = model_path(model, settings)
        if not has_model(folder):
            gaps.append(_missing_model(model, folder))
            continue
        if executor == "docker" and folder is not None and (file := _closed_file(folder, settings)) is not None:
            name = f"{model['kind']}:{model['name']} ({file} is not readable by the user of containers)"
            gaps.append(Missing("model", name, f"chmod -R a+rX {folder}"))
        tokenizer = tokenizer_of(model, settings)
        gaps += [
            Missing("prompts", prompts.label)
            for prompts in prompt_sets(experiments)
            if not is_prepared(prompt_path(prompts, tokenizer, settings))
        ]
    gaps += _missing_folders(plan, settings, executor)
    gaps += [
        Missing("trace", f"file:{trace['name']}")
        for trace in traces_of(plan)
        if not trace_path(trace, settings.paths.prompts).exists()
    ]
    return gaps


def _missing_folders(plan: Plan, settings: Settings, executor: str) -> list[Missing]:
    """Folders that engine parameters name and that are not there, or that containers cannot read."""
    gaps = []
    engines = {id(one.spec["engine"]): one.spec["engine"] for one in plan.experiments}
    for name in dict.fromkeys(name for engine in engines.values() for name in folders_named(engine)):
        folder = settings.models / name
        if not is_inside(name):
            gaps.append(
                Missing("model", f"path:{name} (it leaves {settings.models})", f"cp -r YOUR_FOLDER {settings.models}")
            )
        elif not folder.is_dir():
            gaps.append(Missing("model", f"path:{name} (no folder {folder})", f"cp -r YOUR_FOLDER {folder}"))
        elif executor == "docker" and (file := _closed_file(folder, settings)) is not None:
            what = f"path:{name} ({file} is not readable by the user of containers)"
            gaps.append(Missing("model", what, f"chmod -R a+rX {folder}"))
    return gaps


def traces_of(plan: Plan) -> list[Mapping[str, Any]]:
    """The distinct traces that the plan plays."""
    found = {id(one.spec["workload"]): trace_of(one.spec["workload"]) for one in plan.experiments}
    return list({trace["sha256"]: trace for trace in found.values() if trace is not None}.values())


def needs_of(plan: Plan) -> list[tuple[Mapping[str, Any], list[PromptSet]]]:
    """Every model of the plan with the distinct prompt sets that its experiments ask for."""
    return [(model, prompt_sets(experiments)) for model, experiments in by_model(plan)]


def by_model(plan: Plan) -> list[tuple[Mapping[str, Any], list[Experiment]]]:
    """Every model of the plan with its experiments."""
    models: dict[str, tuple[Mapping[str, Any], list[Experiment]]] = {}
    names: dict[int, str] = {}
    for experiment in plan.experiments:
        model = experiment.spec["model"]
        # Experiments share their sections: thousands of them name a handful.
        if id(model) not in names:
            names[id(model)] = json.dumps(model, sort_keys=True)
        models.setdefault(names[id(model)], (model, []))[1].append(experiment)
    return list(models.values())


def prompt_sets(experiments: Iterable[Experiment]) -> list[PromptSet]:
    """The distinct prompt sets that experiments ask for."""
    workloads = {id(one.spec["workload"]): one.spec["workload"] for one in experiments}
    return list(dict.fromkeys(PromptSet.of(workload) for workload in workloads.values()))


def missing_images(backends: Iterable[str]) -> list[Missing]:
    """The images of these backends that the engine's store has not. Without an engine that answers: all of them.

    One call of the plain client for each: this look is part of every `plan`, and must cost little.
    """
    gaps = []
    for name in sorted(backends):
        row = BACKENDS[name]
        trouble = _image_trouble(row.image_ref)
        if trouble == "missing":
            fix = f"lemctl images build {name}" if row.can_build else f"docker pull {row.image_ref}"
            gaps.append(Missing("image", row.image_ref, fix))
        elif trouble is not None:
            gaps.append(Missing("image", f"{row.image_ref} ({trouble})", "lemctl doctor"))
    return gaps


def _image_trouble(ref: str) -> str | None:
    """`missing`, or why the engine cannot be asked; None when the image is there."""
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", ref]
    try:
        said = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DOCKER_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return "no docker client"
    except (OSError, subprocess.TimeoutExpired):
        return "the Docker engine does not answer"
    if said.returncode == 0:
        return None
    return "missing" if b"no such image" in said.stderr.lower() else "the Docker engine does not answer"


def _closed_file(folder: Path, settings: Settings) -> Path | None:
    """A file of the model that containers cannot read because they run as another user; safetensors are often 0600."""
    uid = settings.puid if settings.puid is not None else os.getuid()
    is_ours = uid == os.getuid() != 0
    files = (path for path in (folder, *folder.rglob("*")) if not path.is_symlink())
    return next((path for path in files if not is_ours and not path.stat().st_mode & 0o004), None)


def _missing_model(model: Mapping[str, Any], folder: Path | None) -> Missing:
    name = f"{model['kind']}:{model['name']}"
    if model["kind"] == "hf":
        return Missing("model", name)
    return Missing("model", f"{name} (no config.json in {folder})", f"cp -r YOUR_MODEL {folder}")
