"""The proof that the memory of a lane's GPUs is free before another engine starts: each GPU is back at its floor.

A floor is the least memory that was in use since the host came up under this driver while no process was on the GPU.
What leaked before the first such reading is in it: nothing tells that from what the driver keeps for itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lemctl.clock import Clock
from lemctl.measure.readings import GpuProcess, GpuSeries
from lemctl.measure.watch import SamplerProcess

#: After an engine has ended, the memory in use may differ from what it was before by this much.
SLACK_B = 64 << 20
#: Samples come once a second. A GPU that has told nothing for so long is silent.
SILENT_S = 5.0
LOOK_S = 0.1
#: Between two readings while memory is not free.
AGAIN_S = 1.0

Wait = Callable[[float], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemoryNow:
    """What one GPU told after it was asked: memory in use in bytes, None where it told nothing; `users` are the
    processes on it, none where they cannot be listed."""

    used_b: int | None
    users: Sequence[GpuProcess] = ()


@dataclass
class Floors:
    """The floor of each GPU in bytes, and how a lower one is kept for the next daemon."""

    by_gpu_b: dict[str, int] = field(default_factory=dict)
    keep: Callable[[str, int], None] = lambda _gpu, _used_b: None

    def learn(self, gpu: str, used_b: int) -> None:
        """A reading with no process on the GPU."""
        if used_b < self.by_gpu_b.get(gpu, used_b + 1):
            self.by_gpu_b[gpu] = used_b
            self.keep(gpu, used_b)


@dataclass
class MemoryProof:
    """Asks the sampler, waits for it, and learns the floors. Raises what the sampler's `check` and `wait` raise."""

    sampler: SamplerProcess
    gpus: tuple[str, ...]
    clock: Clock
    floors: Floors
    _without_proof: set[str] = field(default_factory=set)

    def obstacle(self, wait: Wait, patience_s: float) -> str | None:
        """Why the memory is not free after so long, by GPU and in words; None as soon as it is."""
        began_ns = self.clock.monotonic_ns()
        while True:
            now = self.read(wait)
            for gpu, found in now.items():
                if found.used_b is not None and not found.users:
                    self.floors.learn(gpu, found.used_b)
            held = [why for gpu in now if (why := self._why_not_free(gpu, now[gpu])) is not None]
            if not held:
                return None
            if self.clock.monotonic_ns() - began_ns >= patience_s * 1e9:
                return f"GPU memory was not freed after the engine's end ({', '.join(held)})"
            wait(AGAIN_S)

    def read(self, wait: Wait) -> dict[str, MemoryNow]:
        """What each GPU tells from now on, as soon as all have. One that counts no memory is left out, and the log says
        so."""
        self.sampler.begin_record()
        since_ns = self.clock.monotonic_ns()
        while True:
            wait(LOOK_S)
            self.sampler.check()
            now = {gpu: _newest(self.sampler.series(gpu), since_ns) for gpu in self.gpus if not self._is_without(gpu)}
            is_over = self.clock.monotonic_ns() - since_ns >= SILENT_S * 1e9
            if is_over or all(found is not None for found in now.values()):
                return {gpu: found or MemoryNow(None) for gpu, found in now.items()}

    def _is_without(self, gpu: str) -> bool:
        reason = self.sampler.missing.get(gpu, {}).get("memory")
        if reason is not None and gpu not in self._without_proof:
            self._without_proof.add(gpu)
            _log.warning("GPU %s counts no memory (%s): that it is free is not proved", gpu, reason)
        return reason is not None

    def _why_not_free(self, gpu: str, now: MemoryNow) -> str | None:
        if now.used_b is None:
            return f"{gpu} has told nothing for {SILENT_S:g} s"
        floor_b = self.floors.by_gpu_b.get(gpu)
        if floor_b is None:
            pids = ", ".join(str(process.pid) for process in now.users)
            return f"{gpu} holds {now.used_b / 1e6:.0f} MB with process {pids} on it, and was never seen without"
        over_b = now.used_b - floor_b
        return f"{gpu}: {over_b / 1e6:.0f} MB" if over_b > SLACK_B else None


def _newest(series: GpuSeries, since_ns: int) -> MemoryNow | None:
    """The newest reading and the newest list of processes after a time; None until there are both."""
    told = [s.memory_used_b for t_ns, s in zip(series.times_ns, series.samples, strict=True) if t_ns > since_ns]
    lists = [users for t_ns, users in series.processes if t_ns > since_ns]
    if not lists or not told or told[-1] is None:
        return None
    return MemoryNow(told[-1], lists[-1] or ())
