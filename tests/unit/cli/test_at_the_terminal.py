"""What a person at a terminal types beside the road: each is answered, none is ignored."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from build import Night, plan_of
from command_line import PLAN, Lemctl

from lemctl.cli import ask, campaign_start, campaign_steer, results
from lemctl.cli.describe import run_ended_line
from lemctl.cli.state import home as home_of
from lemctl.clock import SystemClock
from lemctl.daemon import gpu_choice
from lemctl.daemon.locks import FileLock
from lemctl.paths import Home
from lemctl.simulate import run_campaign
from lemctl.store import commands
from lemctl.store.campaigns import close, find, place_in_line, settle
from lemctl.store.database import Store
from lemctl.store.moves import move
from lemctl.store.read_status import run_lines
from lemctl.store.status import CampaignStopped, Skipped


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A campaign of four short runs."""
    found = tmp_path / "night.yaml"
    found.write_text(PLAN)
    return found


@pytest.mark.parametrize("noun", ["campaign", "results", "config", "daemon"])
def test_a_noun_alone_shows_its_verbs_one_to_a_line(noun: str, lemctl: Lemctl) -> None:
    said = lemctl(noun)
    assert said.code == 0
    assert len(said.out.splitlines()) > 5


@pytest.mark.parametrize(("words", "kind"), [(("campaign", "list"), "campaigns"), (("results", "list"), "runs")])
def test_lists_of_an_empty_state_folder_are_empty(words: tuple[str, ...], kind: str, lemctl: Lemctl) -> None:
    said = lemctl(*words, "--json")
    assert said.code == 0
    assert json.loads(said.out)[kind] == []
    assert lemctl(*words).out.startswith("no ")


def test_a_list_of_runs_fits_eighty_columns(lived_in: Night, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "terminal_width", lambda: 80)
    shown = lemctl("results", "list").out.splitlines()
    assert max(map(len, shown)) <= 80
    assert shown[0].split()[:2] == ["run", "campaign"]


def test_with_nothing_open_status_shows_the_campaign_that_ended_last(night: Night, lemctl: Lemctl) -> None:
    night.add(plan_of("long"))
    night.add(plan_of("short"))
    for name in ("short", "long"):
        with night.store.transaction() as tx:
            night.clock.advance(60.0)
            close(tx, find(tx, name), CampaignStopped(), night.clock, "person")
            tx.execute(
                "UPDATE campaigns SET status = 'Finished', status_data = '{\"kind\": \"Finished\"}' WHERE name = ?",
                (name,),
            )
    assert "campaign  long: Finished" in lemctl("status").out


def test_a_daemon_that_does_not_end_in_time_is_told_as_such(home: Home, lemctl: Lemctl) -> None:
    home.create()
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        lock = FileLock.take(home.daemon_lock, str(sleeper.pid))
        said = lemctl("daemon", "stop", "--timeout", "0.2")
        lock.release()
    finally:
        sleeper.kill()
        sleeper.wait()
    assert said.code == 5
    assert "has not ended within 0.2 s" in said.err


def test_a_file_in_place_of_the_state_folder_is_refused(lemctl: Lemctl, file: Path) -> None:
    said = lemctl("--home", str(file), "campaign", "list")
    assert said.code == 2
    assert "is a file" in said.err


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (("--where", "batchsize=8"), "workload.load.batch_size"),
        (("--backend", "torch"), "pytorch"),
        (("--verdict", "good"), "SUSPECT"),
        (("--status", "ended"), "Done"),
    ],
)
def test_a_condition_that_nothing_can_meet_is_refused_with_what_could(
    words: tuple[str, str], known: str, lived_in: Night, lemctl: Lemctl
) -> None:
    said = lemctl("results", "list", *words)
    assert said.code == 2
    assert known in said.err


def test_conditions_that_no_run_meets_say_so(lived_in: Night, lemctl: Lemctl) -> None:
    assert lemctl("results", "list", "--where", "batch_size=3").out == "no runs match\n"


