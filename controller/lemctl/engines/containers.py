"""The container engine: up, down, kill, restart, inspect, build, and what is left over from a crash.

The only importer of python-on-whales, and the edge at which its exceptions become ours (`engines.errors`). What runs
inside a container is not known here: `session.py` starts that from `exec_command`, because python-on-whales' own exec
has no stream, no timeout and no control over stdin.

python-on-whales waits for ever. So every client it starts runs under coreutils' `timeout`, which ends the client and
the Compose plugin below it (one process group) when the engine hangs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lem_runner.oom import oom_counter
from lemctl.engines.errors import ContainerFault, ContainerGone, EngineUnavailable, ImageMissing

if TYPE_CHECKING:
    from python_on_whales import Container, DockerClient

#: The label on everything that belongs to one state folder; its value is that folder's hash.
HOME_LABEL = "lemctl.home"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"

CALL_TIMEOUT_S = 30.0
QUICK_TIMEOUT_S = 5.0
UP_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 3600.0
#: A client that ignores SIGTERM this long is killed.
KILL_AFTER_S = 5.0

#: coreutils `timeout`: 124 when SIGTERM was enough, 137 when it had to kill. subprocess says -9 of a killed group.
_TIMED_OUT_CODES = frozenset({124, 137, -9})
_UNREACHABLE = ("cannot connect to the docker daemon", "error during connect", "failed to connect to the docker api")


@dataclass(frozen=True)
class DockerFacts:
    """The engine as it answered."""

    engine_version: str
    compose_version: str
    root_dir: Path | None
    live_restore: bool
    runtimes: tuple[str, ...]


@dataclass(frozen=True)
class ContainerSpec:
    """One service of one project. `env` fills the compose files' variables and wins over the caller's environment.

    It is readable in the process table: secrets are never put there (Compose passes a token on by its name alone).
    """

    project: str
    service: str
    compose_files: tuple[Path, ...]
    env: Mapping[str, str]
    home_hash: str


@dataclass(frozen=True)
class ContainerFacts:
    """A container as last inspected. `exit_code` is None while it runs, `health` without a health check.

    `oom_killed` tells of the container's first process only; for exec'ed ones see `Containers.oom_counter`.
    """

    id: str
    name: str
    project: str | None
    service: str | None
    image_id: str
    state: str
    exit_code: int | None
    oom_killed: bool
    health: str | None
    pid: int | None

    @property
    def is_running(self) -> bool:
        """Whether a runner can be exec'ed in it."""
        return self.state == "running"


