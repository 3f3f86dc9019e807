"""The local executor: a runner as a child process of the daemon, with the interpreter that the backend names.

The same runner and the same contract as in a container; what is missing is the isolation.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lem_runner.oom import has_grown, oom_kills
from lem_runner.protocol import EXIT_IO, EXIT_ORPHANED, SESSION_VARIABLE, STDERR_FILE, STDOUT_FILE
from lemctl.engines.logs import CappedLog
from lemctl.engines.processes import kill_processes, processes_on
from lemctl.engines.session import Death
from lemctl.errors import RunFailed

WRITE_TIMEOUT_S = 10.0
#: Of a runner, from -1000 (never killed for memory) to 1000 (first); anybody may raise it.
OOM_SCORE_ADJUST = 500
#: What a runner may see of our environment. No token is among it.
ALLOWED_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "CUDA_HOME", "CUDA_MODULE_LOADING", "NVIDIA_TF32_OVERRIDE",
    # Which cores each of vLLM's workers has on a CPU: several of them on one memory node cannot be started without.
    "VLLM_CPU_OMP_THREADS_BIND",
)  # fmt: skip


def runner_environment(pythonpath: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The allow-listed environment of a local runner."""
    allowed = {name: os.environ[name] for name in ALLOWED_ENVIRONMENT if name in os.environ}
    return {
        **allowed,
        "PYTHONPATH": str(pythonpath),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        **extra,
    }


class ChildProcess:
    """A process with piped stdin and drained, capped stdout and stderr: a runner, or the client that execs one."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None):
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise RunFailed("infra", f"{command[0]} cannot be started: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self.stdout = CappedLog(self._process.stdout, folder / STDOUT_FILE)
        self.stderr = CappedLog(self._process.stderr, folder / STDERR_FILE)

    @property
    def pid(self) -> int:
        """Process id; also the id of its process group."""
        return self._process.pid

    def write(self, line: bytes) -> None:
        """Send to stdin, at most for `WRITE_TIMEOUT_S`: a stopped runner reads nothing, and its silence tells. A broken
        pipe is left to `returncode` to tell."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        fd = self._process.stdin.fileno()
        until = time.monotonic() + WRITE_TIMEOUT_S
        rest = memoryview(line)
        while rest and (left_s := until - time.monotonic()) > 0:
            if select.select([], [fd], [], left_s)[1]:
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    return

    def returncode(self) -> int | None:
        """None while it lives."""
        return self._process.poll()

    def close_stdin(self) -> None:
        """EOF for the runner."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass

    def wait(self, timeout_s: float) -> bool:
        """True when it is gone."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill_group(self) -> None:
        """SIGKILL to the process group; one that is gone, or only zombies of others, is no error."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def log_offsets(self) -> dict[str, int]:
        """Bytes so far of stdout and stderr."""
        return {"stdout": self.stdout.total_b, "stderr": self.stderr.total_b}

    def last_words(self) -> str:
        """The end of stderr, given a moment to arrive."""
        if self.returncode() is not None:
            self.stderr.join(0.5)
        return self.stderr.last_lines()


class LocalRunner:
    """A runner as our own child; a `RunnerProcess`. What it starts carries its session folder in the environment."""

    def __init__(self, interpreter: str, runner_root: Path, folder: Path, extra_environment: Mapping[str, str]):
        self._oom_before = oom_kills()
        self._folder = folder
        self._death: Death | None = None
        environment = runner_environment(runner_root, {**extra_environment, SESSION_VARIABLE: str(folder)})
        self._child = ChildProcess([interpreter, "-m", "lem_runner", str(folder)], folder, environment)
        _offer_to_the_kernel(self._child.pid)
        self.write = self._child.write
        self.wait = self._child.wait
        self.close_stdin = self._child.close_stdin
        self.log_offsets = self._child.log_offsets
        self.last_words = self._child.last_words

    def poll(self) -> Death | None:
        """None while it lives."""
        code = self._child.returncode()
        if code is not None and self._death is None:
            self._death = death_of(code, has_grown(self._oom_before, oom_kills()))
        return self._death

    def kill(self) -> None:
        """SIGKILL to the runner and everything it started, also what left its process group or outlived it."""
        self._child.kill_group()
        kill_processes(processes_on(self._folder))

    def destroy(self) -> None:
        """There is no container: the same as `kill`."""
        self.kill()


def _offer_to_the_kernel(pid: int) -> None:
    """Where memory runs out, an engine goes before the daemon and before anything of others: that is a result."""
    with suppress(OSError):  # it has ended already
        own = int(Path("/proc/self/oom_score_adj").read_text())
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(max(OOM_SCORE_ADJUST, min(own + 100, 1000))))


def death_of(code: int, oom: bool) -> Death:
    """The kind of failure that an exit code tells of; negative codes are signals, as are those above 128."""
    number = -code if code < 0 else code - 128 if 128 < code <= 128 + signal.SIGRTMAX else 0
    if number == signal.SIGKILL:
        if oom:
            return Death("oom_host", "the kernel ended the runner for want of memory")
        return Death("infra", "the runner was killed by SIGKILL from outside")
    if number:
        return Death("engine_error", f"the runner died of {_signal_name(number)}")
    if code == 0:
        return Death("bad_result", "the runner ended without a result")
    if code == EXIT_ORPHANED:
        return Death("infra", "the runner took its controller for gone")
    if code == EXIT_IO:
        return Death("infra", "the runner could not write to its session folder; its log says why")
    return Death("engine_error", f"the runner ended with exit code {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
