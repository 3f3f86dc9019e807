"""Under a service manager: the unit is sound, the manager hears that the daemon is ready, lives and leaves; one that
hangs falls silent, so that it is ended and started anew."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lemctl.clock import SystemClock
from lemctl.daemon import log as log_module
from lemctl.daemon.log import open_log
from lemctl.daemon.process import _rotate
from lemctl.daemon.supervisor import Supervisor
from lemctl.daemon.unit import MARK, Unit, unit_path
from needed import needs
from night import Night, campaign_text


class Manager:
    """A service manager's socket."""

    def __init__(self, path: Path):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def hear(self, timeout_s: float = 30.0) -> str | None:
        """The next word, None when there is none within so long."""
        self._socket.settimeout(timeout_s)
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return None

    def hush(self) -> None:
        """Forget what was said so far."""
        while self.hear(0.01) is not None:
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    made = Manager(tmp_path_factory.mktemp("m") / "notify")
    yield made
    made.close()


def test_a_daemon_says_that_it_is_ready_alive_and_leaving_and_a_hung_one_says_nothing(
    night: Night, manager: Manager
) -> None:
    night.environment |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "900000"}
    night.add(campaign_text(cycles=3))
    daemon = night.begin()
    assert manager.hear() == "READY=1"
    assert [manager.hear(), manager.hear()] == ["WATCHDOG=1"] * 2
    night.wait_campaign()
    os.kill(daemon.pid, signal.SIGSTOP)
    manager.hush()
    assert manager.hear(1.5) is None, "a stopped daemon passes for alive"
    os.kill(daemon.pid, signal.SIGCONT)
    assert manager.hear() == "WATCHDOG=1"
    night.end()
    while (word := manager.hear(1.0)) == "WATCHDOG=1":
        pass
    assert word == "STOPPING=1"
    night.audit()


def test_what_the_manager_does_to_a_hung_daemon_loses_nothing(night: Night) -> None:
    """SIGABRT, as systemd's watchdog sends it; then a new start."""
    night.add(campaign_text(cycles=2).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 100"))
    daemon = night.begin()
    night.wait_until_under_way()
    os.kill(daemon.pid, signal.SIGSTOP)
    os.kill(daemon.pid, signal.SIGABRT)
    os.kill(daemon.pid, signal.SIGCONT)
    assert daemon.wait(30) == -signal.SIGABRT
    night.begin()
    night.wait_campaign()
    night.end()
    assert night.attempts()[0] == ("interrupted", None, "the daemon ended while this was under way")
    assert night.statuses() == ["Done", "Done"]
    night.audit()


def test_the_managers_variables_reach_no_child_and_another_process_is_not_watched(manager: Manager) -> None:
    given = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1", "PATH": "/bin"}
    supervisor = Supervisor(SystemClock(), given)
    assert given == {"PATH": "/bin"}
    assert supervisor.period_s is None
    supervisor.tick()
    supervisor.ready()
    assert manager.hear() == "READY=1"


def test_without_a_manager_nobody_is_told_and_a_manager_that_is_gone_holds_nothing_up(tmp_path: Path) -> None:
    Supervisor(SystemClock(), {}).ready()
    gone = Supervisor(SystemClock(), {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "3000000"})
    gone.ready()
    gone.tick()
    gone.close()


@needs("systemd-analyze")
@pytest.mark.parametrize("is_users", [False, True])
def test_the_unit_is_sound(tmp_path: Path, is_users: bool) -> None:
    tricky = {"LEM_SHM_SIZE": '1g "quoted" 100% $HOME \\n', "PATH": os.environ["PATH"]}
    python = shutil.which("python3")
    assert python is not None
    path = tmp_path / "lemctl.service"
    path.write_text(Unit(python, tmp_path / "state folder 100%", tricky, is_users).text())
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    manager = ["--user"] if is_users else []
    done = subprocess.run(
        ["systemd-analyze", *manager, "verify", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_holds_what_keeps_a_daemon_alive_and_within_limits() -> None:
    lines = Unit("/usr/bin/python3", Path("/state"), {}, False).text().splitlines()
    assert lines[0] == MARK
    for wanted in (
        "Type=notify",
        "WatchdogSec=300",
        "Restart=on-failure",
        "StartLimitBurst=5",
        "OOMPolicy=continue",
        "OOMScoreAdjust=-500",
    ):
        assert wanted in lines
    assert "RestartPreventExitStatus=2 5" in lines
    assert 'Environment="LEM_HOME=/state"' in lines
    assert unit_path(False, "lemctl") == Path("/etc/systemd/system/lemctl.service")


def test_the_log_is_rotated_ours_alone_and_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "ROTATE_B", 2000)
    monkeypatch.setenv("HF_TOKEN", "a-token-of-our-own")
    log = open_log(tmp_path / "daemon.jsonl")
    for number in range(200):
        log.info("line %d with a-token-of-our-own and hf_abcdefghijkl", number)
    files = sorted(tmp_path.iterdir())
    assert len(files) == log_module.KEEP + 1
    for file in files:
        assert file.stat().st_size <= 2000
        assert file.stat().st_mode & 0o777 == 0o600
        assert "token-of-our-own" not in file.read_text()
        assert "hf_abc" not in file.read_text()
        assert all("line " in json.loads(line)["message"] for line in file.read_text().splitlines())
    for handler in log.handlers:
        handler.close()
    log.handlers = []


def test_what_a_daemon_prints_is_kept_within_bounds(tmp_path: Path) -> None:
    out = tmp_path / "daemon.out"
    out.write_bytes(b"x" * (log_module.ROTATE_B + 1))
    _rotate(out)
    _rotate(out)
    assert [p.name for p in tmp_path.iterdir()] == ["daemon.out.1"]
