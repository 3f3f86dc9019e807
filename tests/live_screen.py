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
from datetime import timedelta
from pathlib import Path
from typing import Any

from lemctl.clock import SystemClock, boot_id, utc_text
from lemctl.daemon.locks import FileLock
from lemctl.measure.readings import Sample
from lemctl.paths import Home
from lemctl.store import live, samples
from lemctl.store.database import Store

GPU = "GPU-00000000-0000-0000-0000-000000000000"
CEILING_S = 40.0
#: Ages of readings that are fresh, and none of them forgotten, for 80 s, however slowly a machine draws a screen.
AHEAD = range(-80, 35)
PID = 4242


def on_a_thread(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop and a thread of its own: a browser that another test drives keeps this thread's."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(test(**fixtures))).result()

    return run


def wait_until(is_true: Callable[[], bool], what: str, instead: Callable[[], str] = str) -> None:
    """Until it is true; fails with `what` was waited for, and what was there `instead`, when that takes too long."""
    deadline_s = time.monotonic() + CEILING_S
    while not is_true():
        assert time.monotonic() < deadline_s, f"waited {CEILING_S:g} s for {what}, not\n{instead()}"
        time.sleep(0.1)


def read_gpu(
    home: Home,
    power_w: float,
    ages_s: Iterable[int] = range(111),
    gpu: str = GPU,
    facts: dict[str, Any] | None = None,
    at: Callable[[int], dict[str, Any]] = lambda age_s: {},
    **more: Any,
) -> int:
    """Keep a reading of each of those ages of a GPU, some of its values as `at` gives them; its row's id."""
    told = {"power_mw": power_w * 1e3, "temp_c": 41, "gpu_utilisation_pct": 97, "sm_clock_mhz": 1755, **more}
    now_ns = time.monotonic_ns()
    ages = sorted(ages_s, reverse=True)
    rows = [Sample(gpu, "power", now_ns - age_s * 10**9, told | at(age_s)) for age_s in ages]
    with Store.open(home, "write") as store:
        with store.transaction() as tx:
            devices = {gpu: samples.know_device(tx, gpu, {"name": "Model GPU", "index": 0, **(facts or {})})}
        samples.add_samples(store, devices, boot_id(), rows)
    return devices[gpu]


def ahead_utc() -> str:
    """A time that has not come when the test has ended: whatever is counted from it is 0."""
    return utc_text(SystemClock().utc() + timedelta(minutes=10))


@contextmanager
def said_by_a_daemon(home: Home, **lanes: dict[str, Any]) -> Iterator[None]:
    """For screens that must be the same each time: this process holds the daemon's lock, and said this of its lanes.
    Its heartbeat lies ahead, so that its age is 0 for as long as a test takes."""
    clock = SystemClock()
    lock = FileLock.take(home.daemon_lock, str(PID))
    try:
        with Store.open(home, "write") as store, store.transaction() as tx:
            live.put(tx, "daemon", {"heartbeat_utc": ahead_utc(), "pid": PID}, clock)
            for lane, document in lanes.items():
                live.put(tx, f"lane:{lane}", document, clock)
        yield
    finally:
        lock.release()


@contextmanager
def terminal(home: Home, columns: int, lines: int) -> Iterator[Callable[..., str]]:
    """A tmux of its own with the live screen in it; gives what is on the screen, after keys if there are any."""
    name = f"lem-{uuid.uuid4().hex[:8]}"
    lemctl = str(Path(sys.executable).with_name("lemctl"))
    environment = {**os.environ, "LEM_HOME": str(home.root), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    tmux = ["tmux", "-u", "-L", name, "-f", "/dev/null"]
    size = ["-x", str(columns), "-y", str(lines)]
    subprocess.run([*tmux, "new-session", "-d", *size, f"{lemctl} status --watch"], env=environment, check=True)

    def screen(*keys: str) -> str:
        if keys:
            subprocess.run([*tmux, "send-keys", *keys], check=False, capture_output=True)
        shown = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False)
        return "\n".join(line.rstrip() for line in shown.stdout.splitlines())

    try:
        yield screen
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
