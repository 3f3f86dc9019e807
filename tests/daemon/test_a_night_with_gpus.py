"""The daemon on a host with model GPUs: real bindings, real sampler, real runner; what the meters see decides.

The runner (replay) puts no load on the model GPU, so each test sets the load that its window is to have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nvml_stub"))

from lemctl.report.gather import gather_report
from lemctl.report.text import text_report
from lemctl.store.database import Store
from needed import needs
from night import Night, campaign_text
from nvml_stub import NvmlStub

pytestmark = [
    needs("gcc"),
    # The sampler's own rhythm is a part of what is judged here.
    pytest.mark.alone,
]

#: A window of about 3 s: long enough for the counter, short enough for a test.
MORE = 'measure: {{window: "3s", baseline: "{baseline}"}}\ngate: {{kind: fixed, gap: "0s"}}\nretry: {{max: 0}}'


@pytest.fixture
def host(tmp_path: Path) -> NvmlStub:
    stub = NvmlStub(tmp_path)
    stub.gpu().noise_w = 0.5
    return stub


@pytest.fixture
def night(tmp_path: Path, host: NvmlStub) -> Iterator[Night]:
    with Night(tmp_path / "night", host.host_environment(with_cuda=True)) as night:
        yield night


def run(night: Night, engine: str = "decode_ms_per_token: 20.0", baseline: str = "1s", more: str = "") -> None:
    text = campaign_text(engine="load_s: 0.1", more=MORE.format(baseline=baseline) + more)
    text = text.replace("decode_ms_per_token: 1.0", engine)
    night.add(text)
    night.begin()
    night.wait_for(lambda: night.campaign() in ("Finished", "Paused"), "the campaign's end", 60)


def begin_two_cycles(night: Night) -> None:
    """A window of about 3 s each, with baselines of 1 s."""
    text = campaign_text(engine="load_s: 0.1", more=MORE.format(baseline="1s"), cycles=2)
    night.add(text.replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"))
    night.begin()


def metric(night: Night, name: str) -> tuple[float | None, float | None, str | None]:
    ((value, uncertainty, reason),) = night.rows(
        f"SELECT value, uncertainty, reason FROM metrics WHERE name = '{name}'"
    )
    return value, uncertainty, reason


def test_energy_of_a_window_is_the_model_s_own_integral(night: Night, host: NvmlStub) -> None:
    host.gpu().add_load(host.now_s() + 0.1, 200.0)
    run(night)
    ((begin_ns, end_ns),) = night.rows("SELECT t_begin_mono_ns, t_end_mono_ns FROM windows")
    truth_j = host.energy_j(0, begin_ns, end_ns)
    energy_j, u_j, _ = metric(night, "energy_total")
    assert energy_j == pytest.approx(truth_j, rel=0.005)
    assert u_j is not None
    assert 0 < u_j < 0.02 * truth_j
    assert metric(night, "energy_net")[0] is not None
    assert night.rows("SELECT outcome, verdict FROM attempts") == [("ok", "VALID")]
    kinds = night.rows("SELECT kind, power_w IS NOT NULL FROM baselines ORDER BY kind")
    assert kinds == [("B0", 1), ("B0", 1), ("B1", 1), ("B2_after", 1), ("B2_before", 1)]
    series = dict(night.rows("SELECT series, count(*) FROM samples GROUP BY series"))
    assert series["power"] > 30
    assert series["counter"] > 30
    (host_document,) = night.rows("SELECT document FROM environments WHERE kind = 'host'")[0]
    assert json.loads(host_document)["gpus"][0]["uuid"] == host.uuid()
    night.end()
    night.audit()


@pytest.mark.slow
def test_deep_idle_that_moved_over_the_campaign_is_said_in_its_report(night: Night, host: NvmlStub) -> None:
    begin_two_cycles(night)
    night.wait_for(lambda: bool(night.rows("SELECT 1 FROM windows")), "the first window's end", 60)
    host.gpu().add_load(host.now_s() + 0.1, 12.0)
    night.wait_for(lambda: night.campaign() == "Finished", "the campaign's end", 60)
    readings = [power_w for (power_w,) in night.rows("SELECT power_w FROM baselines WHERE kind = 'B0' ORDER BY id")]
    assert readings[-1] - readings[0] == pytest.approx(12.0, abs=2.0)
    ended = night.rows("SELECT ended_utc FROM sessions")
    taken = night.rows("SELECT max(taken_utc) FROM baselines WHERE kind = 'B0'")
    assert all(ended_utc < taken[0][0] for (ended_utc,) in ended)
    with Store.open(night.home) as store:
        report = gather_report(store, None)
    assert "drift      deep idle moved by +" in text_report(report)
    assert "compare early runs with late ones with care" in text_report(report)
    night.end()
    night.audit()


@pytest.mark.slow
def test_a_daemon_that_begins_anew_takes_deep_idle_again_and_marks_what_moved(night: Night, host: NvmlStub) -> None:
    begin_two_cycles(night)
    night.wait_for(lambda: bool(night.rows("SELECT 1 FROM attempts WHERE outcome = 'ok'")), "the first result", 60)
    night.kill()
    host.gpu().add_load(host.now_s() + 0.1, 12.0)
    night.begin()
    night.wait_for(lambda: night.campaign() == "Finished", "the campaign's end", 60)
    verdicts = night.rows("SELECT verdict FROM attempts WHERE outcome = 'ok' ORDER BY id")
    assert verdicts == [("VALID",), ("SUSPECT",)]
    assert night.rows("SELECT code FROM findings WHERE severity = 'SUSPECT'") == [("baseline_drift",)]
    night.end()
    night.audit()


@pytest.mark.slow
def test_a_foreign_process_makes_the_window_contaminated(night: Night, host: NvmlStub) -> None:
    night.add(
        campaign_text(more=MORE.format(baseline="0s")).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0")
    )
    night.begin()
    night.wait_until_under_way()
    host.gpu().set_processes(1)
    night.wait_for(lambda: night.campaign() in ("Finished", "Paused"), "the campaign's end", 60)
    ((outcome, fault, verdict, message),) = night.rows("SELECT outcome, fault, verdict, message FROM attempts")
    assert (outcome, fault, verdict) == ("failed", "contaminated", "INVALID")
    assert "other processes used the GPU: 1 (" in message
    night.end()
    night.audit()


@pytest.mark.slow
def test_a_hot_gpu_waits_at_the_gate_and_is_marked_when_it_does_not_cool(night: Night, host: NvmlStub) -> None:
    host.gpu().add_load(host.now_s() + 0.1, 250.0)
    night.add(
        campaign_text(more='measure: {window: "3s", baseline: "0s"}\ngate: {kind: cool, max: "3s"}').replace(
            "decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"
        )
    )
    night.begin()
    night.wait_for(lambda: night.campaign() == "Finished", "the campaign's end", 60)
    ((facts, verdict),) = night.rows("SELECT facts, verdict FROM attempts")
    gate = json.loads(facts)["gate"]
    assert gate["start_state"] == "warm"
    assert gate["waited_s"] == pytest.approx(3.0, abs=1.5)
    assert verdict == "SUSPECT"
    assert night.rows("SELECT code FROM findings WHERE severity = 'SUSPECT'") == [("gate_capped",)]


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["lost", "hang"])
def test_a_gpu_that_fails_in_mid_window_is_kept_out_until_a_person_resumes(
    night: Night, host: NvmlStub, switch: str
) -> None:
    text = campaign_text(cycles=2, more=MORE.format(baseline="0s")).replace(
        "decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"
    )
    night.add(text)
    night.begin()
    night.wait_for(lambda: night.statuses()[0] == "Running", "a run in its window")
    setattr(host.gpu(), switch, 1)
    night.wait_for(lambda: night.campaign() == "Paused", "the pause", 60)
    assert night.rows("SELECT fault FROM attempts") == [("gpu_lost",)]
    assert night.rows("SELECT uuid FROM devices WHERE quarantined_utc IS NOT NULL") == [(host.uuid(),)]
    setattr(host.gpu(), switch, 0)
    assert night.ask("resume", campaign="night").exit_code == 0
    night.wait_for(lambda: night.campaign() == "Finished", "the second run", 60)
    assert night.statuses() == ["Failed", "Done"]
    night.end()
    night.audit()


@pytest.mark.slow
def test_a_gpu_lost_at_the_closing_baseline_is_kept_out_and_told(night: Night, host: NvmlStub) -> None:
    more = MORE.format(baseline="1s") + "\nnotify: {urls_from: LEM_NOTIFY_NOWHERE, on: [gpu_lost]}"
    text = campaign_text(more=more).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0")
    night.add(text)
    night.begin()
    night.wait_for(lambda: night.statuses() == ["Done"], "the run's end", 60)
    host.gpu().lost = 1
    night.wait_for(lambda: night.campaign() == "Finished", "the campaign's end", 60)
    assert night.rows("SELECT uuid FROM devices WHERE quarantined_utc IS NOT NULL") == [(host.uuid(),)]
    assert night.rows("SELECT title FROM outbox") == [("night has lost a GPU",)]
    assert night.ask("resume", campaign="night").exit_code == 0
    assert night.rows("SELECT uuid FROM devices WHERE quarantined_utc IS NOT NULL") == []
    night.end()
    night.audit()


def test_without_a_gpu_the_gap_is_fixed_and_energy_is_absent_with_its_reason(tmp_path: Path) -> None:
    with Night(tmp_path / "night") as night:
        run(night, baseline="1s")
        value, _, reason = metric(night, "energy_total")
        assert value is None
        assert reason
        assert night.rows("SELECT DISTINCT power_w FROM baselines") == [(None,)]
        assert {reason for (reason,) in night.rows("SELECT reason FROM baselines")} != {""}


@pytest.mark.slow
def test_a_window_begins_when_the_gpu_has_stopped_warming_up(night: Night, host: NvmlStub) -> None:
    """The runner's latencies are steady at once; the GPU's temperature takes a minute, and decides."""
    host.gpu().tau_s = 12.0
    host.gpu().c_per_w = 0.1
    night.add(
        campaign_text(
            more='measure: {window: "3s", baseline: "0s", warmup: {kind: steady, max: "170s"}}\n'
            'gate: {kind: fixed, gap: "0s"}\nretry: {max: 0}'
        ).replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0")
    )
    night.begin()
    night.wait_until_under_way()
    host.gpu().add_load(host.now_s() + 0.1, 250.0)
    night.wait_campaign(ceiling_s=200)
    ((facts, verdict),) = night.rows("SELECT facts, verdict FROM attempts")
    warm = json.loads(facts)["warmup"]
    assert warm["ended"] == "steady"
    assert 30 < warm["duration_s"] < 150
    assert verdict == "VALID", night.rows("SELECT code, text FROM findings")
