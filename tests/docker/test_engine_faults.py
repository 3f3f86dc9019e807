"""What can happen around the containers: the engine ends, with or without live-restore; its socket is denied; its disk
is full; an image changes or vanishes; a container is ill, out of memory, or has lost its GPU; a client hangs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from private_engine import PrivateEngine, docker
from victim import Victim, audit, slow

from lemctl.engines.containers import Containers
from needed import needs, skip_without
from night import QUICK_RUNGS, Night, campaign_text

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("faults", "nvml_stub")]

from small_disk import Filler, mounted

from nvml_stub import NvmlStub

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Engines:
    """Two engines, by whether they live-restore. The one that does gives GPUs, the other lies on a disk of its own."""

    by_live_restore: dict[bool, PrivateEngine]
    disk: Filler


@pytest.fixture(scope="module")
def engines(engine: Containers, small_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both run, and have the small image."""
    skip_without("root")
    folder = tmp_path_factory.mktemp("engines")
    hook = folder / "bin" / "nvidia-container-runtime-hook"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    with ExitStack() as stack:
        filler = stack.enter_context(mounted(folder / "disk", 900, "ext4"))
        with_gpus = {"PATH": f"{hook.parent}:{os.environ['PATH']}"}
        made = {}
        for live_restore in (True, False):
            own = stack.enter_context(tempfile.TemporaryDirectory(prefix="lem-", ignore_cleanup_errors=True))
            data = None if live_restore else folder / "disk" / "docker"
            one = made[live_restore] = PrivateEngine(Path(own), live_restore, data, with_gpus if live_restore else None)
            stack.callback(one.end)
            one.start()
            one.load(small_image)
        yield Engines(made, filler)


def on(made: PrivateEngine, image: str, **variables: str) -> dict[str, str]:
    """Variables of a daemon that uses this engine; the waits before retries outlast an engine's new start."""
    return {
        "LEM_IMAGE_REPLAY": image, "DOCKER_HOST": made.host, "LEM_RETRY_BACK_OFF_SCALE": "0.2", **variables,
    }  # fmt: skip


@pytest.mark.parametrize(("live_restore", "how"), [(False, "kill"), (False, "terminate"), (True, "terminate")])
def test_an_engine_that_ends_under_a_run_fails_the_attempt_and_the_campaign_goes_on_when_it_is_back(
    engines: Engines, small_image: str, tmp_path: Path, live_restore: bool, how: str
) -> None:
    made = engines.by_live_restore[live_restore]
    with Night(tmp_path / "night", on(made, small_image)) as night:
        night.begin()
        victim = Victim(night, "night")
        getattr(made, how)()
        night.wait_for(lambda: night.attempts()[0][0] is not None, "end of the attempt", 60)
        assert night.attempts()[0][:2] == ("failed", "infra")
        night.wait_for(lambda: "no Docker engine answers" in night.waits_for(), "word that the engine is away", 60)
        assert night.campaign() == "Active"
        made.start()
        night.wait_campaign(ceiling_s=90)
        assert night.attempts()[-1][0] == "ok"
        last = night.rows("SELECT container_id FROM sessions WHERE hello IS NOT NULL ORDER BY id")[-1][0]
        assert last != victim.container
        assert night.end() == 0
        audit(night, made.containers())


def test_a_full_disk_of_the_engine_starts_no_run_until_there_is_room(
    engines: Engines, small_image: str, tmp_path: Path
) -> None:
    made = engines.by_live_restore[False]
    engines.disk.fill(leave_b=20 << 20)
    told = slow("night", "retry: {max: 0}\nnotify: {urls_from: LEM_NOTIFY_NOWHERE, on: [disk_low]}")
    with Night(tmp_path / "night", on(made, small_image, LEM_MIN_FREE_DISK_MB="50")) as night:
        night.add(told, executor="docker")
        night.begin()
        night.wait_for(lambda: f"MB left at {made.data}" in night.waits_for(), "word of the engine's disk", 60)
        assert night.attempts() == []
        assert night.rows("SELECT event FROM outbox") == [("disk_low",)]
        engines.disk.remove()
        night.wait_campaign(ceiling_s=60)
        assert [outcome for outcome, *_ in night.attempts()] == ["ok"]
        assert night.end() == 0
        audit(night, made.containers())


