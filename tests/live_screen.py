"""The live screen for tests: in a real terminal or by its keys, with GPUs that were read when a test says so."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lemctl.clock import SystemClock, boot_id, utc_text
from lemctl.daemon.locks import FileLock
from lemctl.measure.readings import Sample
from lemctl.paths import Home
from lemctl.store import live, samples
from lemctl.store.database import Store
from night import Night

GPU = "GPU-00000000-0000-0000-0000-000000000000"
CEILING_S = 40.0


def on_a_thread(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop and a thread of its own: a browser that another test drives keeps this thread's."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(test(**fixtures))).result()

    return run


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Until it is true; fails with `what` was waited for when that takes too long."""
    deadline_s = time.monotonic() + CEILING_S
    while not is_true():
        assert time.monotonic() < deadline_s, f"waited {CEILING_S:g} s for {what}"
        time.sleep(0.1)


def read_gpu(
    night: Night,
    power_w: float,
    ages_s: Iterable[int] = range(111),
    gpu: str = GPU,
    facts: dict[str, Any] | None = None,
    **more: Any,
) -> int:
    """Keep a reading of each of those ages of a GPU; its row's id."""
    told = {"power_mw": power_w * 1e3, "temp_c": 41, "gpu_utilisation_pct": 97, "sm_clock_mhz": 1755, **more}
    now_ns = time.monotonic_ns()
    rows = [Sample(gpu, "power", now_ns - age_s * 10**9, told) for age_s in sorted(ages_s, reverse=True)]
    with Store.open(night.home, "write") as store:
        with store.transaction() as tx:
            devices = {gpu: samples.know_device(tx, gpu, {"name": "Model GPU", "index": 0, **(facts or {})})}
        samples.add_samples(store, devices, boot_id(), rows)
    return devices[gpu]


@contextmanager
def said_by_a_daemon(home: Home, **lanes: dict[str, Any]) -> Iterator[None]:
    """For screens that must be the same each time: this process holds the daemon's lock, and said this of its lanes."""
    clock = SystemClock()
    lock = FileLock.take(home.daemon_lock, str(os.getpid()))
    try:
        with Store.open(home, "write") as store, store.transaction() as tx:
            live.put(tx, "daemon", {"heartbeat_utc": utc_text(clock.utc()), "pid": os.getpid()}, clock)
            for lane, document in lanes.items():
                live.put(tx, f"lane:{lane}", document, clock)
        yield
    finally:
        lock.release()


@contextmanager
def terminal(night: Night, columns: int, lines: int) -> Iterator[Callable[..., str]]:
    """A tmux of its own with the live screen in it; gives what is on the screen, after keys if there are any."""
    name = f"lem-{uuid.uuid4().hex[:8]}"
    lemctl = str(Path(sys.executable).with_name("lemctl"))
    environment = {**os.environ, **night.variables(), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    tmux = ["tmux", "-u", "-L", name, "-f", "/dev/null"]
    size = ["-x", str(columns), "-y", str(lines)]
    subprocess.run([*tmux, "new-session", "-d", *size, f"{lemctl} status --watch"], env=environment, check=True)

    def screen(*keys: str) -> str:
        for key in keys:
            subprocess.run([*tmux, "send-keys", key], check=False, capture_output=True)
        shown = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False)
        return "\n".join(line.rstrip() for line in shown.stdout.splitlines())

    try:
        yield screen
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
