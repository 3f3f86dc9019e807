"""The real sampler process on the real NVML bindings, on model GPUs whose energy is known."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lemctl.judge.verdict import Evidence, judge
from lemctl.measure.energy import CounterEnergy, NoEnergy, energy_from_counter
from lemctl.measure.observation import MeterEnergy, Observation, observe
from lemctl.measure.readings import GpuLostError, NvmlUnavailableError, Sample
from lemctl.measure.watch import SamplerFailedError, SamplerProcess, SamplerSettings

if TYPE_CHECKING:
    from nvml_stub import NvmlStub

Host = Callable[..., "NvmlStub"]
S = 1_000_000_000


def wait_for(condition: Callable[[], bool], ceiling_s: float, what: str) -> None:
    deadline = time.monotonic() + ceiling_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {ceiling_s} s: {what}"
        time.sleep(0.01)


@contextmanager
def sampling(stub: NvmlStub, gpus: int = 1, **settings: object) -> Iterator[SamplerProcess]:
    allotted = [stub.uuid(index) for index in range(gpus)]
    with SamplerProcess(allotted, environment=stub.environment, **settings) as sampler:  # type: ignore[arg-type]
        sampler.begin_record()
        sampler.set_rate("fast")
        yield sampler


def sample_window(sampler: SamplerProcess, lead_s: float, seconds: float, tail_s: float = 0.5) -> tuple[int, int]:
    """A window that begins `lead_s` after the sampler has read once; returns when its end has been read past."""
    assert sampler.wait_until(time.monotonic_ns(), 5.0)
    begin_ns = time.monotonic_ns() + round(lead_s * S)
    end_ns = begin_ns + round(seconds * S)
    assert sampler.wait_until(end_ns + round(tail_s * S), seconds + lead_s + 6.0)
    return begin_ns, end_ns


def findings(observation: Observation, seconds: float) -> dict[str, str]:
    evidence = Evidence(
        duration_s=seconds,
        counter_reset=observation.counter_reset,
        counter_series_difference=observation.counter_series_difference,
        longest_hole_s=observation.longest_hole_s,
        sample_period_s=observation.sample_period_s,
        thermal_throttle_share=observation.thermal_throttle_share,
        power_brake_share=observation.power_brake_share,
        foreign_processes=observation.foreign_processes,
    )
    return {finding.code: finding.severity for finding in judge(evidence)}


def accelerated_window(stub: NvmlStub, seconds: float, scale: float) -> list[float]:
    """Relative errors of a constant, a stepped and a noisy load in a window of so many seconds of model time."""
    start_s = stub.now_s() + 5.0
    for index in range(3):
        gpu = stub.gpu(index)
        gpu.loaded_w = 20.0
        gpu.noise_w = 60.0 if index == 2 else 0.0
        steps = 60 if index == 1 else 1
        for step in range(steps):
            gpu.add_load(start_s + 1.37 * step, 400.0 if step % 2 == 0 else 150.0)
    # Polls are as dense per tick as at real speed: 20 ms of 100 ms.
    settings = SamplerSettings(counter_s=0.02 / scale, power_s=0.1 / scale)
    with sampling(stub, gpus=3, settings=settings) as sampler:
        begin_ns, end_ns = sample_window(sampler, 8.0 / scale, seconds / scale)
        errors = []
        for index in range(3):
            found = energy_from_counter(sampler.series(stub.uuid(index)).ticks, begin_ns, end_ns)
            assert isinstance(found, CounterEnergy)
            truth_j = stub.energy_j(index, begin_ns, end_ns)
            errors.append(abs(found.energy_j - truth_j) / truth_j)
    return errors


def test_window_energy_is_within_02_percent_of_the_models_integral(host_with_gpus: Host) -> None:
    errors = accelerated_window(host_with_gpus(gpus=3, scale=5.0), 30.0, 5.0)
    assert max(errors) < 0.002, errors


@pytest.mark.slow
@pytest.mark.alone
def test_window_energy_of_60_s_is_within_01_percent_of_the_models_integral(host_with_gpus: Host) -> None:
    errors = accelerated_window(host_with_gpus(gpus=3, scale=3.0), 60.0, 3.0)
    assert max(errors) < 0.001, errors


@pytest.mark.slow
@pytest.mark.alone
def test_each_counter_fault_gives_its_verdict_and_a_clean_gpu_none(host_with_gpus: Host) -> None:
    stub = host_with_gpus(gpus=4)
    for index in range(4):
        stub.gpu(index).add_load(stub.now_s() + 1.5, 400.0)
    stub.gpu(1).counter_gain = 1.1
    stub.gpu(2).counter_stop_s = stub.now_s() + 3.5
    stub.gpu(3).counter_lag_s = 2.0
    rows: list[Sample] = []
    with sampling(stub, gpus=4, sink=rows.extend) as sampler:
        edges = sample_window(sampler, 2.0, 4.0, tail_s=2.0)
        seen = [findings(observe({gpu: sampler.series(gpu)}, [edges]), 4.0) for gpu in map(stub.uuid, range(4))]
        clean = observe({stub.uuid(0): sampler.series(stub.uuid(0))}, [edges])
    assert seen[0] == {}
    assert seen[1] == {"counter_disagrees": "INVALID"}
    assert seen[2] == {"counter_disagrees": "INVALID"}
    assert seen[3] == {"counter_disagrees": "INVALID"}
    assert isinstance(clean.headline, MeterEnergy)
    assert clean.tick_period_s == pytest.approx(0.1, abs=0.02)
    assert clean.gpu_utilisation == pytest.approx(0.99)
    assert clean.temperature_c is not None
    assert 34 < clean.temperature_c < 60
    assert {row.series for row in rows} == {"counter", "power", "slow"}


def test_a_process_of_the_run_that_ends_before_its_attempt_is_not_taken_for_somebody_else_s(
    host_with_gpus: Host,
) -> None:
    stub = host_with_gpus()
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stub.gpu().set_processes(worker.pid, os.getppid())

    def owns(pid: int) -> bool:
        return pid == worker.pid and worker.poll() is None

    with sampling(stub, owns=owns) as sampler:
        wait_for(lambda: worker.pid in sampler.process_names, 5.0, "the worker to be seen")
        worker.communicate(b"\n", timeout=5.0)
        stub.gpu().set_processes(os.getppid())
        assert sampler.wait_until(time.monotonic_ns() + S, 5.0)
        assert sampler.own_pids == {worker.pid}


@pytest.mark.slow
@pytest.mark.alone
def test_throttling_foreign_process_and_reset_in_mid_window_are_seen(host_with_gpus: Host) -> None:
    stub = host_with_gpus(gpus=4)
    for index in range(4):
        stub.gpu(index).add_load(stub.now_s() + 0.2, 300.0)
    stub.gpu(0).set_processes(1111)
    with sampling(stub, gpus=4) as sampler:
        assert sampler.wait_until(time.monotonic_ns(), 5.0)
        begin_ns = time.monotonic_ns() + S // 2
        assert sampler.wait_until(begin_ns + S // 2, 5.0)
        stub.gpu(0).set_processes(1111, os.getpid())
        stub.gpu(1).event_reasons = 0x4 | 0x40
        stub.gpu(2).event_reasons = 0x8 | 0x80
        stub.gpu(3).counter_reset_s = stub.now_s()
        end_ns = begin_ns + 3 * S
        assert sampler.wait_until(end_ns + S // 2, 8.0)
        series = {stub.uuid(index): sampler.series(stub.uuid(index)) for index in range(4)}
        names = sampler.process_names
    seen = [
        findings(observe({gpu: one}, [(begin_ns, end_ns)], own_pids={1111}, process_names=names), 3.0)
        for gpu, one in series.items()
    ]
    assert seen == [
        {"foreign_process": "INVALID"},
        {"thermal_throttle": "INVALID"},
        {"power_brake": "INVALID"},
        {"counter_reset": "INVALID"},
    ]
    observation = observe(series, [(begin_ns, end_ns)], own_pids={1111}, process_names=names)
    assert observation.foreign_processes == (f"{os.getpid()} ({names[os.getpid()]})",)
    assert names[os.getpid()] != "unknown"
    assert isinstance(observation.headline, NoEnergy)


def test_a_gpu_without_a_counter_is_measured_by_its_power(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    stub.gpu().no_counter = 1
    with sampling(stub) as sampler:
        edges = sample_window(sampler, 0.3, 1.0)
        wait_for(lambda: "energy" in sampler.missing.get(stub.uuid(), {}), 3.0, "the reason for no counter")
        observation = observe({stub.uuid(): sampler.series(stub.uuid())}, [edges], missing=sampler.missing)
    assert isinstance(observation.counter, NoEnergy)
    assert "Not Supported" in observation.counter.reason
    assert isinstance(observation.headline, MeterEnergy)
    assert observation.headline.meter == "nvml-series"
    assert observation.headline.energy_j == pytest.approx(stub.energy_j(0, *edges), rel=0.01)


def test_mig_is_refused_with_its_reason_and_never_guessed(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    stub.gpu().mig = 1
    with sampling(stub) as sampler:
        edges = sample_window(sampler, 0.1, 0.5)
        wait_for(lambda: "energy" in sampler.missing.get(stub.uuid(), {}), 3.0, "the reason for no energy")
        observation = observe({stub.uuid(): sampler.series(stub.uuid())}, [edges], missing=sampler.missing)
    assert isinstance(observation.headline, NoEnergy)
    assert "MIG" in observation.headline.reason
    assert isinstance(observation.series, NoEnergy)


def test_an_old_driver_without_newer_functions_falls_back(host_with_gpus: Host) -> None:
    stub = host_with_gpus(flags=("-DSTUB_WITHOUT_NEW_FUNCTIONS",))
    stub.gpu().event_reasons = 0x4
    with sampling(stub) as sampler:
        edges = sample_window(sampler, 0.1, 0.5)
        series = sampler.series(stub.uuid())
    assert {sample.power_source for sample in series.samples} == {"usage"}
    observation = observe({stub.uuid(): series}, [edges])
    assert observation.power_cap_share == 1.0
    assert isinstance(observation.counter, MeterEnergy)


def test_a_module_that_gives_no_gpu_power_is_labelled(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    stub.gpu().module_only = 1
    with sampling(stub) as sampler:
        assert sampler.wait_until(time.monotonic_ns(), 5.0)
        sample = sampler.series(stub.uuid()).samples[-1]
    assert (sample.power_source, sample.power_scope) == ("instant", "module")


def test_a_power_of_zero_is_kept_raw_and_not_integrated(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    with sampling(stub) as sampler:
        assert sampler.wait_until(time.monotonic_ns() + S // 2, 5.0)
        stub.gpu().zero_power = 1
        wait_for(lambda: sampler.latest()[stub.uuid()].power_w == 0.0, 3.0, "a zero reading")
        stub.gpu().zero_power = 0
        wait_for(lambda: (sampler.latest()[stub.uuid()].power_w or 0) > 0, 3.0, "power again")
        series = sampler.series(stub.uuid())
    edges = (series.times_ns[1], series.times_ns[-1])
    observation = observe({stub.uuid(): series}, [edges])
    assert isinstance(observation.series, MeterEnergy)
    assert observation.series.energy_j == pytest.approx(stub.energy_j(0, *edges), rel=0.05)
    assert any(sample.power_mw == 0 for sample in series.samples)


def test_a_lost_gpu_ends_the_attempt(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    with sampling(stub) as sampler:
        assert sampler.wait_until(time.monotonic_ns(), 5.0)
        stub.gpu().lost = 1
        with pytest.raises(GpuLostError, match="lost"):
            sampler.wait_until(time.monotonic_ns() + 60 * S, 5.0)
        with pytest.raises(GpuLostError):
            sampler.latest()


def test_a_call_that_hangs_is_killed_and_ends_the_attempt(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    with sampling(stub, settings=SamplerSettings(silent_s=1.5)) as sampler:
        assert sampler.wait_until(time.monotonic_ns(), 5.0)
        stub.gpu().hang = 1
        began = time.monotonic()
        with pytest.raises(GpuLostError, match="has not returned"):
            sampler.wait_until(time.monotonic_ns() + 60 * S, 10.0)
        assert time.monotonic() - began < 4.0


def test_a_sampler_that_dies_by_itself_is_no_lost_gpu(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    with sampling(stub) as sampler:
        assert sampler.wait_until(time.monotonic_ns(), 5.0)
        assert sampler.pid is not None
        os.kill(sampler.pid, 9)
        with pytest.raises(SamplerFailedError, match="code -9"):
            sampler.wait_until(time.monotonic_ns() + 60 * S, 5.0)


def test_a_host_without_a_driver_says_so(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    stub.state.driver_gone = 1
    with pytest.raises(NvmlUnavailableError, match="Driver Not Loaded"):
        SamplerProcess([stub.uuid()], environment=stub.environment).start()


def test_a_gpu_that_is_not_there_is_refused_at_the_start(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    with pytest.raises(GpuLostError, match="is not there"):
        SamplerProcess(["GPU-other"], environment=stub.environment).start()


def test_the_sampler_ends_when_the_controller_is_killed(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    code = (
        "import sys, time\n"
        "from lemctl.measure.watch import SamplerProcess\n"
        "sampler = SamplerProcess([sys.argv[1]], environment=eval(sys.argv[2]))\n"
        "sampler.start()\n"
        "print(sampler.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, stub.uuid(), repr(stub.environment)], stdout=subprocess.PIPE, text=True
    ) as controller:
        assert controller.stdout is not None
        pid = int(controller.stdout.readline())
        controller.kill()
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), 5.0, "the orphaned sampler's end")


@pytest.mark.slow
@pytest.mark.alone
def test_idle_gpus_are_watched_on_a_line_of_their_own(host_with_gpus: Host) -> None:
    stub = host_with_gpus(gpus=2)
    with SamplerProcess([stub.uuid(0)], watched=[stub.uuid(1)], environment=stub.environment) as sampler:
        sampler.begin_record()
        sampler.set_rate("fast")
        wait_for(lambda: len(sampler.series(stub.uuid(1)).ticks) >= 1, 5.0, "the watched GPU's first reading")
        edges = sample_window(sampler, 1.2, 1.5)
        wait_for(lambda: sampler.series(stub.uuid(1)).ticks[-1].t_mono_ns > edges[1] + S, 5.0, "a later reading")
        series = {index: sampler.series(stub.uuid(index)) for index in range(2)}
    observation = observe({stub.uuid(0): series[0]}, [edges], watched={stub.uuid(1): series[1]})
    assert isinstance(observation.not_allotted, MeterEnergy)
    assert observation.not_allotted.energy_j == pytest.approx(stub.energy_j(1, *edges), rel=0.05)
    assert list(sampler.facts) == [stub.uuid(0), stub.uuid(1)]


@pytest.mark.parametrize("before_the_start", [True, False])
def test_a_watched_gpu_that_is_lost_costs_the_run_nothing_but_its_own_line(
    host_with_gpus: Host, before_the_start: bool
) -> None:
    stub = host_with_gpus(gpus=2)
    stub.gpu(1).lost = int(before_the_start)
    with SamplerProcess([stub.uuid(0)], watched=[stub.uuid(1)], environment=stub.environment) as sampler:
        sampler.begin_record()
        sampler.set_rate("fast")
        assert sampler.wait_until(time.monotonic_ns(), 5.0)
        stub.gpu(1).lost = 1
        wait_for(lambda: stub.uuid(1) in sampler.missing, 5.0, "word of the loss")
        edges = sample_window(sampler, 0.2, 1.0)
        assert sampler.wait_until(time.monotonic_ns() + 60 * S, 0.1, watched=True), "nobody waits for what is gone"
        series = {index: sampler.series(stub.uuid(index)) for index in range(2)}
    watched = {stub.uuid(1): series[1]}
    seen = observe({stub.uuid(0): series[0]}, [edges], watched=watched, missing=sampler.missing)
    assert isinstance(seen.headline, MeterEnergy)
    assert isinstance(seen.not_allotted, NoEnergy)
    assert f"GPU {stub.uuid(1)} is " in seen.not_allotted.reason


def test_between_windows_it_reads_once_a_second_and_the_memory_stays_empty(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    rows: list[Sample] = []
    with SamplerProcess([stub.uuid()], environment=stub.environment, sink=rows.extend) as sampler:
        wait_for(lambda: sum(row.series == "power" for row in rows) >= 3, 6.0, "three slow readings")
        assert sampler.series(stub.uuid()).samples == []
        assert sampler.latest()[stub.uuid()].temp_c is not None
    times = [row.t_mono_ns for row in rows if row.series == "power"]
    assert (times[2] - times[0]) / S == pytest.approx(2.0, abs=0.3)


def test_the_counters_period_learnt_between_windows_does_not_thin_out_the_window(host_with_gpus: Host) -> None:
    stub = host_with_gpus()
    stub.gpu().add_load(stub.now_s(), 200.0)
    rows: list[Sample] = []
    settings = SamplerSettings(slow_s=0.4)
    with SamplerProcess([stub.uuid()], environment=stub.environment, settings=settings, sink=rows.extend) as sampler:
        # Once per 0.4 s a counter that ticks each 0.1 s seems to tick each 0.4 s.
        wait_for(lambda: sum(row.series == "counter" for row in rows) >= 12, 8.0, "twelve slow readings")
        sampler.begin_record()
        sampler.set_rate("fast")
        began_ns = time.monotonic_ns()
        assert sampler.wait_until(began_ns + 2 * S, 8.0)
        found = [tick.t_mono_ns for tick in sampler.series(stub.uuid()).ticks if tick.t_mono_ns > began_ns]
    assert max(later - earlier for earlier, later in pairwise(found)) < 0.25 * S
