"""A simulated campaign goes through the real store, daemon logic, gate and judge: its state must be as sound."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.daemon.locks import FileLock
from lemctl.errors import Locked
from lemctl.paths import Home, data_folder
from lemctl.simulate import run_campaign

CAMPAIGN = """
name: rehearsal
model: "random:{{vocab_size: 1000}}"
backend: replay
preset: benchmark
workload: {{dataset: random, random: {{input_len: 16}}, prompts: 64, max_new_tokens: 64}}
sweep: {{workload.load.batch_size: {batches}, replay.engine.load_s: [0.0, 1.0]}}
cycles: {cycles}
retry: {{max: 5}}
breaker: {{consecutive: 100}}
"""


def planned(batches: tuple[int, ...] = (1, 4, 16), cycles: int = 5, more: str = "") -> Plan:
    text = CAMPAIGN.format(batches=list(batches), cycles=cycles) + more
    return plan(loads(text, catalogue_dir=data_folder() / "images"))


def rows(home: Home, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(home.database) as connection:
        return connection.execute(sql).fetchall()


def test_every_run_of_a_rehearsal_ends_with_energy_and_a_cooled_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert run_campaign(planned(cycles=3), "", home, seed=1) == 0
    assert rows(home, "SELECT status, count(*) FROM runs GROUP BY status") == [("Done", 18)]
    energies = rows(home, "SELECT value FROM metrics WHERE name = 'energy_per_output_token'")
    assert len(energies) == 18
    assert all(isinstance(value, float) and 0.05 < value < 50 for (value,) in energies)
    gates = [json.loads(str(facts))["gate"] for (facts,) in rows(home, "SELECT facts FROM attempts")]
    assert {gate["start_state"] for gate in gates} == {"cool"}
    # The gate holds the start temperature: one cell's starts lie within its 2 C and the sensor's noise.
    temperatures = [gate["temps_c"]["GPU-simulated"] for gate in gates]
    assert max(temperatures) - min(temperatures) < 4.0
    # Deep idle is read before the first engine and after the last, both times cool: a device without drift shows none.
    deep = rows(home, "SELECT DISTINCT power_w FROM baselines WHERE kind = 'B0' ORDER BY id")
    assert len(deep) == 2
    assert deep[1][0] == pytest.approx(deep[0][0], rel=0.01)


def test_one_seed_gives_one_night_and_another_seed_another(tmp_path: Path) -> None:
    energies = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        home = Home(tmp_path / folder)
        run_campaign(planned((1,), 2), "", home, seed)
        energies.append(rows(home, "SELECT value FROM metrics WHERE name = 'energy_total' ORDER BY attempt_id"))
    assert energies[0] == energies[1]
    assert energies[0] != energies[2]


@pytest.mark.parametrize("seed", range(2))
def test_simulated_faults_lose_no_run(tmp_path: Path, seed: int) -> None:
    home = Home(tmp_path)
    run_campaign(planned(cycles=8), "", home, seed, faults=True)
    ended = rows(home, "SELECT count(*) FROM runs WHERE status IN ('Done', 'Failed', 'Skipped')")
    assert ended == [(48,)]
    assert rows(home, "SELECT count(*) FROM attempts WHERE outcome IS NULL") == [(0,)]
    assert rows(home, "SELECT count(*) FROM attempts WHERE outcome = 'ok'") == rows(
        home, "SELECT count(*) FROM runs WHERE status = 'Done'"
    )
    assert rows(home, "SELECT count(*) FROM attempts WHERE outcome = 'failed'") != [(0,)]


def test_a_rehearsal_begins_by_its_schedule_in_the_zone_of_its_windows(tmp_path: Path) -> None:
    windows = [
        {"from": begins, "to": ends, "tz": "Asia/Kathmandu"}
        for begins, ends in (("22:00", "07:00"), ("12:00", "14:00"))
    ]
    home = Home(tmp_path)
    run_campaign(planned((1,), 1, f'schedule: "30 12 * * *"\nhours: {json.dumps(windows)}\n'), "", home)
    ((first,),) = rows(home, "SELECT min(started_utc) FROM attempts")
    assert str(first)[11:16] == "06:45", "12:30 in Kathmandu"


@pytest.mark.slow
def test_a_week_of_nights_takes_seconds(tmp_path: Path) -> None:
    home = Home(tmp_path)
    began = time.monotonic()
    run_campaign(planned(cycles=100), "", home)
    took_s = time.monotonic() - began
    ((simulated_s,),) = rows(home, "SELECT (max(ended_mono_ns) - min(started_mono_ns)) / 1e9 FROM attempts")
    assert isinstance(simulated_s, float)
    assert simulated_s > 7 * 6 * 3600
    assert took_s < 120


def test_a_rehearsal_is_marked_as_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run_campaign(planned((1,), 1), "", home)
    assert rows(home, "SELECT DISTINCT executor FROM campaigns") == [("simulate",)]
    assert rows(home, "SELECT DISTINCT executor FROM sessions") == [("simulate",)]


def test_two_rehearsals_at_once_do_not_share_a_state_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    lock = FileLock.take(home.daemon_lock, "4711")
    try:
        with pytest.raises(Locked, match="another simulation is under way"):
            run_campaign(planned((1,), 1), "", home)
    finally:
        lock.release()
    assert run_campaign(planned((1,), 1), "", home) == 0


ADAPTIVE = """
name: adaptive
model: "random:{vocab_size: 1000}"
backend: replay
preset: publication
workload: {dataset: random, random: {input_len: 16}, prompts: 64, max_new_tokens: 64}
sweep: {workload.load.batch_size: [1, 16]}
cycles: {until: {metric: energy_per_output_token, half_width: "2%"}, min: 5, max: 20}
"""


def test_adaptive_cycles_stop_when_each_experiment_is_precise(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = plan(loads(ADAPTIVE, catalogue_dir=data_folder() / "images"))
    assert len(made.runs) == 40
    run_campaign(made, "", home, seed=2)
    counts = dict(rows(home, "SELECT experiment, count(*) FROM runs WHERE status = 'Done' GROUP BY 1"))
    assert set(counts) == {e.hash for e in made.experiments}
    assert all(isinstance(n, int) and 5 <= n < 20 for n in counts.values())
    reasons = rows(home, "SELECT DISTINCT json_extract(status_data, '$.because') FROM runs WHERE status = 'Skipped'")
    assert reasons == [("precise",)]
    # A block is one cycle of every experiment: nothing was decided in the middle of one.
    for experiment, n in counts.items():
        ((last,),) = rows(home, f"SELECT max(cycle) FROM runs WHERE status = 'Done' AND experiment = '{experiment}'")
        assert last == n
    # Publication reloads the engine at each block, so that load-to-load variance is inside the interval.
    ((sessions,),) = rows(home, "SELECT count(*) FROM sessions")
    assert sessions == max(counts.values())


def test_a_rehearsal_leaves_samples_that_agree_with_its_energy(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run_campaign(planned((4,), 2), "", home)
    attempts = rows(
        home,
        "SELECT a.boot_id, w.t_begin_mono_ns, w.t_end_mono_ns, m.value FROM attempts a JOIN windows w ON"
        " w.attempt_id = a.id JOIN metrics m ON m.attempt_id = a.id AND m.name = 'power_mean'",
    )
    assert len(attempts) == 4
    for boot, begin_ns, end_ns, power_w in attempts:
        ((mean_w, count),) = rows(
            home,
            "SELECT avg(reading->>'power_mw') / 1e3, count(*) FROM samples WHERE series = 'power' AND"
            f" boot_id = '{boot}' AND t_mono_ns BETWEEN {begin_ns} AND {end_ns}",
        )
        assert count >= 100  # type: ignore[operator]
        assert mean_w == pytest.approx(power_w, rel=0.01)


def test_an_attempt_keeps_when_its_phases_began_and_how_long_requests_took(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run_campaign(planned((4,), 1), "", home)
    for text, begin_ns in rows(
        home, "SELECT a.facts, w.t_begin_mono_ns FROM attempts a JOIN windows w ON w.attempt_id = a.id"
    ):
        facts = json.loads(str(text))
        names = [name for name, _ in facts["timeline"]]
        assert names == ["starting", "loading", "cooling", "baseline", "warmup", "window", "writing", "baseline",
                         "judging", "writing"]  # fmt: skip
        times = [t_ns for _, t_ns in facts["timeline"]]
        assert times == sorted(times)
        assert dict(facts["timeline"])["window"] == begin_ns
        latency = facts["latency"]["e2e"]
        assert latency["percent"][0] == 0
        assert latency["s"] == sorted(latency["s"])
        assert latency["n"] > 0
