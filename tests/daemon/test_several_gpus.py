"""Lanes of two model GPUs: what a run uses is summed, what it leaves idle is a line of its own, memory is proved free
on both. Real daemon, sampler and runner; the engine is replay, with a replica for each GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nvml_stub"))

from needed import needs
from night import Night, campaign_text
from nvml_stub import NvmlStub

pytestmark = needs("gcc")

MORE = """
gpus: [0, 1]
measure: {window: "3s", baseline: "0s"}
gate: {kind: fixed, gap: "0s"}
retry: {max: 0}
"""


@pytest.fixture
def host(tmp_path: Path) -> NvmlStub:
    stub = NvmlStub(tmp_path, gpus=2)
    for index in range(2):
        stub.gpu(index).noise_w = 0.5
    return stub


@pytest.fixture
def night(tmp_path: Path, host: NvmlStub) -> Iterator[Night]:
    with Night(tmp_path / "night", host.host_environment()) as night:
        yield night


def metrics(night: Night, name: str) -> list[float | None]:
    sql = (
        "SELECT value FROM metrics JOIN attempts ON attempts.id = metrics.attempt_id "
        "WHERE metrics.name = ? ORDER BY attempts.id"
    )
    return [value for (value,) in night.rows(sql, name)]


def test_energy_is_summed_over_the_gpus_of_the_run_and_the_idle_one_has_its_own_line(
    night: Night, host: NvmlStub
) -> None:
    host.gpu(0).add_load(host.now_s() + 0.1, 200.0)
    host.gpu(1).add_load(host.now_s() + 0.1, 80.0)
    text = campaign_text(engine="data_parallel: 1", more=MORE).replace("sweep: {", "sweep: {DEGREES, ")
    text = text.replace("data_parallel: 1", "load_s: 0.1").replace("DEGREES", "replay.engine.data_parallel: [1, 2]")
    night.add(text.replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"))
    night.begin()
    night.wait_for(lambda: night.campaign() in ("Finished", "Paused"), "the campaign's end", 120)
    assert [outcome for outcome, _, _ in night.attempts()] == ["ok", "ok"], night.said()
    alone, both = night.rows("SELECT t_begin_mono_ns, t_end_mono_ns FROM windows ORDER BY attempt_id")
    energies, idle = metrics(night, "energy_total"), metrics(night, "energy_gpu_not_allotted")
    assert energies[0] == pytest.approx(host.energy_j(0, *alone), rel=0.01)
    # One that is only watched is read less often.
    assert idle[0] == pytest.approx(host.energy_j(1, *alone), rel=0.05)
    assert energies[1] == pytest.approx(host.energy_j(0, *both) + host.energy_j(1, *both), rel=0.01)
    assert idle[1] is None
    lanes = [lane for (lane,) in night.rows("SELECT lane FROM attempts ORDER BY id")]
    assert lanes[0] != lanes[1]
    (facts,) = night.rows("SELECT facts FROM attempts ORDER BY id")[1]
    assert json.loads(facts)["effective"]["replicas"] == 2
    night.end()
    night.audit()


def test_a_replica_that_dies_ends_the_attempt_with_its_kind_and_nothing_stays(night: Night) -> None:
    """The marker is in the session's folder: the first of the two replicas to come to it is the one that dies."""
    fault = "data_parallel: 2, fault: kill, fault_at: window, fault_marker: once"
    night.add(campaign_text(engine=fault, more=MORE))
    night.begin()
    night.wait_for(lambda: night.campaign() in ("Finished", "Paused"), "the campaign's end", 120)
    ((outcome, kind, message),) = night.attempts()
    assert (outcome, kind) == ("failed", "infra"), night.said()
    assert "SIGKILL" in (message or "")
    night.end()
    night.audit()


@pytest.mark.slow
def test_memory_that_stays_on_the_second_gpu_starts_no_other_engine(night: Night, host: NvmlStub) -> None:
    more = MORE + "isolation: process\ntimeouts: {memory: 1s}\n"
    text = campaign_text(cycles=2, engine="data_parallel: 2", more=more)
    night.add(text.replace("decode_ms_per_token: 1.0", "decode_ms_per_token: 20.0"))
    night.begin()
    night.wait_until_under_way()
    host.gpu(1).loaded_w = 40.0  # an engine's weights lie on it, from now on
    night.wait_campaign("Finished", ceiling_s=90)
    held = f"GPU memory was not freed after the engine's end ({host.uuid(1)}: 16643 MB)"
    assert night.attempts() == [("ok", None, None), ("failed", "gpu_lost", held)]
    assert night.rows("SELECT count(*) FROM sessions") == [(1,)], "no engine was started beside it"
    night.end()
    night.audit()
