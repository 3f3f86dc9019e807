"""`images prefetch`, host side: a job per model for `python -m lem_runner prefetch`, run where its needs are met.

Text needs the model's tokenizer, what lies on the hub its client, Parquet its reader: all of them live in the engine's
interpreter, or in the `prefetch` service, the only container with a network and a token. Everything else needs no more
than the standard library and runs here. The token goes into that process's environment and nowhere else.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lem_runner.prompts import file_sha256
from lemctl.engines.backends import BACKENDS
from lemctl.engines.fetching import FetchLimits, run_job
from lemctl.engines.prepared import (
    Located,
    Missing,
    PromptSet,
    has_model,
    locate,
    missing,
    model_config,
    model_path,
    needs_of,
    traces_of,
)
from lemctl.engines.traces import prepare_trace
from lemctl.errors import LemctlError, PreflightRefused
from lemctl.paths import runner_source
from lemctl.steps import Tell

if TYPE_CHECKING:
    from lemctl.campaign.plan import Plan
    from lemctl.engines.containers import ContainerSpec
    from lemctl.settings import Settings

__all__ = ["Located", "Missing", "locate", "missing", "model_config", "prefetch"]

#: The engine whose interpreter or image reads tokenizers and talks to the hub.
TEXT_BACKEND = "pytorch"
SERVICE = "prefetch"
#: What a fetching process may see of our environment.
ALLOWED_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "HF_TOKEN", "HF_ENDPOINT",
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy",
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
)  # fmt: skip
_MOUNT = Path("/lem")


def prefetch(plan: Plan, settings: Settings, executor: str, tell: Tell) -> None:
    """Fetch the plan's models and prepare its prompts. What is there already costs nothing.

    Raises `PreflightRefused` with what could not be had, after everything else was prepared.
    """
    settings.paths.create()
    settings.models.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    for trace in traces_of(plan):
        complaint = prepare_trace(trace, settings.dataset_dirs, settings.paths.prompts)
        complaints += [] if complaint is None else [complaint]
    for model, wanted in needs_of(plan):
        complaints += _do_job(model, wanted, settings, executor, tell)
    _let_engines_read(settings, [model_path(model, settings) for model, _ in needs_of(plan) if model["kind"] == "hf"])
    if complaints:
        raise PreflightRefused("; ".join(dict.fromkeys(complaints)))


def _do_job(
    model: Mapping[str, Any],
    wanted: Sequence[PromptSet],
    settings: Settings,
    executor: str,
    tell: Tell,
) -> list[str]:
    """One model with its prompts; returns complaints."""
    has_text = any(prompts.kind in ("file", "hub") for prompts in wanted)
    needs_engine = any(map(_needs_libraries, wanted)) or (
        model["kind"] != "random" and (has_text or not has_model(model_path(model, settings)))
    )
    in_container = executor == "docker" and needs_engine
    with _job_folder(settings) as folder:
        seen_at = (lambda path: _mounted(path, settings)) if in_container else (lambda path: path)
        job, complaints = _job(model, wanted, settings, folder, seen_at)
        job_file = folder / "job.json"
        job_file.write_text(json.dumps(job))
        argv = ["-m", "lem_runner", "prefetch", str(seen_at(job_file))]
        if in_container:
            own = [settings.paths.prompts, folder, *folder.rglob("*")]
            own += [settings.models] if not has_model(model_path(model, settings)) else []
            own += (settings.paths.prompts / "datasets").rglob("*")
            command, environment, remove = _container_command(argv, settings, own)
        else:
            command = [BACKENDS[TEXT_BACKEND].local_interpreter if needs_engine else sys.executable, *argv]
            environment, remove = _environment(), _nothing
        # A person knows a file by its name in the campaign, not the copy that the job works on, and the host's folders.
        names = {str(seen_at(copy)): f"file:{copy.name}" for copy in folder.glob("*/*")}
        names |= {f"{seen_at(path)}/": f"{path}/" for path in (settings.models, settings.paths.prompts)}

        def named(text: str) -> str:
            for seen, name in names.items():
                text = text.replace(seen, name)
            return text

        said = run_job(
            command,
            environment,
            lambda step: tell(replace(step, what=named(step.what))),
            FetchLimits(settings.prefetch_total_s, settings.prefetch_silence_s),
            remove,
        )
        return complaints + [named(complaint) for complaint in said]


def _nothing() -> None:
    """A process of ours leaves nothing behind."""


def _needs_libraries(prompts: PromptSet) -> bool:
    """Whether the standard library is not enough to read them, whatever the model."""
    return prompts.kind == "hub" or (prompts.name or "").lower().endswith(".parquet")


def _job(
    model: Mapping[str, Any],
    wanted: Sequence[PromptSet],
    settings: Settings,
    folder: Path,
    seen_at: Callable[[Path], Path],
) -> tuple[dict[str, Any], list[str]]:
    """The job, with data files copied into its folder, and complaints about data files that have changed."""
    path = model_path(model, settings)
    described = {"kind": model["kind"], "name": model["name"], "revision": model["revision"], "config": model["config"]}
    if path is not None:
        # The runner takes a plain folder name; a model may lie deeper.
        described |= {"name": model["name"] if model["kind"] == "hf" else path.name, "path": str(seen_at(path))}
    entries, complaints = [], []
    for prompts in wanted:
        entry = prompts.content() | {"prompts": prompts.prompts, "seed": prompts.seed, "template": prompts.template}
        if prompts.kind == "file":
            source = _data_file(prompts, settings)
            if source is None:
                complaints.append(f"file:{prompts.name} is gone or has changed since the campaign file was read")
                continue
            copy = folder / (prompts.sha256 or "")[:12] / source.name
            if not copy.exists():
                copy.parent.mkdir(mode=0o755)
                shutil.copyfile(source, copy)
                copy.chmod(0o644)
            entry["path"] = str(seen_at(copy))
        entries.append(entry)
    return {
        "model": described,
        "models_dir": str(seen_at(settings.models)),
        "prompts_dir": str(seen_at(settings.paths.prompts)),
        "datasets": entries,
        "download": model["kind"] == "hf",
        "download_datasets": True,
    }, complaints


def _data_file(prompts: PromptSet, settings: Settings) -> Path | None:
    """The file of that name and content in the data-set folders."""
    for folder in settings.dataset_dirs:
        candidate = folder / (prompts.name or "")
        if candidate.is_file() and file_sha256(candidate) == prompts.sha256:
            return candidate
    return None


@contextmanager
def _job_folder(settings: Settings) -> Iterator[Path]:
    """A folder for one job inside the prompt folder, which the `prefetch` service sees; gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=settings.paths.prompts, prefix=".job-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    allowed = {name: os.environ[name] for name in ALLOWED_ENVIRONMENT if name in os.environ}
    return allowed | {
        "PYTHONPATH": str(runner_source().parent),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _container_command(
    argv: Sequence[str], settings: Settings, own: Sequence[Path]
) -> tuple[list[str], dict[str, str], Callable[[], None]]:
    """The service's command line, its environment, and what removes its container, which outlives a client that is
    ended; `own` is what it writes to, handed to its user where we are root."""
    from lemctl.engines.containers import Containers
    from lemctl.engines.errors import ContainerFault

    containers = Containers()
    spec = _service(settings)
    uid, gid = int(spec.env["LEM_UID"]), int(spec.env["LEM_GID"])
    if os.getuid() == 0:
        for path in own:
            os.chown(path, uid, gid)
    command = containers.run_command(spec, [BACKENDS[TEXT_BACKEND].interpreter, *argv])

    def remove() -> None:
        with suppress(ContainerFault):  # no engine answers: the next start of a daemon sweeps
            containers.remove(spec)

    # Compose passes the token on by its name: it stands in no command line.
    return command, dict(os.environ), remove


def _service(settings: Settings) -> ContainerSpec:
    from lemctl.engines.containers import Containers, ContainerSpec
    from lemctl.engines.docker import DockerExecutor
    from lemctl.engines.runner_copy import copy_runner
    from lemctl.paths import data_folder

    home = settings.paths
    runner = copy_runner(runner_source(), home.runner)
    user = DockerExecutor(settings, runner, Containers())
    environment = {
        f"LEM_IMAGE_{TEXT_BACKEND.upper()}": BACKENDS[TEXT_BACKEND].image_ref,
        "LEM_RUNNER_DIR": str(runner.root),
        "LEM_MODELS_DIR": str(settings.models),
        "LEM_PROMPTS_DIR": str(home.prompts),
        "LEM_SESSIONS_DIR": str(home.sessions),
        "LEM_UID": str(user.uid),
        "LEM_GID": str(user.gid),
        "LEM_HOME_HASH": home.hash,
    }
    # One for each prefetch: two may run beside each other, and each removes its own.
    project = f"lem-{home.hash}-{SERVICE}-{os.getpid()}"
    return ContainerSpec(project, SERVICE, (data_folder() / "compose.yaml",), environment, home.hash)


def _mounted(path: Path, settings: Settings) -> Path:
    """A path below the model or prompt folder as the service sees it."""
    for host, mounted in ((settings.paths.prompts, "prompts"), (settings.models, "models")):
        if path.is_relative_to(host):
            return _MOUNT / mounted / path.relative_to(host)
    raise LemctlError(f"{path} is not mounted into containers")


def _let_engines_read(settings: Settings, fetched: Sequence[Path | None]) -> None:
    """Containers of root run as another user: what was prepared is made readable. The state folder stays 0700."""
    folders = [settings.paths.prompts, *(folder for folder in fetched if folder is not None and folder.is_dir())]
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink() and os.access(path, os.W_OK):
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