def test_of_two_campaigns_of_one_name_each_label_means_its_own(night: Night, lemctl: Lemctl) -> None:
    """The bare name means the newest: it must not be printed for the older one."""
    for _ in range(2):
        night.add(plan_of())
        night.activate()
        for run in night.runs():
            night.finish(run)
        with night.store.transaction() as tx:
            assert settle(tx, find(tx, "demo"), night.clock)
    labels = [each["label"] for each in json.loads(lemctl("campaign", "list", "--json").out)["campaigns"]]
    assert labels == ["demo#2", "demo#1"]
    for label in labels:
        number = json.loads(lemctl("campaign", "show", label, "--json").out)["campaign"]["number"]
        assert label == f"demo#{number}"
        runs = json.loads(lemctl("results", "list", "--campaign", label, "--json").out)["runs"]
        assert {run["campaign"] for run in runs} == {label}


@pytest.mark.parametrize("words", [("--seed", "3"), ("--faults",)])
def test_options_of_the_simulation_start_no_real_campaign(
    words: tuple[str, ...], lemctl: Lemctl, file: Path, home: Home
) -> None:
    said = lemctl("campaign", "start", str(file), *words)
    assert said.code == 2
    assert "--simulate" in said.err
    assert not home.database.exists()


@pytest.mark.parametrize("verb", ["plan", "start"])
def test_a_container_for_each_run_needs_the_docker_executor(verb: str, lemctl: Lemctl, file: Path) -> None:
    said = lemctl("campaign", verb, str(file), "--set", "isolation=container", "--executor", "local")
    assert said.code == 2
    assert "isolation: container needs the docker executor" in said.err


