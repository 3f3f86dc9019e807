"""The container engine, for real: what goes up comes down, only what is ours is removed, and memory kills are seen."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lem_runner.oom import read_oom_kills
from lemctl.engines.containers import Containers, ContainerSpec
from lemctl.engines.errors import ContainerGone, ImageMissing

pytestmark = pytest.mark.docker

EXEC_TIMEOUT_S = 60


def execute(engine: Containers, spec: ContainerSpec, *argv: str, **options: str) -> subprocess.CompletedProcess[str]:
    command = engine.exec_command(spec, argv)
    return subprocess.run(command, capture_output=True, text=True, timeout=EXEC_TIMEOUT_S, **options)


def wait_until(condition: Callable[[], bool], ceiling_s: float = 20) -> None:
    deadline = time.monotonic() + ceiling_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def test_ping_tells_versions_that_compose_v2_needs(engine: Containers) -> None:
    facts = engine.ping()
    assert int(facts.engine_version.split(".")[0]) >= 20
    assert int(facts.compose_version.split(".")[0]) >= 2
    assert facts.root_dir is not None


def test_up_keeps_a_running_container_and_recreates_on_demand(engine: Containers, spec: ContainerSpec) -> None:
    first = engine.up(spec)
    assert first.is_running
    assert first.exit_code is None
    assert (first.project, first.service) == (spec.project, "replay")
    assert engine.up(spec).id == first.id
    assert engine.up(spec, force_recreate=True).id != first.id


def test_exec_carries_stdin_environment_and_exit_code(engine: Containers, spec: ContainerSpec) -> None:
    engine.up(spec)
    command = engine.exec_command(spec, ["sh", "-c", 'cat; echo "$WORD"; exit 7'], {"WORD": "two words"})
    done = subprocess.run(command, input="line\n", capture_output=True, text=True, timeout=EXEC_TIMEOUT_S)
    assert (done.returncode, done.stdout) == (7, "line\ntwo words\n")


def test_kill_ends_the_container_and_is_harmless_twice(engine: Containers, spec: ContainerSpec) -> None:
    container = engine.up(spec)
    engine.kill(spec)
    wait_until(lambda: not engine.inspect(container.id).is_running)
    assert engine.inspect(container.id).exit_code == 137
    engine.kill(spec)
    assert engine.up(spec).id == container.id


def test_restart_ends_an_execed_process_that_outlived_its_client(engine: Containers, spec: ContainerSpec) -> None:
    container = engine.up(spec)
    pids = "import glob; print(sum(b'sleep\\0987' in open(f, 'rb').read() for f in glob.glob('/proc/[0-9]*/cmdline')))"

    def sleepers() -> str:
        return execute(engine, spec, "python3", "-c", pids).stdout.strip()

    client = subprocess.Popen(engine.exec_command(spec, ["sleep", "987"]), stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: sleepers() == "1")
    finally:
        client.kill()
        client.wait(timeout=10)
    assert sleepers() == "1"
    assert engine.restart(spec).id == container.id
    assert sleepers() == "0"


def test_down_removes_the_container_and_is_harmless_twice(engine: Containers, spec: ContainerSpec) -> None:
    container = engine.up(spec)
    engine.down(spec)
    with pytest.raises(ContainerGone):
        engine.inspect(container.id)
    assert engine.find(spec) is None
    engine.down(spec)


def test_sweep_removes_every_container_of_ours_and_no_other(engine: Containers, spec: ContainerSpec) -> None:
    second_lane = dataclasses.replace(spec, project=f"{spec.project}-second")
    other_env = {**spec.env, "LEM_HOME_HASH": f"{spec.home_hash}other"}
    other = dataclasses.replace(
        spec, project=f"{spec.project}-other", env=other_env, home_hash=other_env["LEM_HOME_HASH"]
    )
    kept = engine.up(other)
    try:
        engine.up(spec)
        engine.up(second_lane)
        engine.kill(second_lane)
        assert {fact.project for fact in engine.leftovers(spec.home_hash)} == {spec.project, second_lane.project}
        assert engine.sweep(spec.home_hash) == 2
        assert engine.leftovers(spec.home_hash) == []
        assert engine.inspect(kept.id).is_running
    finally:
        assert engine.sweep(other.home_hash) == 1
    assert engine.sweep(spec.home_hash) == 0


def test_memory_kill_of_an_execed_process_is_counted(engine: Containers, spec: ContainerSpec) -> None:
    limited = dataclasses.replace(spec, env={**spec.env, "LEM_CONTAINER_MEMORY": "64m"})
    container = engine.up(limited)
    counter = engine.oom_counter(container.id)
    assert counter is not None
    assert read_oom_kills(counter) == 0
    done = execute(engine, limited, "python3", "-c", "x = bytearray(256 << 20)")
    assert done.returncode == 137
    assert read_oom_kills(counter) == 1
    assert engine.inspect(container.id).is_running
    engine.kill(limited)
    wait_until(lambda: not engine.inspect(container.id).is_running)
    assert engine.oom_counter(container.id) is None
    assert read_oom_kills(counter) is None


def test_a_missing_image_is_named_and_never_pulled(engine: Containers, spec: ContainerSpec) -> None:
    absent = "lemctl-test/absent:none"
    assert engine.image_facts(absent) is None
    with pytest.raises(ImageMissing, match=absent):
        engine.up(dataclasses.replace(spec, env={**spec.env, "LEM_IMAGE_REPLAY": absent}))


def test_image_facts_name_the_image_that_containers_run(
    engine: Containers, spec: ContainerSpec, small_image: str
) -> None:
    facts = engine.image_facts(small_image)
    assert facts is not None
    assert facts.size_bytes > 10_000_000
    assert engine.up(spec).image_id == facts.id


def test_the_specs_variables_win_over_the_callers(
    engine: Containers, spec: ContainerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEM_MODELS_DIR", "/nonexistent")
    (Path(spec.env["LEM_MODELS_DIR"]) / "model").write_text("here")
    engine.up(spec)
    assert execute(engine, spec, "cat", "/lem/models/model").stdout == "here"


def test_a_prefetch_leaves_nothing_behind(
    engine: Containers, spec: ContainerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def networks() -> str:
        listing = ["docker", "network", "ls", "--quiet"]
        return subprocess.run(listing, check=True, capture_output=True, text=True, timeout=EXEC_TIMEOUT_S).stdout

    monkeypatch.setenv("HF_TOKEN", "secret")
    prefetch = dataclasses.replace(
        spec, service="prefetch", env={**spec.env, "LEM_IMAGE_PYTORCH": spec.env["LEM_IMAGE_REPLAY"]}
    )
    before = networks()
    command = engine.run_command(prefetch, ["sh", "-c", "echo $HF_TOKEN; ls /sys/class/net"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=EXEC_TIMEOUT_S)
    assert done.stdout.split() == ["secret", "eth0", "lo"]
    assert "secret" not in " ".join(command)
    assert engine.leftovers(spec.home_hash) == []
    assert networks() == before


@pytest.fixture
def image_to_build() -> Iterator[str]:
    """A name for an image, which is removed after the test."""
    name = f"lemctl-test/built:{os.getpid()}"
    yield name
    subprocess.run(["docker", "rmi", "--force", name], check=True, capture_output=True, timeout=EXEC_TIMEOUT_S)


def test_build_reports_its_lines_and_labels_the_image(
    engine: Containers, small_image: str, image_to_build: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo words-of-the-build\n")
    (tmp_path / "build.yaml").write_text(
        "services: {x: {image: '${LEM_TEST_IMAGE}', build: {context: ., args: [BASE_IMAGE], labels: {made: here}}}}"
    )
    lines: list[str] = []
    env = {"LEM_TEST_IMAGE": image_to_build, "BASE_IMAGE": small_image}
    engine.build(tmp_path / "build.yaml", env, lines.append)
    assert any("words-of-the-build" in line for line in lines)
    facts = engine.image_facts(image_to_build)
    assert facts is not None
    assert facts.labels["made"] == "here"
