"""What an engine may do in its container, asked from inside it; and that no service is exempt."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lemctl.engines.containers import Containers, ContainerSpec

ROOT = Path(__file__).parents[2]

PROBE = """
import json, os, pathlib, subprocess
def refused(path):
    try:
        pathlib.Path(path).write_text("x")
    except OSError as error:
        return error.strerror
    return None
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
script = pathlib.Path("/tmp/script")
script.write_text("#!/bin/sh\\necho ran")
script.chmod(0o755)
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "capabilities": {name: status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")},
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "refused": {path: refused(path + "/file") for path in ("/", "/usr", "/lem/runner", "/lem/models", "/lem/prompts")},
    "session_write": refused("/lem/sessions/file"),
    "tmp_exec": subprocess.run([str(script)], capture_output=True, text=True).stdout,
    "interfaces": os.listdir("/sys/class/net"),
    "sockets": [path for path in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(path)],
    "environment": dict(os.environ),
    "init": pathlib.Path("/proc/1/comm").read_text().strip(),
    "shm_bytes": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
}))
"""


@pytest.mark.docker
def test_an_engine_can_do_nothing_but_its_work(
    engine: Containers, spec: ContainerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    engine.up(spec)
    command = engine.exec_command(spec, ["python3", "-c", PROBE])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    uid, gid = int(spec.env["LEM_UID"]), int(spec.env["LEM_GID"])
    assert uid != 0
    assert seen["ids"] == [uid, gid, [gid]]
    assert set(seen["capabilities"].values()) == {"0" * 16}
    assert seen["no_new_privileges"] == "1"
    assert set(seen["refused"].values()) == {"Read-only file system"}
    assert seen["session_write"] is None
    assert seen["tmp_exec"] == "ran\n"
    assert seen["interfaces"] == ["lo"]
    assert seen["sockets"] == []
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    assert seen["environment"]["HOME"] == "/tmp"
    assert "HF_TOKEN" not in seen["environment"]
    assert seen["init"] != "sleep"
    assert seen["shm_bytes"] == 64 << 20
    # What the engine wrote belongs to the uid that the controller chose.
    assert (Path(spec.env["LEM_SESSIONS_DIR"]) / "file").stat().st_uid == uid


def resolved(spec: ContainerSpec, *files: str, **env: str) -> dict[str, Any]:
    """The services as Compose itself resolves the files, every profile included."""
    command = ["docker", "compose", "--profile", "*"]
    for file in files:
        command += ["--file", str(ROOT / file)]
    done = subprocess.run(
        [*command, "config", "--format", "json"],
        env={**os.environ, **spec.env, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


@pytest.mark.docker
def test_no_service_is_exempt_from_hardening(spec: ContainerSpec) -> None:
    services = resolved(spec, "compose.yaml")
    assert {"pytorch", "replay", "prefetch"} <= services.keys()
    for name, service in services.items():
        assert service["user"] == f"{spec.env['LEM_UID']}:{spec.env['LEM_GID']}", name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert not service.get("privileged"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["pull_policy"] == "never", name
        assert service["labels"]["lemctl.home"] == spec.home_hash, name
        assert not any("docker.sock" in volume["source"] for volume in service["volumes"]), name
        if name == "prefetch":
            assert service["profiles"] == ["prefetch"]
            assert service["network_mode"] == "bridge"
        else:
            assert service["network_mode"] == "none", name
            assert "HF_TOKEN" not in service["environment"], name
            writable = [volume["target"] for volume in service["volumes"] if not volume.get("read_only")]
            assert writable == ["/lem/sessions"], name


@pytest.mark.docker
def test_gpus_are_reserved_by_uuid(spec: ContainerSpec) -> None:
    service = resolved(spec, "compose.yaml", "compose.gpu.yaml", LEM_GPU_UUIDS="GPU-one,GPU-two")["pytorch"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["GPU-one,GPU-two"]
    assert device["capabilities"] == ["gpu", "compute", "utility"]
    assert service["ulimits"]["memlock"] == {"soft": -1, "hard": -1}
    assert service["healthcheck"]["interval"] == "10m0s"
    assert service["read_only"] is True
