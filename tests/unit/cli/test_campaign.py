"""`lemctl campaign`: preflight and queueing, then the whole line with a real daemon on the replay engine."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from build import Night
from command_line import PLAN, Lemctl

from lemctl.cli.state import daemon_pid
from lemctl.paths import Home


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A campaign of four short runs."""
    found = tmp_path / "night.yaml"
    found.write_text(PLAN)
    return found


@pytest.fixture
def with_daemon(home: Home) -> Iterator[None]:
    """Whatever daemon the test starts is gone afterwards."""
    yield
    pid = daemon_pid(home)
    if pid:
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while daemon_pid(home) is not None and time.monotonic() < until:
            time.sleep(0.02)


def test_start_refuses_a_wrong_file_with_its_line(lemctl: Lemctl, file: Path) -> None:
    file.write_text(PLAN.replace("cycles: 2", "cylces: 2"))
    said = lemctl("campaign", "start", str(file))
    assert said.code == 2
    assert f"{file}:8: cylces" in said.err
    assert "did you mean cycles?" in said.err


def test_start_of_no_file_names_the_ready_ones(lemctl: Lemctl) -> None:
    said = lemctl("campaign", "start", "nowhere.yaml")
    assert said.code == 2
    assert "demo" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("start", "FILE", "--at", "soon"), "--at soon: must be a time such as 22:00"),
        (("start", "FILE", "--at", "2020-01-01T22:00"), "has passed"),
        (("pause", "demo", "--for", "1h", "--until", "22:00"), "not both"),
        (("pause", "demo", "--for", "soon"), "--for soon: must be a duration"),
        (("pause", "demo", "--until", "25:00"), "--until 25:00: must be a time of the day"),
    ],
)
def test_a_time_that_is_none_is_refused(
    lemctl: Lemctl, file: Path, night: Night, words: tuple[str, ...], says: str
) -> None:
    lemctl("images", "prefetch", str(file), "--executor", "local")
    said = lemctl("campaign", *(str(file) if word == "FILE" else word for word in words))
    assert said.code == 2, said.err
    assert says in said.err


def test_start_with_prompts_missing_names_the_command_that_mends_it(lemctl: Lemctl, file: Path, home: Home) -> None:
    said = lemctl("campaign", "start", str(file))
    assert said.code == 4
    assert f"`lemctl images prefetch {file}`" in said.err
    assert not home.database.exists(), "nothing may be queued"


def test_set_and_preset_reach_the_plan(lemctl: Lemctl, file: Path) -> None:
    body = json.loads(
        lemctl("campaign", "plan", str(file), "--json", "--set", "cycles=7", "--preset", "throughput").out
    )
    assert body["runs"] == 14
    assert body["missing"][0]["fix"] == f"lemctl images prefetch {file}"


def test_hours_that_never_close_are_said_to_be_always_open(lemctl: Lemctl, file: Path) -> None:
    file.write_text(PLAN + 'hours: [{from: "22:00", to: "07:00"}, {from: "06:00", to: "22:00"}]\n')
    assert "hours     22:00 to 07:00 and 06:00 to 22:00 (" in (text := lemctl("campaign", "plan", str(file)).out)
    assert "); always open" in text
    hours = json.loads(lemctl("campaign", "plan", str(file), "--json").out)["hours"]
    assert (hours["is_open"], hours["changes"]) == (True, None)


@pytest.mark.parametrize(
    "words",
    [
        ("campaign", "pause", "demo"),
        ("campaign", "resume", "demo"),
        ("campaign", "stop", "demo"),
        ("campaign", "cancel", "demo"),
        ("campaign", "retry", "demo", "--failed"),
        ("campaign", "skip", "4"),
    ],
)
def test_steering_without_a_daemon_says_how_to_start_one(
    lived_in: Night, lemctl: Lemctl, words: tuple[str, ...]
) -> None:
    said = lemctl(*words)
    assert said.code == 6
    assert "lemctl daemon start" in said.err


def test_retry_without_saying_what_is_refused(lemctl: Lemctl) -> None:
    assert lemctl("campaign", "retry", "demo").code == 2


