"""The meters of a lane with GPUs: the NVML sampler, the thermal gate over it, baselines, and what a window held."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lem_runner.results import WindowRecord
from lemctl.cancel import Cancel
from lemctl.clock import Clock
from lemctl.daemon.gating import wait_at_gate
from lemctl.daemon.instruments import (
    BaselineKind,
    BaselineRecord,
    GateRecord,
    GateSpec,
    Idle,
    MetersFailed,
    Tell,
    Watched,
)
from lemctl.daemon.memory_proof import Floors, MemoryProof
from lemctl.errors import FaultKind, RunFailed
from lemctl.judge.measured import Absent, Energy, Scope
from lemctl.judge.peaks import find_peaks, peak_flops_per_s
from lemctl.measure.baseline import NoBaseline, estimate_baseline
from lemctl.measure.energy import NoEnergy
from lemctl.measure.observation import MeterEnergy, Observation, observe
from lemctl.measure.readings import GpuFacts, GpuLostError
from lemctl.measure.watch import SamplerFailedError, SamplerProcess
from lemctl.measure.xid import DRIVER_FOLDER, KernelLog, buses_of
from lemctl.thermal.gate import Reference
from lemctl.thermal.warmup import WarmupSettings, device_moves, find_unsteady

T = TypeVar("T")

#: Samples go on this long after the last window, so that the counter's next tick is seen.
TAIL_S = 2.0
TAIL_TIMEOUT_S = 10.0
#: GPUs that are only watched are read once a second; a reading that is this late does not hold up a run.
WATCHED_TIMEOUT_S = 5.0


@dataclass
class GpuInstruments:
    """An `Instruments` over a running sampler.

    `references` hold where each GPU settles, by state: a loaded engine idles warmer than an empty GPU.
    """

    sampler: SamplerProcess
    gpus: tuple[str, ...]
    watched: tuple[str, ...]
    clock: Clock
    references: dict[str, Mapping[str, Reference]] = field(default_factory=dict)
    has_sensors: bool = True
    watches_warmup: bool = True
    kernel_log: KernelLog = field(default_factory=KernelLog)
    driver_folder: Path = DRIVER_FOLDER
    memory_floors: Floors = field(default_factory=Floors)
    _warmup_over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.memory = MemoryProof(self.sampler, self.gpus, self.clock, self.memory_floors)

    def gate(self, spec: GateSpec, idle: Idle, cancel: Cancel, tell: Tell) -> GateRecord:
        """Wait until every GPU of the lane is at the reference of its state."""
        references = self.references.get(spec.state, {})
        record, learnt = self._asked(
            lambda: wait_at_gate(spec, self.sampler, self.clock, idle, cancel, references, tell)
        )
        self.references[spec.state] = learnt
        return record

    def baseline(self, kind: BaselineKind, seconds: float, idle: Idle, tell: Tell) -> BaselineRecord:
        """Idle power of the lane's GPUs together, over `seconds` at the full rate."""
        tell(f"{kind}: idle power over {seconds:g} s")
        self._asked(lambda: self.sampler.set_rate("fast"))
        self.sampler.begin_record()
        idle(seconds)
        self._asked(self.sampler.check)
        estimates = []
        for gpu in self.gpus:
            powers = [None if s.power_mw is None else s.power_mw / 1e3 for s in self.sampler.series(gpu).samples]
            estimate = estimate_baseline(powers)
            if isinstance(estimate, NoBaseline):
                reason = self.sampler.missing.get(gpu, {}).get("power", estimate.reason)
                return BaselineRecord(kind, None, None, reason)
            estimates.append(estimate)
        u_w = math.hypot(*(estimate.u_w for estimate in estimates))
        return BaselineRecord(kind, math.fsum(estimate.power_w for estimate in estimates), u_w, None)

    def begin_attempt(self, attempt_id: int) -> None:  # noqa: ARG002
        """Full rate, and keep what is read; idle GPUs, which are read once a second, have been read once by then."""
        self._asked(lambda: self.sampler.set_rate("fast"))
        self.sampler.begin_record()
        since_ns = self.clock.monotonic_ns()
        self._asked(lambda: self.sampler.wait_until(since_ns, WATCHED_TIMEOUT_S, watched=True))

    def watch_warmup(self, release: Callable[[], None], max_s: float) -> None:
        """Look once a second, on a thread of its own: the worker listens to the runner meanwhile."""
        self._warmup_over.set()
        self._warmup_over = threading.Event()
        arguments = (release, max_s, self._warmup_over)
        threading.Thread(target=self._release_when_steady, args=arguments, name="warm-up", daemon=True).start()

    def _release_when_steady(self, release: Callable[[], None], max_s: float, over: threading.Event) -> None:
        began_ns = self.clock.monotonic_ns()
        while not over.wait(1.0):
            elapsed_s = (self.clock.monotonic_ns() - began_ns) / 1e9
            readings = {gpu: self.sampler.series(gpu).readings() for gpu in self.gpus}
            if not device_moves(readings, elapsed_s, WarmupSettings()):
                with suppress(OSError):  # the session's folder is full or gone: the warm-up is capped and marked
                    release()
                return
            if elapsed_s > max_s:
                return

    def end_attempt(self, windows: list[WindowRecord]) -> Watched:
        """Two more seconds of samples, then what the windows held; the rate falls back when the baseline is taken."""
        self._warmup_over.set()
        end_ns = max(w.t_end_ns for w in windows) + round(TAIL_S * 1e9)
        self._asked(lambda: self.sampler.wait_until(end_ns, TAIL_TIMEOUT_S))
        self._asked(lambda: self.sampler.wait_until(max(w.t_end_ns for w in windows), TAIL_TIMEOUT_S, watched=True))
        series = {gpu: self.sampler.series(gpu) for gpu in self.gpus}
        seen = observe(
            series,
            [(w.t_begin_ns, w.t_end_ns) for w in windows],
            watched={gpu: self.sampler.series(gpu) for gpu in self.watched},
            own_pids=self.sampler.own_pids,
            process_names=self.sampler.process_names,
            missing=self.sampler.missing,
        )
        readings = {gpu: one.readings() for gpu, one in series.items()}
        moves = find_unsteady(readings, windows[0].t_begin_ns, windows[0].t_end_ns, WarmupSettings())
        return Watched(_energies(seen), self._quantities(seen), {**_evidence(seen), "warmup_moves": moves})

    def rest(self) -> None:
        """Nothing is measured for a while: one look a second."""
        self.sampler.end_record()
        self._asked(lambda: self.sampler.set_rate("idle"))

    def obstacle(self) -> str | None:
        """Processes of others: a window beside them would be INVALID, and waiting for them costs no retry."""
        strangers = self._asked(self.sampler.strangers)
        if strangers is None:
            return "the first look at who uses the GPU"
        return f"other processes use the GPU: {', '.join(strangers)}" if strangers else None

    def memory_obstacle(self, wait: Callable[[float], None], patience_s: float) -> str | None:
        """Wait until the memory of each GPU is back at its floor; why not, when it is not."""
        return self._asked(lambda: self.memory.obstacle(wait, patience_s))

    def explained(self, fault: RunFailed, since_mono_ns: int) -> RunFailed:
        """With the Xid errors of the lane's GPUs. After some of them a GPU is not to be used again: `gpu_lost`."""
        xids = self.kernel_log.xids(buses_of(self.gpus, self.driver_folder), since_mono_ns)
        if not xids:
            return fault
        said = "; ".join(dict.fromkeys(map(str, xids)))
        kind: FaultKind = "gpu_lost" if any(xid.is_fatal for xid in xids) else fault.kind
        return RunFailed(kind, f"{fault.message}; the driver says {said}", fault.detail)

    def peaks(self, precision: str) -> Mapping[str, float | Absent]:
        """Peak rates of the lane's GPUs together, for MFU and MBU; absent where one GPU is not in the table."""
        names = [self.sampler.facts[gpu].name for gpu in self.gpus]
        flops = [peak_flops_per_s(name, precision) for name in names]
        tables = [find_peaks(name) for name in names]
        unknown = Absent(f"no peak is known for {', '.join(sorted(set(names)))} in {precision or 'an untold dtype'}")
        return {
            "peak_flops_per_s": math.fsum(f for f in flops if f) if all(flops) else unknown,
            "peak_bytes_per_s": math.fsum(t.bytes_per_s for t in tables if t) if all(tables) else unknown,
        }

    def facts(self) -> list[GpuFacts]:
        """What the sampler told of the lane's GPUs."""
        return [self.sampler.facts[gpu] for gpu in self.gpus]

    def close(self) -> None:
        """Stop the sampler."""
        self._warmup_over.set()
        self.kernel_log.close()
        self.sampler.stop()

    def _quantities(self, seen: Observation) -> dict[str, float | Absent]:
        names = (
            "peak_memory_bytes",
            "gpu_utilisation",
            "memory_utilisation",
            "sm_clock_mhz",
            "power_cap_share",
            "temperature_c",
        )
        found = {name: getattr(seen, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def _asked(self, call: Callable[[], T]) -> T:
        """Translate the sampler's troubles into kinds of failure."""
        try:
            return call()
        except GpuLostError as lost:
            raise MetersFailed("gpu_lost", str(lost), self.gpus) from lost
        except SamplerFailedError as failed:
            raise MetersFailed("infra", f"the GPU sampler ended: {failed}", self.gpus) from failed


def _energies(seen: Observation) -> dict[Scope, Energy | Absent]:
    return {
        "gpu": _energy(seen.headline),
        "gpu_series": _energy(seen.series),
        "gpu_not_allotted": _energy(seen.not_allotted),
    }


def _energy(found: MeterEnergy | NoEnergy) -> Energy | Absent:
    if isinstance(found, NoEnergy):
        return Absent(found.reason)
    return Energy(found.energy_j, found.u_j, found.meter)


def _evidence(seen: Observation) -> dict[str, Any]:
    return {
        "counter_ticks": seen.counter_ticks,
        "counter_reset": seen.counter_reset,
        "counter_series_difference": seen.counter_series_difference,
        "longest_hole_s": seen.longest_hole_s,
        "sample_period_s": seen.sample_period_s,
        "thermal_throttle_share": seen.thermal_throttle_share,
        "power_brake_share": seen.power_brake_share,
        "foreign_processes": seen.foreign_processes,
    }


def is_ours(pid: int, daemon_pid: int, container_id: str | None, proc: Path = Path("/proc")) -> bool:
    """Whether a process hangs below the daemon, or lives in the container of its runner. A dead one is not."""
    if container_id:
        try:
            if container_id in (proc / str(pid) / "cgroup").read_text():
                return True
        except OSError:
            return False
    seen: set[int] = set()
    while pid > 1 and pid not in seen:
        if pid == daemon_pid:
            return True
        seen.add(pid)
        try:
            pid = int((proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False