@needs("strace")
def test_an_engine_that_the_disk_refuses_fails_the_attempt_and_the_run_is_tried_again(
    engines: Engines, small_image: str, tmp_path: Path
) -> None:
    """ENOSPC for whatever the engine would write, with room for everybody who looks: as a quota or a lack of inodes."""
    made, trace = engines.by_live_restore[False], tmp_path / "trace"
    inject = ["-e", "trace=mkdirat,mkdir", "-e", "inject=mkdirat,mkdir:error=ENOSPC"]
    with Night(tmp_path / "night", on(made, small_image)) as night:
        night.add(campaign_text(cycles=2), executor="docker")
        strace = subprocess.Popen(["strace", "-f", "-qq", "-o", str(trace), "-p", str(made.pid), *inject])
        try:
            night.begin()
            night.wait_for(lambda: any(ended[0] == "failed" for ended in night.attempts()), "the failure", 60)
        finally:
            strace.terminate()
            strace.wait(30)
        assert "(INJECTED)" in trace.read_text()
        night.wait_campaign(ceiling_s=120)
        (failed, *others) = night.attempts()
        assert failed[:2] == ("failed", "infra")
        assert "no space left on device" in failed[2]
        assert {outcome for outcome, *_ in others} <= {"failed", "ok"}
        assert night.statuses() == ["Done"] * 2
        assert night.end() == 0
        audit(night, made.containers())


@needs("root", "setpriv")
def test_a_socket_that_is_denied_is_waited_for_and_said(engine: Containers, small_image: str, tmp_path: Path) -> None:
    """The client runs as nobody: the machine's own refusal, in its own words."""
    setpriv, client = shutil.which("setpriv"), shutil.which("docker")
    wrapper = tmp_path / "bin" / "docker"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nHOME=/nonexistent exec {setpriv} --reuid 65534 --clear-groups {client} "$@"\n')
    wrapper.chmod(0o755)
    variables = {"PATH": f"{wrapper.parent}:{os.environ['PATH']}", "LEM_IMAGE_REPLAY": small_image}
    with Night(tmp_path / "night", variables) as night:
        night.add(campaign_text(), executor="docker")
        night.begin()
        night.wait_for(lambda: "permission denied" in night.waits_for().lower(), "word of the refusal", 60)
        assert night.attempts() == []
        assert night.campaign() == "Active"
        assert night.end() == 0
        night.audit()


def derived(image: str, name: str, *lines: str, folder: Path, host: str | None = None) -> str:
    """An image made from `image` by a few lines."""
    (folder / "Dockerfile").write_text("\n".join([f"FROM {image}", *lines]) + "\n")
    docker("build", "--quiet", "--tag", name, str(folder), host=host)
    return name


@pytest.fixture
def own_tag(small_image: str) -> Iterator[str]:
    """A tag of ours on the small image, gone after the test."""
    name = f"lemctl-test/tag-{os.getpid()}"
    docker("tag", small_image, name)
    yield name
    subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)


TWO = campaign_text(cycles=2, more="isolation: engine\nretry: {max: 1}").replace(
    "decode_ms_per_token: 1.0", "decode_ms_per_token: 100"
)


def test_a_tag_that_moves_to_another_image_is_another_engine_in_another_container(
    engine: Containers, small_image: str, own_tag: str, tmp_path: Path
) -> None:
    with Night(tmp_path / "night", {"LEM_IMAGE_REPLAY": own_tag}) as night:
        night.add(TWO, executor="docker")
        night.begin()
        night.wait_until_under_way()
        (tmp_path / "context").mkdir()
        derived(small_image, own_tag, "LABEL changed=yes", folder=tmp_path / "context")
        night.wait_campaign(ceiling_s=60)
        assert night.end() == 0
        rows = night.rows("SELECT image_digest, container_id, engine_key FROM sessions ORDER BY id")
        assert len(rows) == 2
        for column in zip(*rows, strict=True):
            assert len(set(column)) == 2, rows
        kept = night.rows(
            "SELECT DISTINCT json_extract(e.document, '$.digest') FROM attempts a"
            " JOIN environments e ON e.hash = json_extract(a.environment, '$.container')"
        )
        assert {digest for (digest,) in kept} == {row[0] for row in rows}, "a figure does not know its image"
        audit(night, engine)
    engine.sweep(night.home.hash)


def test_an_image_that_vanishes_in_the_night_fails_the_attempt_by_its_name(
    engine: Containers, own_tag: str, tmp_path: Path
) -> None:
    with Night(tmp_path / "night", {"LEM_IMAGE_REPLAY": own_tag}) as night:
        night.add(TWO.replace("isolation: engine", "isolation: container"), executor="docker")
        night.begin()
        night.wait_until_under_way()
        docker("image", "rm", "--force", own_tag)
        night.wait_campaign(ceiling_s=60)
        assert night.end() == 0
        assert night.statuses() == ["Done", "Failed"]
        assert {fault for _, fault, _ in night.attempts()[1:]} == {"infra"}
        assert f"image {own_tag} is not here" in str(night.attempts()[-1][2])
        audit(night, engine)
    engine.sweep(night.home.hash)


