"""A prefetch that stalls, never ends, or leaves something behind is ended in time and says so in one line."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from lemctl.engines import fetching
from lemctl.engines.fetching import FetchLimits, run_job
from lemctl.errors import LemctlError, PreflightRefused
from lemctl.steps import Step

AMPLE = FetchLimits(total_s=60.0, silence_s=60.0)
TELL = """
import json, sys, time
def tell(done):
    print(json.dumps({"step": "model", "done": done, "total": 9, "message": "org/name"}), flush=True)
"""


def job(body: str) -> list[str]:
    return [sys.executable, "-c", TELL + body]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("time.sleep(600)", "no progress for 4 s; "),
        ("while True: tell(3); time.sleep(0.05)", "no progress for 4 s (model: org/name, 3 of 9); "),
        (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); tell(3); time.sleep(600)",
            "no progress for 4 s (m",
        ),
    ],
)
def test_a_prefetch_without_progress_is_ended_in_one_line(
    body: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent, telling the same for ever, and deaf to SIGTERM."""
    monkeypatch.setattr(fetching, "TERMINATE_S", 0.5)
    removed = []
    (line,) = run_job(job(body), {}, lambda _: None, FetchLimits(60.0, 4.0), lambda: removed.append(True))
    assert line.startswith(words)
    assert line.endswith("what was fetched is kept: try again, or raise LEM_PREFETCH_SILENCE_S")
    assert removed == [True]


def test_a_prefetch_that_goes_on_for_ever_is_ended_at_its_limit() -> None:
    body = "for n in range(10**6): tell(n); time.sleep(0.05)"
    steps: list[Step] = []
    (line,) = run_job(job(body), {}, steps.append, FetchLimits(2.0, 60.0))
    assert line.startswith("not done within 2 s (model: org/name, ")
    assert "LEM_PREFETCH_TOTAL_S" in line
    assert [step.done for step in steps] == list(range(len(steps)))


def test_what_a_job_started_cannot_hold_its_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the job's pipes, and outlives it."""
    monkeypatch.setattr(fetching, "TAIL_S", 0.2)
    body = "import subprocess; child = subprocess.Popen(['sleep', '20']); tell(child.pid); sys.exit(0)"
    steps: list[Step] = []
    began = time.monotonic()
    assert run_job(job(body), {"PATH": "/usr/bin:/bin"}, steps.append, AMPLE) == []
    assert time.monotonic() - began < 15
    (step,) = steps
    assert step.done is not None
    os.kill(step.done, signal.SIGKILL)  # it was alive all along


def test_a_prefetch_that_is_left_is_ended_with_what_it_left() -> None:
    """As Ctrl-C leaves it."""
    removed = threading.Event()

    def on_step(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job("tell(1); time.sleep(600)"), {}, on_step, AMPLE, removed.set)
    assert removed.is_set()


def test_complaints_are_told_and_a_failure_without_a_word_is_one() -> None:
    wordy = "print('prefetch: org/name is gated', file=sys.stderr); print('noise', file=sys.stderr); sys.exit(1)"
    assert run_job(job(wordy), {}, lambda _: None, AMPLE) == ["org/name is gated"]
    assert (
        run_job(job("print(json.dumps([1])); print('prefetch: x', file=sys.stderr)"), {}, lambda _: None, AMPLE) == []
    )
    with pytest.raises(LemctlError, match="prefetch failed: boom"):
        run_job(job("sys.exit('boom')"), {}, lambda _: None, AMPLE)


def test_an_interpreter_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(PreflightRefused, match="/no/python cannot be started"):
        run_job(["/no/python"], {}, lambda _: None, AMPLE)
