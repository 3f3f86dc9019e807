"""The docker executor: a warm container per backend and lane, a runner exec'ed in it for each session."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lem_runner.oom import has_grown, read_oom_kills
from lem_runner.protocol import PID_FILE
from lemctl.engines.backends import Backend
from lemctl.engines.containers import Containers, ContainerSpec
from lemctl.engines.entrusted import read_entrusted
from lemctl.engines.errors import ContainerFault, ImageMissing
from lemctl.engines.executor import Opened, Place
from lemctl.engines.local import ChildProcess, death_of
from lemctl.engines.runner_copy import RunnerCopy, copy_runner
from lemctl.engines.session import Death, Session
from lemctl.engines.watchdogs import Limits
from lemctl.errors import RunFailed
from lemctl.paths import data_folder, runner_source
from lemctl.settings import Settings

#: Root does not run engines: its containers get this user, and the session folder with it.
NOBODY = 65532
KILL_TIMEOUT_S = 10.0
#: A container that dies with its runner is given so long to be seen dead.
DYING_S = 3.0
#: What a process killed by SIGKILL is said to have ended with.
EXIT_KILLED = 137
#: An engine that does not answer is asked again after so long.
ASK_AGAIN_S = 3.0
_MOUNT = "/lem"
#: Run in a container: ends well when NVML works there and shows so many GPUs.
NVML_PROBE = """
import ctypes, sys
nvml, count = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_uint()
code = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
sys.exit(f"NVML error {code}" if code else None if count.value >= int(sys.argv[1]) else f"{count.value} GPUs seen")
"""
PROBE_TIMEOUT_S = 60.0


class DockerExecutor:
    """Runners in containers, by compose."""

    name = "docker"

    def __init__(self, settings: Settings, runner: RunnerCopy, containers: Containers | None = None):
        self._settings = settings
        self._home = settings.paths
        self._runner = runner
        self._containers = containers or Containers()
        self._silence: str | None = None
        self._data_folder: Path | None = None  # of the engine; an empty path where it is not on this host
        self._asked_at = 0.0
        self._warm: dict[tuple[str, str], str] = {}  # (lane, service) -> container id
        self._unclean: set[tuple[str, str]] = set()  # may hold a runner that could not be ended: recreated before use
        self._projects: dict[str, ContainerSpec] = {}  # lane -> the last spec used there
        self.uid = settings.puid if settings.puid is not None else os.getuid() or NOBODY
        self.gid = settings.pgid if settings.pgid is not None else os.getgid() or NOBODY

    def identity(self, backend: Backend) -> dict[str, Any]:
        """The image by its content, and the options that change how a container runs."""
        image = self._containers.image_facts(backend.image_ref)
        if image is None:
            raise ImageMissing(f"image {backend.image_ref} is not here: `lemctl images build {backend.name}` makes it")
        return {
            "executor": self.name,
            "image": backend.image_ref,
            "image_id": image.id,
            "image_digests": list(image.digests),
            "memory": self._settings.container_memory,
            "shm_size": self._settings.shm_size,
            "user": f"{self.uid}:{self.gid}",
        }

    def obstacle(self) -> str | None:
        """An engine that is away is waited for, and asked anew at times: trying would only burn retries. One that was
        there is asked each time, because a run may begin on its answer."""
        if self._silence is None or time.monotonic() - self._asked_at > ASK_AGAIN_S:
            self._silence, self._asked_at = self._containers.silence(), time.monotonic()
        return self._silence

    def disks(self) -> Sequence[Path]:
        """The engine's data folder, where the engine is this host's. Asked once: it cannot move while it runs."""
        if self._data_folder is None:
            try:
                self._data_folder = self._containers.data_folder() or Path()
            except ContainerFault:
                return ()
        return (self._data_folder,) if self._data_folder != Path() else ()

    def path_of(self, host_path: Path) -> str:
        """A path below one of the mounted folders, as the container sees it."""
        for host, mounted in (
            (self._home.sessions, "sessions"),
            (self._home.prompts, "prompts"),
            (self._settings.models, "models"),
        ):
            if host_path.is_relative_to(host):
                return str(Path(_MOUNT) / mounted / host_path.relative_to(host))
        raise ValueError(f"{host_path} is not mounted into containers")

    def open(self, place: Place, limits: Limits) -> Opened:
        """Bring the backend's container up, unless it is warm, and exec a runner in it."""
        backend, lane = place.backend, place.lane
        spec = self.container_spec(backend, lane, place.gpus)
        self._settings.models.mkdir(parents=True, exist_ok=True)
        key = (lane, backend.service)
        container_id = self._warm.get(key)
        is_spoilt = container_id is not None and not self._is_usable(container_id, backend)
        fresh = place.fresh or key in self._unclean or is_spoilt
        if fresh or container_id is None:
            container_id = self._up(key, spec, fresh)
        if place.gpus and (trouble := self._nvml_trouble(spec, backend, place.gpus)) is not None:
            # A container that lives long can lose NVML (a reload of systemd takes its devices): a new one has it again.
            container_id = self._up(key, spec, True)
            if (trouble := self._nvml_trouble(spec, backend, place.gpus)) is not None:
                raise RunFailed("infra", f"no GPU in the container, a new one too ({trouble}): see `lemctl doctor`")
        try:
            os.chown(place.folder, self.uid, self.gid)
        except OSError as error:
            raise RunFailed(
                "infra", f"{place.folder} cannot be given to uid {self.uid}, gid {self.gid}: {error.strerror}"
            ) from error
        command = self._containers.exec_command(
            spec, [backend.interpreter, "-m", "lem_runner", self.path_of(place.folder)]
        )
        runner = DockerRunner(
            command, place.folder, self._containers, spec, container_id, lambda: self._unclean.add(key)
        )
        return Opened(Session(runner, place.folder, limits), container_id)

    def release(self, lane: str) -> None:
        """Remove the lane's containers."""
        spec = self._projects.pop(lane, None)
        self._warm = {key: value for key, value in self._warm.items() if key[0] != lane}
        if spec is not None:
            self._containers.down(spec)

    def sweep(self) -> int:
        """Remove every container and network of this state folder; clients that exec'ed in them end with them."""
        return self._containers.sweep(self._home.hash)

    def _up(self, key: tuple[str, str], spec: ContainerSpec, fresh: bool) -> str:
        self._projects[key[0]] = spec
        self._warm[key] = self._containers.up(spec, force_recreate=fresh).id
        self._unclean.discard(key)
        return self._warm[key]

    def _is_usable(self, container_id: str, backend: Backend) -> bool:
        """Whether it runs, is well, and is of the image that the backend's name means now."""
        try:
            facts = self._containers.inspect(container_id)
            image = self._containers.image_facts(backend.image_ref)
        except ContainerFault:
            return False
        is_well = facts.is_running and facts.health != "unhealthy"
        return is_well and image is not None and facts.image_id == image.id

    def _nvml_trouble(self, spec: ContainerSpec, backend: Backend, gpus: Sequence[str]) -> str | None:
        probe = [backend.interpreter, "-c", NVML_PROBE, str(len(gpus))]
        return _trouble_of(self._containers.exec_command(spec, probe))

    def probe_alone(self, backend: Backend, gpus: Sequence[str]) -> str | None:
        """Why NVML does not work in a container of its own, None where it does."""
        self._settings.models.mkdir(parents=True, exist_ok=True)
        spec = self.container_spec(backend, "doctor", gpus)
        probe = [backend.interpreter, "-c", NVML_PROBE, str(len(gpus))]
        trouble = _trouble_of(self._containers.run_command(spec, probe))
        if trouble is not None:  # a client that was ended has left its container
            with suppress(ContainerFault):
                self._containers.remove(spec)
        return trouble

    def container_spec(self, backend: Backend, lane: str, gpus: Sequence[str]) -> ContainerSpec:
        """The service of a backend on a lane, with the lane's GPUs."""
        data = data_folder()
        files = [data / "compose.yaml"]
        if gpus:
            files.append(data / "compose.gpu.yaml")
        environment = {
            f"LEM_IMAGE_{backend.name.upper()}": backend.image_ref,
            "LEM_RUNNER_DIR": str(self._runner.root),
            "LEM_MODELS_DIR": str(self._settings.models),
            "LEM_PROMPTS_DIR": str(self._home.prompts),
            "LEM_SESSIONS_DIR": str(self._home.sessions),
            "LEM_UID": str(self.uid),
            "LEM_GID": str(self.gid),
            "LEM_HOME_HASH": self._home.hash,
            "LEM_SHM_SIZE": self._settings.shm_size,
            "LEM_CONTAINER_MEMORY": self._settings.container_memory or "0",
            "LEM_GPU_UUIDS": ",".join(gpus),
        }
        return ContainerSpec(
            f"lem-{self._home.hash}-{lane}", backend.service, tuple(files), environment, self._home.hash
        )