def test_retry_where_takes_short_keys_and_refuses_unknown_ones(
    lived_in: Night, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lemctl.cli import campaign_steer

    asked: list[dict[str, object]] = []
    monkeypatch.setattr(campaign_steer, "obeyed", lambda at, verb, arguments: asked.append(arguments) or 0)
    assert lemctl("campaign", "retry", "demo", "--where", "batch_size=8", "--where", "backend=replay").code == 0
    assert asked[0]["where"] == {"workload.load.batch_size": "8", "backend": "replay"}
    said = lemctl("campaign", "retry", "demo", "--where", "dtype=float16")
    assert (said.code, "workload.load.batch_size" in said.err) == (2, True)


def test_an_unknown_campaign_is_not_found_and_the_known_are_named(lived_in: Night, lemctl: Lemctl) -> None:
    said = lemctl("campaign", "show", "nope")
    assert said.code == 7
    assert "demo" in said.err


def test_an_executor_that_is_none_is_refused(lemctl: Lemctl, file: Path) -> None:
    assert lemctl("campaign", "plan", str(file), "--executor", "podman").code == 2


def test_from_a_file_to_a_report(with_daemon: None, lemctl: Lemctl, file: Path, home: Home) -> None:
    started = lemctl("campaign", "start", str(file), "--wait", "--prefetch")
    assert (started.code, started.err) == (0, "")
    assert "campaign night is in the queue: 4 runs, executor local" in started.out
    assert "4/4  run " in started.out
    assert "campaign night: finished, 4 done" in started.out

    body = json.loads(lemctl("report", "night", "--json").out)
    assert [cell["counted"] for cell in body["experiments"]] == [2, 2]
    tokens = [cell["figures"]["tokens_out"]["mean"] for cell in body["experiments"]]
    assert tokens == [128.0, 128.0]
    energy = body["experiments"][0]["figures"]["energy_per_output_token"]
    assert energy["mean"] is None
    assert energy["reason"]

    run = json.loads(lemctl("results", "show", "1", "--json").out)
    assert run["attempts"][0]["session"]["backend"] == "replay"
    again = lemctl("campaign", "plan", str(file))
    assert "from earlier runs of the same experiments" in again.out
    assert lemctl("campaign", "start", str(file), "--wait").out.count("night#2") >= 1


def test_a_campaign_is_paused_resumed_and_cancelled(with_daemon: None, lemctl: Lemctl, file: Path) -> None:
    assert lemctl("images", "prefetch", str(file)).code == 0
    slow = ("--set", "gate.gap=20s")
    assert lemctl("campaign", "start", str(file), *slow).code == 0
    attached = lemctl("campaign", "start", str(file), *slow)
    assert "attached" in attached.out
    other = lemctl("campaign", "start", str(file), *slow, "--set", "cycles=3")
    assert (other.code, "another plan" in other.err) == (2, True)

    assert lemctl("campaign", "pause", "night", "--reason", "lunch").code == 0
    shown = json.loads(lemctl("campaign", "show", "night", "--json").out)["campaign"]
    assert (shown["status"], shown["reason"]) == ("Paused", "lunch")
    waited = lemctl("campaign", "wait", "night")
    assert waited.code == 3
    assert "lemctl campaign resume night" in waited.out
    assert lemctl("campaign", "resume", "night").code == 0
    assert lemctl("campaign", "cancel", "night").code == 0
    shown = json.loads(lemctl("campaign", "show", "night", "--json").out)["campaign"]
    assert shown["status"] == "Cancelled"
    assert shown["runs"]["Cancelled"] == 4
    assert lemctl("campaign", "cancel", "nope").code == 7
    assert lemctl("daemon", "status").code == 0
    assert lemctl("daemon", "stop").code == 0
    assert lemctl("daemon", "status").code == 6


def test_experiment_run_needs_no_file(with_daemon: None, lemctl: Lemctl) -> None:
    model = "random:{model_type: llama, vocab_size: 300}"
    said = lemctl(
        *("experiment", "run", "--backend", "replay", "--model", model, "-d", "random", "-n", "2", "--cycles", "1"),
        *("--preset", "quick-test", "--set", "workload.random.input_len=8", "--set", "workload.max_new_tokens=4"),
    )
    assert said.code == 0, said.err
    assert "1 VALID" in said.out
    assert "campaign   experiment-" in said.out


def test_experiment_run_refuses_a_file_that_sweeps(lemctl: Lemctl, file: Path) -> None:
    said = lemctl("experiment", "run", str(file))
    assert said.code == 2
    assert "2 experiments" in said.err


def test_a_campaign_is_started_for_later_and_seen_to_wait(lemctl: Lemctl, file: Path, with_daemon: None) -> None:
    windows = ('{from: "22:00", to: "07:00", tz: Asia/Kathmandu}', '{from: "06:00", to: "08:00", tz: Asia/Kathmandu}')
    file.write_text(f"{PLAN}hours: [{', '.join(windows)}]\n")
    began = lemctl("campaign", "start", str(file), "--prefetch", "--at", "2099-01-01T22:00")
    assert began.code == 0, began.err
    assert "hours 22:00 to 07:00 and 06:00 to 08:00 (Asia/Kathmandu): " in began.out
    assert "it begins Thu 01 Jan 22:00 +0545" in began.out, "a time that is typed is of the zone of the hours"
    (scheduled,) = json.loads(lemctl("status", "--json").out)["scheduled"]
    assert (scheduled["name"], scheduled["cron"]) == ("night", None)
    assert "scheduled night: begins Thu 01 Jan" in lemctl("status").out
    waited = lemctl("campaign", "wait", "night")
    assert waited.code == 75
    assert "goes on by itself Thu 01 Jan 22:00 +0545" in waited.err
    assert lemctl("campaign", "pause", "night", "--for", "2h").out.startswith("night is paused until ")
    assert "goes on by itself at" in lemctl("status").out
    assert lemctl("campaign", "cancel", "night").code == 0
    assert json.loads(lemctl("status", "--json").out)["scheduled"] == []
