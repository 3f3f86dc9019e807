"""Memory is proved free on every GPU of a lane, or it is said why not: silence and a missing floor prove nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lemctl.clock import SimulatedClock
from lemctl.daemon.memory_proof import Floors, MemoryProof
from lemctl.measure.readings import GpuProcess, GpuSample, GpuSeries
from lemctl.measure.watch import SamplerFailedError
from lemctl.paths import Home
from lemctl.store import samples
from lemctl.store.database import Store

A, B = "GPU-a", "GPU-b"
MB = 1_000_000
USER = GpuProcess(77, "compute", None)


class Sampler:
    """Tells once a second what each GPU of `used_mb` holds; what is not in there is silent. A reading is as old as
    `late_s` when it comes."""

    def __init__(self, clock: SimulatedClock, used_mb: dict[str, int | None]):
        self.clock, self.used_mb = clock, used_mb
        self.users: list[GpuProcess] | None = []
        self.missing: dict[str, dict[str, str]] = {}
        self.trouble: Exception | None = None
        self.late_s = 0.0
        self._begun_ns = 0

    def begin_record(self) -> None:
        self._begun_ns = self.clock.monotonic_ns()

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def series(self, gpu: str) -> GpuSeries:
        told = GpuSeries()
        t_ns = self._begun_ns
        while gpu in self.used_mb and t_ns <= self.clock.monotonic_ns():
            used_mb = self.used_mb[gpu]
            told.times_ns.append(t_ns - round(self.late_s * 1e9))
            told.samples.append(GpuSample(memory_used_b=None if used_mb is None else used_mb * MB))
            told.processes.append((told.times_ns[-1], self.users))
            t_ns += 1_000_000_000
        return told


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(datetime(2026, 3, 1, tzinfo=UTC))


def proof_of(sampler: Any, clock: SimulatedClock, **floors_mb: int) -> Callable[[float], str | None]:
    """Ask with so much patience, on two GPUs with these floors."""
    by_gpu_b = {{"a": A, "b": B}[name]: floor_mb * MB for name, floor_mb in floors_mb.items()}
    proof = MemoryProof(sampler, (A, B), clock, Floors(by_gpu_b))
    return lambda patience_s: proof.obstacle(clock.advance, patience_s)


def test_memory_held_on_the_second_gpu_is_found_and_named(clock: SimulatedClock) -> None:
    ask = proof_of(Sampler(clock, {A: 510, B: 2500}), clock, a=500, b=500)
    assert ask(3.0) == f"GPU memory was not freed after the engine's end ({B}: 2000 MB)"


@pytest.mark.parametrize("used", [{A: 500}, {A: 500, B: None}], ids=["no samples", "samples without memory"])
def test_a_second_gpu_that_tells_nothing_is_no_free_one(clock: SimulatedClock, used: dict[str, int | None]) -> None:
    ask = proof_of(Sampler(clock, used), clock, a=500, b=500)
    began_ns = clock.monotonic_ns()
    assert ask(8.0) == f"GPU memory was not freed after the engine's end ({B} has told nothing for 5 s)"
    assert (clock.monotonic_ns() - began_ns) / 1e9 <= 8.0 + 5.0 + 1.1, "silence uses the patience up, too"


def test_a_reading_from_before_the_question_proves_nothing(clock: SimulatedClock) -> None:
    sampler = Sampler(clock, {A: 500, B: 500})
    sampler.late_s = 60.0
    said = proof_of(sampler, clock, a=500, b=500)(0.0)
    assert said is not None
    assert f"{A} has told nothing for 5 s, {B} has told nothing for 5 s" in said


def test_memory_that_comes_back_late_is_waited_for(clock: SimulatedClock) -> None:
    sampler = Sampler(clock, {A: 500, B: 2500})
    proof = MemoryProof(sampler, (A, B), clock, Floors({A: 500 * MB, B: 500 * MB}))  # type: ignore[arg-type]

    def wait(seconds: float) -> None:
        clock.advance(seconds)
        if clock.monotonic_ns() / 1e9 > began_s + 4.0:
            sampler.used_mb[B] = 520

    began_s = clock.monotonic_ns() / 1e9
    assert proof.obstacle(wait, 30.0) is None
    assert 4.0 < clock.monotonic_ns() / 1e9 - began_s < 8.0


def test_a_gpu_that_counts_no_memory_is_left_out_and_the_log_says_so_once(
    clock: SimulatedClock, caplog: pytest.LogCaptureFixture
) -> None:
    sampler = Sampler(clock, {A: 500, B: None})
    sampler.missing = {B: {"memory": "Not Supported"}}
    ask = proof_of(sampler, clock, a=500)
    with caplog.at_level(logging.WARNING):
        assert ask(3.0) is None
        assert ask(3.0) is None
    assert caplog.messages == [f"GPU {B} counts no memory (Not Supported): that it is free is not proved"]
    sampler.used_mb[A] = 900
    assert ask(1.0) is not None, "the other one counts all the same"


def test_a_floor_is_not_learnt_beside_a_process_and_a_lower_one_corrects_it(clock: SimulatedClock) -> None:
    sampler, kept = Sampler(clock, {A: 9000, B: 500}), []
    floors = Floors(keep=lambda gpu, used_b: kept.append((gpu, used_b)))
    proof = MemoryProof(sampler, (A, B), clock, floors)  # type: ignore[arg-type]
    sampler.users = [USER]
    said = proof.obstacle(clock.advance, 2.0)
    assert said is not None
    assert f"{A} holds 9000 MB with process 77 on it, and was never seen without" in said
    assert floors.by_gpu_b == {}

    sampler.users = None  # cannot be listed
    assert proof.obstacle(clock.advance, 2.0) is None
    sampler.used_mb[A] = 600
    assert proof.obstacle(clock.advance, 2.0) is None
    sampler.used_mb[A] = 9000
    assert proof.obstacle(clock.advance, 2.0) is not None
    assert kept == [(A, 9000 * MB), (B, 500 * MB), (A, 600 * MB)]


def test_trouble_of_the_sampler_and_of_the_wait_ends_the_question(clock: SimulatedClock) -> None:
    sampler = Sampler(clock, {A: 900, B: 500})
    ask = proof_of(sampler, clock, a=500, b=500)
    sampler.trouble = SamplerFailedError("gone")
    with pytest.raises(SamplerFailedError):
        ask(30.0)


def test_a_floor_is_kept_for_this_boot_and_driver_alone(tmp_path: Path) -> None:
    with Store.open(Home(tmp_path), "write") as store:
        with store.transaction() as tx:
            samples.keep_memory_floor(tx, A, "boot 1, driver 580.1", 500 * MB)
            samples.keep_memory_floor(tx, A, "boot 1, driver 580.1", 400 * MB)
        assert samples.memory_floor_b(store.connection, A, "boot 1, driver 580.1") == 400 * MB
        assert samples.memory_floor_b(store.connection, A, "boot 2, driver 580.1") is None
        assert samples.memory_floor_b(store.connection, A, "boot 1, driver 590.4") is None
        assert samples.memory_floor_b(store.connection, B, "boot 1, driver 580.1") is None
