"""A Docker engine of our own beside the machine's, which tests may harm."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lemctl.engines.containers import Containers


def docker(*arguments: str, host: str | None = None) -> str:
    """The plain client."""
    command = ["docker", *(["--host", host] if host else []), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


class PrivateEngine:
    """In a folder with a short name: sockets lie deep in it, and 107 bytes are the most.

    With `live_restore` its containers outlive it. `data` is where images and containers lie.
    """

    def __init__(
        self,
        folder: Path,
        live_restore: bool = True,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self.host = f"unix://{folder}/docker.sock"
        self.data = data or folder / "data"
        self._command = [
            # A network of its own: an engine without a bridge removes the one that it finds, the machine's.
            "unshare", "--net", "dockerd", *(["--live-restore"] if live_restore else []),
            "--bridge=none", "--iptables=false", "--shutdown-timeout=2",
            "--host", self.host, "--data-root", str(self.data), "--exec-root", f"{folder}/exec",
            "--pidfile", f"{folder}/docker.pid",
        ]  # fmt: skip
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers. Files that name the processes of a killed engine would make it wait for zombies."""
        for stale in ("docker.pid", "exec/containerd/containerd.pid"):
            (self._folder / stale).unlink(missing_ok=True)
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        until = time.monotonic() + 60
        while subprocess.run(["docker", "--host", self.host, "info"], capture_output=True, check=False).returncode:
            assert time.monotonic() < until, (self._folder / "dockerd.log").read_text()[-2000:]
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        """Of dockerd itself: `unshare` has become it."""
        assert self._process is not None
        return self._process.pid

    def load(self, image: str) -> None:
        """Give it an image of the machine's engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            command = ["docker", "--host", self.host, "load"]
            subprocess.run(command, stdin=saved.stdout, check=True, capture_output=True)

    def kill(self) -> None:
        """SIGKILL; its containers run on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM; what becomes of its containers is `live_restore`'s business."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)

    def containers(self) -> Containers:
        """A client of it."""
        return Containers(self.host)

    def end(self) -> None:
        """With its containers, and the mount that it makes of its own folder."""
        assert self._process is not None
        if self._process.poll() is None:
            for container in docker("ps", "--all", "--quiet", host=self.host).split():
                docker("rm", "--force", container, host=self.host)
            # Killed: one that was killed before waits for its old containerd, a quarter of a minute.
            self.kill()
        with suppress(OSError, ValueError):
            os.kill(int((self._folder / "exec/containerd/containerd.pid").read_text()), signal.SIGKILL)
        subprocess.run(["umount", str(self.data)], capture_output=True, check=False)
