"""A session with the real runner, without a daemon: the rungs that end it, and what is not believed of a runner."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lem_runner.prompts import Prompt, ids_sha256
from lem_runner.protocol import (
    CONTRACT_VERSION,
    EVENTS_FILE,
    Event,
    MeasureSpec,
    ModelRef,
    RunSpec,
    Warmup,
    WorkloadSpec,
)
from lem_runner.results import RequestRecord
from lemctl.cancel import Cancel
from lemctl.engines import session as session_module
from lemctl.engines.events import EventTail, read_finished
from lemctl.engines.local import LocalRunner
from lemctl.engines.logs import CappedLog, read_log
from lemctl.engines.processes import processes_on
from lemctl.engines.runner_copy import copy_runner
from lemctl.engines.session import Session
from lemctl.engines.watchdogs import Limits, Phases, Progress
from lemctl.errors import CancelledByPerson, Interrupted, RunFailed
from lemctl.paths import runner_source


@pytest.fixture(autouse=True)
def _quick_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CANCEL_S", "QUIT_S", "CLOSE_S", "KILL_S"):
        monkeypatch.setattr(session_module, name, 0.5)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], tuple[Session, RunSpec]]]:
    """Opens a session whose engine has these parameters."""
    sessions: list[Session] = []
    folder = tmp_path / "sessions" / "s"

    def open_session(engine: dict[str, Any]) -> tuple[Session, RunSpec]:
        folder.mkdir(parents=True)
        prompts = [Prompt(n, None, [n, n + 1], ids_sha256([n, n + 1])) for n in range(4)]
        raw = b"".join(prompt.encode() for prompt in prompts)
        (tmp_path / "prompts.jsonl").write_bytes(raw)
        spec = RunSpec(
            "replay", "key", ModelRef("random", "r", config={}), {"decode_ms_per_token": 50.0, **engine}, {},
            WorkloadSpec(str(tmp_path / "prompts.jsonl"), hashlib.sha256(raw).hexdigest(), 4, 4, "fixed", "offline", 1),
            MeasureSpec(None, Warmup("none")),
        )  # fmt: skip
        (tmp_path / "runner").mkdir()
        copy = copy_runner(runner_source(), tmp_path / "runner")
        limits = Limits(start_s=20, silence_s=20, progress_s=20, run_s=20)
        made = Session(LocalRunner(sys.executable, copy.root, folder, {}), folder, limits)
        sessions.append(made)
        made.greet(Cancel())
        made.load("a", spec, Cancel())
        return made, spec

    yield open_session
    for made in sessions:
        made.end("failed")
    assert processes_on(folder) == []


def cancel_soon(cancel: Cancel, reason: session_module.Any = "cancelled") -> None:
    threading.Timer(0.3, cancel.set, (reason, "enough")).start()


def test_a_cancel_is_obeyed_at_the_next_batch_and_the_engine_stays(opened: Any) -> None:
    session, spec = opened({})
    cancel = Cancel()
    cancel_soon(cancel)
    with pytest.raises(CancelledByPerson, match="enough"):
        session.go("a", cancel)
    assert session.is_alive()
    assert session.load("b", spec, Cancel())["reused"] is True
    assert session.go("b", Cancel()).result.requests == 4
    assert session.end("ok") == "quit"
    assert session.end("ok") == "quit"
    assert not session.is_alive()


def test_a_runner_that_ignores_cancel_is_ended_by_closing_its_input(opened: Any) -> None:
    session, _ = opened({"fault": "ignore_cancel", "decode_ms_per_token": 500.0})
    cancel = Cancel()
    cancel_soon(cancel, "interrupted")
    began = time.monotonic()
    with pytest.raises(Interrupted):
        session.go("a", cancel)
    assert time.monotonic() - began < 5
    assert session.end("failed") == "stdin closed"


def test_a_stopped_runner_is_killed(opened: Any) -> None:
    session, _ = opened({})
    os.kill(int(session.hello["pid"]), signal.SIGSTOP)
    assert session.end("ok") == "killed"


def test_every_step_that_ended_a_runner_is_recorded_with_its_limit(opened: Any) -> None:
    session, _ = opened({})
    os.kill(int(session.hello["pid"]), signal.SIGSTOP)
    session.end("ok")
    pattern = (
        r"asked to quit \(\d+\.\d of 0\.5 s, in vain\), stdin closed \(\d+\.\d of 0\.5 s, in vain\),"
        r" killed \(\d+\.\d of 0\.5 s\), container restarted, or its processes ended \(\d+\.\d s\)"
    )
    assert re.fullmatch(pattern, session.ladder.text()), session.ladder.text()


@pytest.mark.parametrize(
    ("engine", "limits", "message"),
    [
        ({"decode_ms_per_token": 5000.0}, {"window_s": 0.3}, "window not over within 0 s"),
        ({"decode_ms_per_token": 5000.0}, {"run_s": 0.3}, "no result within 0 s"),
        ({"decode_ms_per_token": 5000.0}, {"total_s": 0.6}, "no end within 1 s of its start"),
    ],
)
def test_every_phase_has_a_limit_of_its_own(
    opened: Any, engine: dict[str, Any], limits: dict[str, float], message: str
) -> None:
    session, _ = opened(engine)
    session.limits = replace(session.limits, **limits)
    with pytest.raises(RunFailed, match=message) as failed:
        session.go("a", Cancel())
    assert failed.value.kind == "timed_out"


def test_warm_up_window_and_writing_are_told_apart_by_the_runners_events() -> None:
    phases = Phases(Limits(warmup_s=10, window_s=100, writing_s=5))
    now = time.monotonic()
    assert phases.lateness(now + 9) is None
    assert phases.lateness(now + 11) == "warm-up not over within 10 s"
    phases.see(Event(0, 1, "a", "warm", {}))
    assert phases.lateness(now + 90) is None
    assert phases.lateness(now + 111) == "window not over within 100 s"
    phases.see(Event(1, 1, "a", "window_end", {}))
    assert phases.lateness(now + 11) == "writing not over within 5 s"
    phases.see(Event(2, 1, "a", "window_begin", {}))
    assert phases.lateness(now + 11) is None


def test_writing_to_a_stopped_runner_has_a_limit(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lemctl.engines.local.WRITE_TIMEOUT_S", 0.3)
    session, _ = opened({})
    os.kill(int(session.hello["pid"]), signal.SIGSTOP)
    began = time.monotonic()
    session.process.write(b"x" * (1 << 20))
    assert 0.2 < time.monotonic() - began < 5


def test_a_finished_result_beats_a_cancel_and_a_death(opened: Any) -> None:
    session, _ = opened({"decode_ms_per_token": 1.0})
    folder = session.folder
    session.process.write(b'{"v":1,"verb":"go","attempt":"a"}\n')
    until = time.monotonic() + 20
    while not (folder / "a.result.json").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(int(session.hello["pid"]), signal.SIGKILL)
    cancel = Cancel()
    cancel.set("cancelled", "too late")
    assert session.go("a", cancel).result.attempt == "a"


def test_a_death_while_idle_is_seen(opened: Any) -> None:
    session, _ = opened({})
    os.kill(int(session.hello["pid"]), signal.SIGKILL)
    with pytest.raises(RunFailed, match="killed by SIGKILL"):
        session.idle(Cancel(), 20)
    assert not session.is_alive()


def emit(folder: Path, seq: int, event: Any, **data: Any) -> None:
    with (folder / EVENTS_FILE).open("ab") as file:
        file.write(Event(seq, 1, "", event, data).encode())


def test_a_runner_of_another_contract_is_refused_with_both_numbers(tmp_path: Path) -> None:
    emit(tmp_path, 0, "hello", contract=CONTRACT_VERSION + 1)

    class Silent:
        def poll(self) -> None:
            return None

    session = Session(Silent(), tmp_path, Limits())  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match=f"speaks contract {CONTRACT_VERSION + 1}, this controller {CONTRACT_VERSION}"):
        session.greet(Cancel())


class Lives:
    """A runner of which only the files matter."""

    def poll(self) -> None:
        return None

    def last_words(self) -> str:
        return ""


def sign(silent_s: Any, **changes: Any) -> dict[str, Any]:
    return {"phase": "window", "batches": 3, "tokens_out": 9, "silent_s": silent_s, **changes}


@pytest.mark.parametrize(
    ("replicas", "kind", "message"),
    [
        ([sign(0.2), sign(60.5)], "silent", "replica 1 of 2: no sign of life for 60 s"),
        ([sign(99.0), sign(0)], "silent", "replica 0 of 2: no sign of life for 99 s"),
        (7, "bad_result", "event 0: what it tells of its replicas is not sound"),
        ([{}], "bad_result", "what it tells of its replicas is not sound"),
        ([sign("long")], "bad_result", "what it tells of its replicas is not sound"),
    ],
)
def test_a_replica_without_a_sign_of_life_is_told_while_the_runner_waits(
    tmp_path: Path, replicas: Any, kind: str, message: str
) -> None:
    emit(tmp_path, 0, "alive", phase="waiting", batches=0, tokens_out=0, replicas=replicas)
    session = Session(Lives(), tmp_path, Limits(silence_s=60.0))  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match=message) as failed:
        session.idle(Cancel(), 20)
    assert failed.value.kind == kind


@pytest.mark.parametrize(
    ("ranks", "kind", "message"),
    [
        ([{"silent_s": 0.2}, {"silent_s": 61}], "silent", "rank 2 of 3: no sign of life for 61 s"),
        ([{"silent_s": None}], "bad_result", "what it tells of its ranks is not sound"),
    ],
)
def test_a_rank_that_hangs_is_silent_by_its_number_long_before_the_limit_of_progress(
    tmp_path: Path, ranks: Any, kind: str, message: str
) -> None:
    for seq in range(2):
        emit(tmp_path, seq, "alive", phase="window", batches=3, tokens_out=9, ranks=ranks)
    session = Session(Lives(), tmp_path, Limits(silence_s=60.0))  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match=message) as failed:
        session.idle(Cancel(), 20)
    assert failed.value.kind == kind


def test_a_replica_that_spoke_again_is_not_silent(tmp_path: Path) -> None:
    for seq, silent_s in enumerate((61.0, 0.5)):
        emit(tmp_path, seq, "alive", phase="waiting", batches=0, tokens_out=0, replicas=[sign(silent_s)])
    session = Session(Lives(), tmp_path, Limits(silence_s=60.0))  # type: ignore[arg-type]
    session.idle(Cancel(), 0.05)


def test_a_replica_without_progress_is_timed_out_although_the_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("lemctl.engines.watchdogs.time.monotonic", lambda: now_s)
    progress = Progress(10.0)

    def see(batches: int, *stuck: dict[str, Any]) -> None:
        others = sign(0.1, batches=batches)
        data = {"phase": "window", "batches": batches, "tokens_out": 9, "replicas": [others, *stuck]}
        progress.see(Event(0, 1, "a", "alive", data))

    for batches in range(5):  # one that waits for the others, or has done its share, need not move
        see(batches, sign(0.1, phase="waiting"), sign(0.1, phase="idle"))
        now_s += 9
    see(5, sign(0.1), sign(0.1, phase="idle"))
    now_s += 11
    with pytest.raises(
        RunFailed, match=r"^timed_out: replica 1 of 3: no progress for 10 s \(batches done: 3\)"
    ) as failed:
        see(6, sign(0.1), sign(0.1, phase="idle"))
    assert failed.value.kind == "timed_out"


def test_what_a_runner_says_of_its_error_can_be_stored_and_shown(tmp_path: Path) -> None:
    emit(tmp_path, 0, "error", kind="no_such_kind", message="bad \x00 \x1b[31m \ud800 " + "x" * 5000, traceback=7)

    class Silent:
        def poll(self) -> None:
            return None

    session = Session(Silent(), tmp_path, Limits())  # type: ignore[arg-type]
    with pytest.raises(RunFailed) as failed:
        session.greet(Cancel())
    assert failed.value.kind == "engine_error"
    assert failed.value.message.startswith("bad ? ?[31m ? xxx")
    assert len(failed.value.message) == 1000
    assert failed.value.detail == "7"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"not json\n", "event 0: no JSON"),
        (b'{"v": 99}\n', "contract 99"),
        (Event(1, 1, "", "hello", {}).encode(), "event 1 where 0 was due: one was lost or doubled"),
        (Event(0, 1, "", "hello", {}).encode() * 2, "event 0 where 1 was due: one was lost or doubled"),
        (b"x" * (2 << 20), "an event is longer than"),
    ],
)
def test_a_stream_that_is_not_sound_is_a_bad_result(tmp_path: Path, lines: bytes, message: str) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(lines)
    with pytest.raises(RunFailed, match=message) as failed:
        list(EventTail(tmp_path / EVENTS_FILE).read())
    assert failed.value.kind == "bad_result"


def test_half_an_event_is_waited_for(tmp_path: Path) -> None:
    line = Event(0, 1, "", "hello", {}).encode()
    file = tmp_path / EVENTS_FILE
    tail = EventTail(file)
    assert list(tail.read()) == []
    file.write_bytes(line[:10])
    assert list(tail.read()) == []
    file.write_bytes(line)
    assert [event.seq for event in tail.read()] == [0]


def test_a_link_in_place_of_a_runners_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x\n")
    (tmp_path / EVENTS_FILE).symlink_to(tmp_path / "secret")
    with pytest.raises(RunFailed, match="cannot be read"):
        list(EventTail(tmp_path / EVENTS_FILE).read())
    (tmp_path / "a.result.json").symlink_to(tmp_path / "secret")
    with pytest.raises(RunFailed, match="cannot be read"):
        read_finished(tmp_path, "a", None)


def result(**changes: Any) -> dict[str, Any]:
    window = {
        "window": 0, "t_begin_ns": 10, "t_end_ns": 20, "batches": 1, "requests": 1, "tokens_in": 2, "tokens_out": 3,
    }  # fmt: skip
    return {
        "contract": CONTRACT_VERSION, "attempt": "a", "engine_key": "k", "windows": [window], "requests": 1,
        "effective": {}, "memory": {}, "warmup": {}, "notes": [], **changes,
    }  # fmt: skip


def leave(folder: Path, content: dict[str, Any], tokens_out: Any = 3) -> None:
    record = RequestRecord(0, 0, 0, "h", 2, tokens_out, 10, None, 20, None, "length")
    (folder / "a.requests.jsonl").write_bytes(record.encode())
    content.setdefault("requests_sha256", hashlib.sha256(record.encode()).hexdigest())
    (folder / "a.result.json").write_text(json.dumps(content))


def test_a_sound_result_is_read(tmp_path: Path) -> None:
    leave(tmp_path, result())
    finished = read_finished(tmp_path, "a", None)
    assert finished is not None
    assert finished.result.windows[0].tokens_out == 3
    assert read_finished(tmp_path, "b", None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attempt": "b"}, "it is of attempt 'b'"),
        ({"contract": 99}, "contract 99"),
        ({"windows": []}, "it has no window"),
        ({"windows": [{**result()["windows"][0], "t_end_ns": 10}]}, "ends before it begins"),
        ({"windows": [{**result()["windows"][0], "t_end_ns": "20"}]}, "every field is a count or a time"),
        ({"windows": [{**result()["windows"][0], "tokens_in": -1}]}, "not negative"),
        ({"windows": [{"window": 0}]}, "missing"),
        ({"memory": [1]}, "must be objects"),
        ({"notes": [1]}, "notes must be texts"),
        ({"effective": {"x": float("nan")}}, "NaN is no JSON"),
        ({"requests_sha256": "0"}, "records of the requests are missing or not the ones"),
        ({"requests": 2}, "1 request records where the result counts 2"),
        ({"windows": [{**result()["windows"][0], "tokens_out": 4}]}, "1 requests, 3 tokens recorded, 1, 4 counted"),
        ({"counting": "by_token_time"}, "0 requests, 0 tokens recorded"),
        ({"counting": "by_eye"}, "counting is 'by_eye'"),
        ({"gauges": {"kv_cache_usage": "half"}}, "gauges must be numbers"),
        ({"load": [1]}, "gauges and load must be objects"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_a_result_that_is_not_sound_is_a_bad_result(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    leave(tmp_path, result(**changes))
    with pytest.raises(RunFailed, match=message) as failed:
        read_finished(tmp_path, "a", None)
    assert failed.value.kind == "bad_result"


@pytest.mark.parametrize("tokens_out", [4, "3", -3, 3.0])
def test_records_that_do_not_add_up_are_a_bad_result(tmp_path: Path, tokens_out: Any) -> None:
    leave(tmp_path, result(), tokens_out)
    with pytest.raises(RunFailed) as failed:
        read_finished(tmp_path, "a", None)
    assert failed.value.kind == "bad_result"


def test_a_log_keeps_its_head_and_its_tail_and_says_what_is_between(tmp_path: Path) -> None:
    out, into = os.pipe()
    log = CappedLog(os.fdopen(out, "rb"), tmp_path / "stdout.log")
    with os.fdopen(into, "wb") as writer:
        for n in range(300_000):
            writer.write(b"%09d\n" % n)
    log.join(10)
    assert log.total_b == 3_000_000
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 1.5e6
    kept = read_log(tmp_path / "stdout.log", 0, None)
    assert kept.startswith(b"000000000\n")
    assert kept.endswith(b"000299999\n")
    assert b"bytes not kept" in kept
    assert log.last_lines(2) == "000299998\n000299999"


def test_a_log_that_cannot_be_kept_is_drained_all_the_same(tmp_path: Path) -> None:
    out, into = os.pipe()
    log = CappedLog(os.fdopen(out, "rb"), tmp_path / "no" / "such" / "folder.log")
    with os.fdopen(into, "wb") as writer:
        writer.write(b"x" * 500_000)  # more than a pipe holds: it would block for ever
    log.join(10)
    assert log.total_b == 500_000


def test_a_copy_of_the_runner_that_was_changed_is_made_anew(tmp_path: Path) -> None:
    copy = copy_runner(runner_source(), tmp_path)
    victim = copy.root / "lem_runner" / "session.py"
    whole = victim.read_bytes()
    victim.write_bytes(b"")
    again = copy_runner(runner_source(), tmp_path)
    assert again == copy
    assert victim.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir()] == [copy.hash]