@dataclass(frozen=True)
class ImageFacts:
    """An image in the engine's store. `digests` are its names by digest, none where it was built here."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    labels: Mapping[str, str]


class Containers:
    """The container engine of this host, or the one at `host` (as DOCKER_HOST).

    Every method raises `EngineUnavailable` when no engine answers within its time, `ContainerFault` for the rest.
    """

    def __init__(self, host: str | None = None, call_timeout_s: float = CALL_TIMEOUT_S):
        self._host = host
        self._call_timeout_s = call_timeout_s

    def ping(self) -> DockerFacts:
        """Ask engine and Compose for their versions."""
        with _translated("asking for the engine's version"):
            client = self._client(self._call_timeout_s)
            info = client.system.info()
            if info.server_version is None:
                raise EngineUnavailable("no Docker engine answers; start it, or use the local executor")
            compose = client.compose.version().split()[-1].removeprefix("v")
        restores, runtimes = bool(info.live_restore_enabled), tuple(info.runtimes or ())
        return DockerFacts(info.server_version, compose, info.docker_root_dir, restores, runtimes)

    def data_folder(self) -> Path | None:
        """Where the engine keeps images and containers; None where that is not a folder of this host."""
        with _translated("asking for the engine's data folder"):
            client = self._client(self._call_timeout_s)
            address = self._host or client.context.inspect(None).endpoints["docker"].host
            root = client.system.info().docker_root_dir
        is_here = str(address).startswith("unix://")
        return root if is_here and root is not None and root.is_dir() else None

    def silence(self) -> str | None:
        """Why the engine does not answer, None when it does: one quick question."""
        try:
            with _translated("asking whether it answers"):
                self._client(QUICK_TIMEOUT_S).version()
        except ContainerFault as fault:
            return fault.message
        return None

    def up(self, spec: ContainerSpec, *, force_recreate: bool = False) -> ContainerFacts:
        """Bring the service's container up and return it as it is then.

        A running container of the same configuration stays as it is, unless `force_recreate`. Raises `ImageMissing`.
        """
        with _translated(f"starting {spec.service}", image=spec.env.get(f"LEM_IMAGE_{spec.service.upper()}")):
            self._client(UP_TIMEOUT_S, spec).compose.up(
                [spec.service], detach=True, no_build=True, pull="never", force_recreate=force_recreate, quiet=True
            )
        facts = self.find(spec)
        if facts is None or not facts.is_running:
            seen = f"{facts.state}, exit code {facts.exit_code}" if facts else "gone"
            raise ContainerFault(f"the container of {spec.service} is {seen} right after its start")
        return facts

    def find(self, spec: ContainerSpec) -> ContainerFacts | None:
        """The service's container, running or not; None when there is none."""
        labels = {PROJECT_LABEL: spec.project, SERVICE_LABEL: spec.service}
        return next(iter(self._labelled(labels)), None)

    def exec_command(self, spec: ContainerSpec, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `argv` in the service's container, with `env` added to its environment.

        For `subprocess.Popen`. It has no time limit of its own, and its exit code tells little: the process inside
        outlives its client.
        """
        return self._compose_command(spec, ["exec", "-T"], argv, env)

    def run_command(self, spec: ContainerSpec, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `argv` in a container of its own, removed at its end. For `subprocess.Popen`."""
        return self._compose_command(spec, ["run", "--rm", "-T", "--no-deps"], argv, env)

    def kill(self, spec: ContainerSpec) -> None:
        """SIGKILL everything in the service's container; it stays, exited. Nothing happens when it does not run."""
        facts = self.find(spec)
        if facts is None or not facts.is_running:
            return
        with _translated(f"killing {spec.service}"):
            self._client(self._call_timeout_s, spec).compose.kill([spec.service])

    def restart(self, spec: ContainerSpec, *, grace_s: int = 0) -> ContainerFacts:
        """End everything in the service's container and start it anew; SIGKILL after `grace_s`."""
        with _translated(f"restarting {spec.service}"):
            self._client(self._call_timeout_s + grace_s, spec).compose.restart([spec.service], timeout=grace_s)
        facts = self.find(spec)
        if facts is None:
            raise ContainerGone(f"the container of {spec.service} is gone after its restart")
        return facts

    def down(self, spec: ContainerSpec, *, grace_s: int = 0) -> None:
        """Remove the project's containers; nothing happens when there are none."""
        with _translated(f"removing {spec.project}"):
            self._client(UP_TIMEOUT_S + grace_s, spec).compose.down(timeout=grace_s, remove_orphans=True, quiet=True)

    def inspect(self, container_id: str) -> ContainerFacts:
        """The container as it is now. Raises `ContainerGone`."""
        with _translated(f"inspecting container {container_id[:12]}"):
            return _facts(self._client(self._call_timeout_s).container.inspect(container_id))

    def leftovers(self, home_hash: str) -> list[ContainerFacts]:
        """Every container of that state folder, running or not, whatever its project."""
        return self._labelled({HOME_LABEL: home_hash})

    def sweep(self, home_hash: str) -> int:
        """Remove every container of that state folder; returns how many there were. None has a network of its own."""
        return self._remove(self.leftovers(home_hash))

    def remove(self, spec: ContainerSpec) -> int:
        """Remove every container of the project, running or not; `down` may pass over those of `run_command`."""
        return self._remove(self._labelled({PROJECT_LABEL: spec.project}))

    def _remove(self, found: Sequence[ContainerFacts]) -> int:
        removed = 0
        client = self._client(self._call_timeout_s)
        for container in found:
            with suppress(ContainerGone), _translated(f"removing container {container.name}"):
                client.container.remove(container.id, force=True, volumes=True)
                removed += 1
        return removed

    def oom_counter(self, container_id: str) -> Path | None:
        """The file in which the kernel counts what it killed for memory in the running container, since its start.

        It is the container's cgroup's: the engine reports only the first process' death, never an exec'ed one's. None
        when the container does not run, or its cgroup is not readable here (an engine on another host).
        """
        pid = self.inspect(container_id).pid
        return None if pid is None else oom_counter(pid)

    def image_facts(self, ref: str) -> ImageFacts | None:
        """The image of that name, None when the engine's store has none. Nothing is pulled."""
        try:
            with _translated(f"looking for image {ref}", image=ref):
                image = self._client(self._call_timeout_s).image.inspect(ref)
                labels = image.config.labels or {}
                return ImageFacts(image.id, tuple(image.repo_tags), tuple(image.repo_digests), image.size, labels)
        except ImageMissing:
            return None

    def build(self, build_file: Path, env: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        """Build what a `images/<backend>/build.yaml` describes; `on_line` gets every line of the build's output."""
        spec = ContainerSpec("lem-build", "", (build_file,), env, "")
        with _translated(f"building {build_file.parent.name}"):
            lines = self._client(BUILD_TIMEOUT_S, spec).compose.build(progress="plain", stream_logs=True)
            for _, line in lines or ():
                on_line(line.decode(errors="replace").rstrip())

    def _labelled(self, labels: Mapping[str, str]) -> list[ContainerFacts]:
        client = self._client(self._call_timeout_s)
        with _translated("listing containers"):
            found = client.container.list(all=True, filters=[("label", f"{name}={labels[name]}") for name in labels])
        facts = []
        for container in found:
            # It may have been removed between the list and the look.
            with suppress(ContainerGone), _translated("inspecting a container"):
                facts.append(_facts(container))
        return facts

    def _compose_command(
        self, spec: ContainerSpec, verb: list[str], argv: Sequence[str], env: Mapping[str, str] | None
    ) -> list[str]:
        variables = [part for name, value in (env or {}).items() for part in ("--env", f"{name}={value}")]
        with _translated("looking for the docker client"):
            compose = self._client(None, spec).client_config.docker_compose_cmd
        return [*map(str, compose), *verb, *variables, spec.service, *argv]

    def _client(self, timeout_s: float | None, spec: ContainerSpec | None = None) -> DockerClient:
        from python_on_whales import DockerClient

        if shutil.which("docker") is None:
            raise EngineUnavailable("the docker client is not installed; install Docker, or use the local executor")
        limit = ["timeout", f"--kill-after={KILL_AFTER_S:g}", f"{timeout_s:g}"] if timeout_s else []
        if spec is None:
            return DockerClient(host=self._host, client_call=[*limit, "docker"], client_type="docker")
        return DockerClient(
            host=self._host,
            client_call=["env", *(f"{name}={value}" for name, value in spec.env.items()), *limit, "docker"],
            client_type="docker",
            compose_files=list(spec.compose_files),
            compose_project_name=spec.project,
        )


def _facts(container: Container) -> ContainerFacts:
    state, labels = container.state, container.config.labels or {}
    running = bool(state.running)
    return ContainerFacts(
        id=container.id,
        name=container.name,
        project=labels.get(PROJECT_LABEL),
        service=labels.get(SERVICE_LABEL),
        image_id=container.image,
        state=state.status or "unknown",
        exit_code=None if running else state.exit_code,
        oom_killed=bool(state.oom_killed),
        health=state.health.status if state.health else None,
        pid=state.pid if running and state.pid else None,
    )


@contextmanager
def _translated(doing: str, image: str | None = None) -> Iterator[None]:
    """Turn python-on-whales' exceptions into ours; `doing` completes "... while"."""
    from python_on_whales import ClientNotFoundError
    from python_on_whales.client_config import ParsingError
    from python_on_whales.exceptions import DockerException, NoSuchContainer, NoSuchImage, NoSuchService

    try:
        yield
    except ClientNotFoundError as error:
        raise EngineUnavailable(f"the docker client cannot be run while {doing}", str(error)) from error
    except ParsingError as error:
        raise ContainerFault(f"the engine's answer was not understood while {doing}", str(error)) from error
    except NoSuchImage as error:
        name = image or "the image"
        raise ImageMissing(
            f"{name} is not in the engine's store; `lemctl images build` makes it", _said(error)
        ) from error
    except (NoSuchContainer, NoSuchService) as error:
        raise ContainerGone(f"no such container while {doing}", _said(error)) from error
    except DockerException as error:
        raise _fault(doing, error.return_code, _said(error)) from error


def _said(error: Exception) -> str:
    return str(getattr(error, "stderr", None) or error).strip()


def _fault(doing: str, return_code: int, said: str) -> ContainerFault:
    if return_code in _TIMED_OUT_CODES:
        return EngineUnavailable(f"the Docker engine did not answer in time while {doing}", said)
    if any(phrase in said.lower() for phrase in _UNREACHABLE):
        return EngineUnavailable(f"no Docker engine answers (while {doing}); start it, or use the local executor", said)
    last_line = said.splitlines()[-1] if said else f"exit code {return_code}"
    return ContainerFault(f"the Docker engine refused while {doing}: {last_line}", said)