def probe_nvml(settings: Settings, backend: Backend, gpus: Sequence[str]) -> str | None:
    """Why NVML does not work in a container of this backend, None where it does."""
    settings.paths.create()
    executor = DockerExecutor(settings, copy_runner(runner_source(), settings.paths.runner))
    return executor.probe_alone(backend, gpus)


def _trouble_of(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


class DockerRunner:
    """A runner exec'ed in a container; a `RunnerProcess`. The client is our child, the runner is not."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        containers: Containers,
        spec: ContainerSpec,
        container_id: str,
        on_unclean: Callable[[], object],
    ):
        self._folder = folder
        self._containers = containers
        self._spec = spec
        self._container_id = container_id
        self._on_unclean = on_unclean
        self._oom_counter = self._find_oom_counter()
        self._oom_before = self._oom_kills()
        self._client = ChildProcess(command, folder, None)
        self._death: Death | None = None
        self.write = self._client.write
        self.close_stdin = self._client.close_stdin
        self.wait = self._client.wait
        self.log_offsets = self._client.log_offsets
        self.last_words = self._client.last_words

    def poll(self) -> Death | None:
        """None while the client lives. Its exit code lies; the container and its cgroup are asked first."""
        code = self._client.returncode()
        if code is not None and self._death is None:
            self._death = self._cause(code)
        return self._death

    def kill(self) -> None:
        """SIGKILL to the runner, by the pid that it left in its folder, and to the client."""
        try:
            pid = int(read_entrusted(self._folder / PID_FILE, 32) or b"")
            # By the shell: a slim image has no `kill` of its own.
            kill = ["sh", "-c", 'kill -9 -"$0" "$0"', str(pid)]
            command = self._containers.exec_command(self._spec, kill)
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=KILL_TIMEOUT_S, check=False)
        except (OSError, ValueError, subprocess.TimeoutExpired, ContainerFault):
            pass  # `destroy` is the next rung
        self._client.kill_group()

    def destroy(self) -> None:
        """Restart the container: that also ends what the engine left running. Where that fails it may run on (a dead
        Docker engine ends no container), so the container is not used again."""
        self._client.kill_group()
        try:
            self._containers.restart(self._spec)
        except ContainerFault:
            self._on_unclean()

    def _cause(self, code: int) -> Death:
        until = time.monotonic() + DYING_S
        while True:
            try:
                facts = self._containers.inspect(self._container_id)
            except ContainerFault as error:
                return Death("infra", f"the runner was lost: {error.message}")
            oom = self._oom_kills()
            grew = has_grown(self._oom_before, oom)
            if facts.oom_killed or (grew and not facts.is_running):
                return Death("oom_host", "the container was out of memory")
            is_late = time.monotonic() > until
            # The engine may tell that a container was killed before it tells that this was for memory.
            if not facts.is_running and (facts.exit_code != EXIT_KILLED or is_late):
                return Death("infra", f"the container stopped under the runner (exit code {facts.exit_code})")
            # A count that is gone, though it was there, went with a dying container: soon that tells of what.
            if facts.is_running and (oom is not None or self._oom_before is None or is_late):
                break
            time.sleep(0.1)
        if code == 255:
            return Death("infra", "the connection to the Docker engine was lost")
        return death_of(code, grew)

    def _find_oom_counter(self) -> Path | None:
        try:
            return self._containers.oom_counter(self._container_id)
        except ContainerFault:
            return None

    def _oom_kills(self) -> int | None:
        return None if self._oom_counter is None else read_oom_kills(self._oom_counter)
