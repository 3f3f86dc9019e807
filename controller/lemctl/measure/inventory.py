"""Which GPUs this host has: asked in a child process with a limit, because a broken driver can hang whoever asks.

`python -m lemctl.measure.inventory` prints one JSON object: {"gpus": [facts], "users": {uuid: [pid]}} or
{"unavailable": reason}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from lemctl.measure.readings import GpuFacts, GpuLostError, NvmlUnavailableError
from lemctl.measure.watch import PASSED_ENVIRONMENT

TIMEOUT_S = 30.0


def find_gpus(environment: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> list[GpuFacts]:
    """Facts of every GPU, in index order. Raises NvmlUnavailableError with the reason where there is none to ask."""
    return [GpuFacts(**facts) for facts in _asked(environment, timeout_s)["gpus"]]


def gpu_users(environment: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, list[int]]:
    """The processes on every GPU, by its UUID. Raises NvmlUnavailableError."""
    users: dict[str, list[int]] = _asked(environment, timeout_s)["users"]
    return users


def _asked(environment: Mapping[str, str] | None, timeout_s: float) -> dict[str, Any]:
    passed = {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ} | dict(environment or {})
    command = [sys.executable, "-m", "lemctl.measure.inventory"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, check=False, env=passed, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise NvmlUnavailableError(f"the GPU driver did not answer within {timeout_s:.0f} s") from None
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NvmlUnavailableError(f"GPUs cannot be listed: {' '.join(last) or 'no answer'}") from None
    if "unavailable" in told:
        raise NvmlUnavailableError(told["unavailable"])
    return told


def main() -> int:
    """Print what there is."""
    from lemctl.measure.gpu import NvmlProbe

    try:
        probe = NvmlProbe()
        here = probe.gpus()
        users = {gpu: sorted({process.pid for process in probe.processes(gpu) or ()}) for gpu in here}
        told: dict[str, object] = {"gpus": [probe.facts(gpu).to_json() for gpu in here], "users": users}
    except (NvmlUnavailableError, GpuLostError) as error:
        told = {"unavailable": str(error)}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