def test_an_ill_container_is_not_used_again(engine: Containers, small_image: str, own_tag: str, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    check = "HEALTHCHECK --interval=1s --timeout=2s --retries=1 CMD test ! -e /tmp/ill"
    derived(small_image, own_tag, check, folder=tmp_path / "context")
    with Night(tmp_path / "night", {"LEM_IMAGE_REPLAY": own_tag}) as night:
        night.add(slow("first", "isolation: process"), executor="docker")
        night.begin()
        night.wait_for(lambda: "Running" in night.statuses("first"), "a run")
        ((container,),) = night.rows("SELECT container_id FROM sessions")
        docker("exec", container, "touch", "/tmp/ill")
        night.wait_for(lambda: engine.inspect(container).health == "unhealthy", "the check's word")
        night.add(slow("second", "isolation: process"), executor="docker")
        night.wait_campaign(name="second", ceiling_s=60)
        assert night.end() == 0
        containers = [c for (c,) in night.rows("SELECT container_id FROM sessions ORDER BY id")]
        assert containers[0] == container
        assert containers[-1] != container
        audit(night, engine)
    engine.sweep(night.home.hash)


@pytest.fixture
def alone(engine: Containers, small_image: str, tmp_path: Path) -> Iterator[Night]:
    """A daemon of its own, in containers with little memory."""
    variables = {"LEM_IMAGE_REPLAY": small_image, "LEM_CONTAINER_MEMORY": "128m"}
    with Night(tmp_path, variables, constants=QUICK_RUNGS) as night:
        yield night
    engine.sweep(night.home.hash)


def test_a_stopped_container_fails_the_attempt(alone: Night, engine: Containers) -> None:
    """SIGTERM to its first process, and what remains after the grace is killed."""
    alone.begin()
    victim = Victim(alone, "stopped")
    docker("stop", "--time", "1", victim.container)
    first, second = victim.attempts()
    assert first[:2] == ("failed", "infra")
    assert "the container stopped under the runner" in first[2]
    assert second[0] == "ok"
    alone.end()
    audit(alone, engine)


def test_a_container_out_of_memory_is_an_answer_and_the_next_run_gets_another(alone: Night, engine: Containers) -> None:
    """Its whole memory is taken by a file in /tmp, until the kernel has ended everything in it."""
    alone.begin()
    victim = Victim(alone, "filled")
    fill = ["docker", "exec", victim.container, "sh", "-c", "while :; do cat /dev/zero >> /tmp/fill; done"]
    subprocess.run(fill, capture_output=True, timeout=60, check=False)
    first, *_ = victim.attempts()
    assert first[:2] == ("failed", "oom_host"), victim.attempts()
    assert "memory" in first[2]
    alone.add(campaign_text("after"), executor="docker")
    alone.wait_campaign(name="after")
    assert alone.statuses("after") == ["Done"]
    alone.end()
    audit(alone, engine)


def clients_of(night: Night) -> list[psutil.Process]:
    """The client processes that exec'ed the runner."""
    assert night.daemon is not None
    children = psutil.Process(night.daemon.pid).children(recursive=True)
    return [child for child in children if "lem_runner" in child.cmdline()]


def test_a_client_that_hangs_costs_no_result_and_is_ended(alone: Night, engine: Containers) -> None:
    """It neither passes stdin on nor notices the process' end; what the runner did came by files."""
    alone.begin()
    victim = Victim(alone, "hanging")
    clients = clients_of(alone)
    assert clients
    for client in clients:
        os.kill(client.pid, signal.SIGSTOP)
    assert [outcome for outcome, *_ in victim.attempts()] == ["ok"]
    alone.end()
    assert not any(client.is_running() and client.status() != psutil.STATUS_ZOMBIE for client in clients)
    ((reason,),) = alone.rows("SELECT end_reason FROM sessions")
    assert "(destroyed)" in reason or "(killed)" in reason
    audit(alone, engine)


def test_a_client_that_outlives_its_runner_ends_the_attempt_by_silence(alone: Night, engine: Containers) -> None:
    alone.begin()
    alone.add(slow("ended", "retry: {max: 0}\ntimeouts: {silence: 8s}"), executor="docker")
    alone.wait_for(lambda: "Running" in alone.statuses("ended"), "the run")
    clients = clients_of(alone)
    for client in clients:
        os.kill(client.pid, signal.SIGSTOP)
    ((container, pid),) = alone.rows("SELECT container_id, json_extract(hello, '$.pid') FROM sessions")
    docker("exec", container, "sh", "-c", f"kill -s KILL {pid}")
    alone.wait_campaign(name="ended", ceiling_s=60)
    assert alone.attempts() == [("failed", "silent", "no sign of life for 8 s")]
    alone.end()
    audit(alone, engine)


def test_no_secret_reaches_a_container_or_a_command_line(engine: Containers, small_image: str, tmp_path: Path) -> None:
    token, address = "hf_CanaryInTheMine", "json://user:canary-of-the-post@127.0.0.1:9/"
    variables = {"LEM_IMAGE_REPLAY": small_image, "HF_TOKEN": token, "LEM_NOTIFY_T": address}
    with Night(tmp_path, variables) as night:
        night.begin()
        victim = Victim(night, "canary")
        seen = docker("inspect", victim.container) + docker("exec", victim.container, "env")
        seen += docker(
            "exec", victim.container, "sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'"
        )
        environ = docker("exec", victim.container, "sh", "-c", f"tr '\\0' '\\n' < /proc/{victim.pid}/environ")
        seen += environ + "".join(" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))
        victim.attempts()
        night.end()
        audit(night, engine)
    engine.sweep(night.home.hash)
    assert "lem_runner" in seen
    assert "PATH=" in environ, "the runner's own environment was read"
    assert token not in seen
    assert "canary-of-the-post" not in seen
    held = [str(p) for p in tmp_path.rglob("*") if p.is_file() and token.encode() in p.read_bytes()]
    assert held == []


_NVML = """
#include <unistd.h>
int nvmlInit_v2(void) { return access("/tmp/lost", F_OK) == 0 ? 999 : 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
"""


@pytest.fixture
def nvml_image(engines: Engines, small_image: str, tmp_path: Path) -> str:
    """The small image with an NVML of its own, on the engine that gives GPUs."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "nvml.c").write_text(_NVML)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(context / "libnvidia-ml.so.1"), str(context / "nvml.c")], check=True
    )
    return derived(
        small_image, "lemctl-test/nvml", "COPY libnvidia-ml.so.1 /usr/lib/", "ENV LD_LIBRARY_PATH=/usr/lib",
        folder=context, host=engines.by_live_restore[True].host,
    )  # fmt: skip


def test_memory_that_a_container_keeps_comes_back_with_it_and_costs_no_retry(
    engines: Engines, nvml_image: str, tmp_path: Path
) -> None:
    """What is left in the container holds the model GPU's memory after the engine's end; only its removal frees it."""
    made, stub = engines.by_live_restore[True], NvmlStub(tmp_path)
    with Night(tmp_path / "night", on(made, nvml_image, **stub.host_environment())) as night:
        gpu = "isolation: process\nmeasure: {window: '3s', baseline: '0s'}\ngate: {kind: fixed, gap: '0s'}\ngpus: [0]"
        limited = gpu + "\ntimeouts: {memory: 3s}\nretry: {max: 0}"
        night.add(slow("first", limited), executor="docker")
        night.add(slow("second", limited), executor="docker")
        night.begin()
        night.wait_for(lambda: "Running" in night.statuses("first"), "a run on the GPU", 60)
        stub.gpu().loaded_w = 40.0
        ((container,),) = night.rows("SELECT container_id FROM sessions")
        listing = ("ps", "--all", "--quiet", "--no-trunc")
        night.wait_for(lambda: container not in docker(*listing, host=made.host), "the container's removal", 60)
        assert night.statuses("first") == ["Done"]
        stub.gpu().loaded_w = 0.0
        night.wait_campaign(name="second", ceiling_s=90)
        assert [outcome for outcome, *_ in night.attempts()] == ["ok", "ok"]
        containers = [c for (c,) in night.rows("SELECT container_id FROM sessions ORDER BY id")]
        assert len(set(containers)) == 2
        assert night.rows("SELECT 1 FROM devices WHERE quarantined_utc IS NOT NULL") == []
        assert night.end() == 0
        audit(night, made.containers())


def test_a_container_that_lost_nvml_is_made_anew(engines: Engines, nvml_image: str, tmp_path: Path) -> None:
    """A reload of systemd takes the devices from a container that lives long. Here a file in it does."""
    made, stub = engines.by_live_restore[True], NvmlStub(tmp_path)
    with Night(tmp_path / "night", on(made, nvml_image, **stub.host_environment())) as night:
        gpu = "isolation: process\nmeasure: {window: '3s', baseline: '0s'}\ngate: {kind: fixed, gap: '0s'}\ngpus: [0]"
        night.add(slow("first", gpu), executor="docker")
        night.add(slow("second", gpu), executor="docker")
        night.begin()
        night.wait_for(lambda: "Running" in night.statuses("first"), "a run on the GPU", 60)
        ((container,),) = night.rows("SELECT container_id FROM sessions")
        docker("exec", container, "touch", "/tmp/lost", host=made.host)
        night.wait_campaign(name="second", ceiling_s=90)
        assert night.end() == 0
        containers = [c for (c,) in night.rows("SELECT container_id FROM sessions ORDER BY id")]
        assert containers[0] == container
        assert containers[-1] != container
        assert night.statuses("second") == ["Done"]
        audit(night, made.containers())
