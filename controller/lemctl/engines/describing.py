"""What an installed engine says of its own parameters: `describe`, run where the engine is."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from lemctl.engines.backends import Backend
from lemctl.engines.local import runner_environment
from lemctl.errors import PreflightRefused
from lemctl.paths import runner_source
from lemctl.settings import Settings

#: Importing an engine can take a minute on a cold disk.
TIMEOUT_S = 300.0


def describe(backend: Backend, settings: Settings, executor: str, gpus: Sequence[str]) -> str:
    """What `python -m lem_runner describe` prints in the backend's interpreter or image; `gpus` are given to the
    container. Raises `PreflightRefused` where the engine is not here or cannot be imported.
    """
    argv = ["-m", "lem_runner", "describe", backend.name]
    if executor == "docker":
        command = _in_a_container(backend, settings, gpus, argv)
        environment = None
    else:
        command = [backend.local_interpreter, *argv]
        environment = runner_environment(runner_source().parent, {})
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreflightRefused(f"{backend.name} cannot be asked: {error}") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        last = said[-1].removeprefix("lem_runner: ") if said else f"exit code {done.returncode}"
        raise PreflightRefused(f"{backend.name} cannot be asked: {last}")
    return done.stdout


def _in_a_container(backend: Backend, settings: Settings, gpus: Sequence[str], argv: Sequence[str]) -> list[str]:
    """A container of its own that is gone afterwards, hardened as every other."""
    from lemctl.engines.containers import Containers
    from lemctl.engines.docker import DockerExecutor
    from lemctl.engines.runner_copy import copy_runner

    settings.paths.create()
    settings.models.mkdir(parents=True, exist_ok=True)
    containers = Containers()
    executor = DockerExecutor(settings, copy_runner(runner_source(), settings.paths.runner), containers)
    executor.identity(backend)
    spec = executor.container_spec(backend, "describe", gpus)
    return containers.run_command(spec, [backend.interpreter, *argv])