def test_the_command_that_fetches_what_is_missing_is_for_the_executor_asked_for(
    lemctl: Lemctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEM_EXECUTOR")
    for verb in ("plan", "start"):
        said = lemctl("campaign", verb, str(file), "--executor", "local")
        assert f"`lemctl images prefetch {file} --executor local`" in said.out + said.err


def test_a_simulation_says_how_it_ended_and_its_figures_are_marked(lemctl: Lemctl, file: Path, home: Home) -> None:
    said = lemctl("campaign", "start", str(file), "--simulate")
    assert said.code == 0
    assert "simulated: campaign night finished, 4 done" in said.out
    there = ("--home", str(home.root / "simulated"))
    assert "SIMULATED" in lemctl(*there, "report").out
    assert "SIMULATED" in lemctl(*there, "status").out
    assert json.loads(lemctl(*there, "report", "--json").out)["simulated"] is True
    header, first, *_ = lemctl(*there, "report", "--format", "csv").out.splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["executor"] == "simulate"


def test_settings_show_the_images_and_interpreters_of_the_backends(
    lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEM_IMAGE_REPLAY", "some:image")
    monkeypatch.delenv("LEM_PYTHON_PYTORCH", raising=False)
    rows = {row["variable"]: row for row in json.loads(lemctl("config", "settings", "--json").out)["settings"]}
    assert (rows["LEM_IMAGE_REPLAY"]["value"], rows["LEM_IMAGE_REPLAY"]["origin"]) == ("some:image", "environment")
    assert rows["LEM_PYTHON_PYTORCH"]["origin"] == "default"


def test_an_empty_variable_is_one_that_is_not_set(lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEM_EXECUTOR", "")
    assert lemctl("config", "settings").code == 0


def test_parameters_of_no_backend_name_the_backends(lemctl: Lemctl) -> None:
    said = lemctl("config", "params", "torch")
    assert said.code == 7
    assert "did you mean pytorch?" in said.err


def test_an_engines_own_parameter_outside_its_scope_is_told_where_it_goes(lemctl: Lemctl, file: Path) -> None:
    said = lemctl("config", "validate", str(file), "--set", "engine.load_s=3")
    assert said.code == 2
    assert "BACKEND.engine.load_s" in said.err


def test_a_daemon_that_hangs_does_not_hold_the_terminal(
    lived_in: Night, home: Home, lemctl: Lemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is held and it takes nothing: the command is taken back, so that it is not obeyed when it wakes."""
    monkeypatch.setattr(commands, "EXPIRES_S", 0.05)
    monkeypatch.setattr(ask, "ALIVE_EVERY_S", 0.1)
    lock = FileLock.take(home.daemon_lock, "4711")
    try:
        said = lemctl("campaign", "pause", "demo")
    finally:
        lock.release()
    assert said.code == 6
    assert "was not carried out" in said.err
    with lived_in.store.transaction() as tx:
        assert commands.take(tx, lived_in.clock) == []


def test_the_report_names_the_model(lived_in: Night, lemctl: Lemctl) -> None:
    assert "path:tiny" in lemctl("report", "demo").out


def test_a_rehearsal_that_was_killed_or_broke_off_does_not_hold_the_next(home: Home) -> None:
    """Its attempt under way holds the lane, and its campaign the line."""
    killed = Night(home)
    killed.add(plan_of())
    killed.activate()
    killed.begin(killed.runs()[0])
    killed.close()
    assert run_campaign(plan_of(cycles=1), "", home) == 0
    assert run_campaign(plan_of("other", cycles=1), "", home) == 0


def test_who_waits_behind_whom_is_seen(lived_in: Night, lemctl: Lemctl) -> None:
    """Where the other one stands still, it is why nothing runs."""
    with lived_in.store.transaction() as tx:
        place_in_line(tx, find(tx, "later"), None, find(tx, "demo"))
    for words in (("status",), ("campaign", "list")):
        assert "Waiting after demo" in lemctl(*words).out


def test_a_run_that_is_skipped_says_why(night: Night) -> None:
    night.add(plan_of())
    night.activate()
    run = night.runs()[0]
    with night.store.transaction() as tx:
        move(
            tx, "run", run, Skipped(reason="cycle 1 failed twice", because="failure"), "2026-01-05T22:00:01Z", "daemon"
        )
    (line,) = run_lines(night.store.connection, (), run=run)
    assert run_ended_line(line, 1, 4) == "1/4  run 1 (replay batch_size=1, cycle 1) skipped: cycle 1 failed twice"


def test_a_gpu_that_is_not_here_is_refused_before_the_night(
    lemctl: Lemctl, file: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued, it would hold the line until the morning."""
    monkeypatch.setattr(gpu_choice, "find_gpus", list)
    said = lemctl("campaign", "start", str(file), "--prefetch", "--set", "gpus=[3]")
    assert said.code == 4
    assert "GPU 3 is not here (this host has no GPU)" in said.err
    assert not home.database.exists()


def test_a_campaign_that_was_stopped_says_so_when_it_is_extended(
    lemctl: Lemctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_start, "_preflight", lambda *_: None)
    monkeypatch.setattr(campaign_start, "_carry_out", lambda *_: 0)
    assert lemctl("campaign", "start", str(file)).code == 0
    with Store.open(home_of(), "write") as store, store.transaction() as tx:
        close(tx, find(tx, "night"), CampaignStopped(), SystemClock(), "person")
    file.write_text(PLAN.replace("cycles: 2", "cycles: 3"))
    said = lemctl("campaign", "extend", str(file))
    assert "2 runs added" in said.out
    assert "`lemctl campaign resume night`" in said.out


def test_a_place_in_the_line_that_is_refused_is_no_success(
    lemctl: Lemctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_start, "_preflight", lambda *_: None)
    monkeypatch.setattr(campaign_start, "_carry_out", lambda *_: 0)
    monkeypatch.setattr(campaign_steer, "obeyed", lambda *_: 2)
    assert lemctl("campaign", "start", str(file)).code == 0
    assert lemctl("campaign", "start", str(file), "--after", "night").code == 2
