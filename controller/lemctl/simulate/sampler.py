"""Samples of the computed GPU, in the form in which the real sampler stores them: two a second while a run is measured
(a real one takes ten, which is most of the work of a rehearsal), one a second while it waits. Their noise has a source
of its own, so that no figure depends on who looks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from lemctl.measure.readings import GpuFacts
from lemctl.measure.throttling import POWER_CAP
from lemctl.simulate.device import SimulatedGpu
from lemctl.store import samples
from lemctl.store.database import Store

GPU = "GPU-simulated"
FAST_S, IDLE_S = 0.5, 1.0
#: Relative noise of the power reading, and from which share of its full power on the card holds itself back.
NOISE = 0.006
CAP_SHARE = 0.995
MEMORY_B = 80 << 30
_HELD_BACK = 4000


@dataclass(frozen=True, slots=True)
class _Row:
    """A `Sample` that is cheap to make: there are millions."""

    gpu: str
    series: str
    t_mono_ns: int
    reading: dict[str, Any]


class SimulatedSampler:
    """Writes the samples of one computed GPU, from its making on."""

    def __init__(self, gpu: SimulatedGpu, store: Store, boot_id: str, fast_s: float = FAST_S):
        self._gpu = gpu
        self._store = store
        self._boot_id = boot_id
        self._fast_s = fast_s
        self._rng = random.Random(0)  # noqa: S311 - noise that repeats
        self._rows: list[_Row] = []
        self._last_t_ns = 0
        facts = GpuFacts(
            GPU, 0, "simulated GPU", memory_total_b=MEMORY_B, power_limit_mw=300_000, max_sm_clock_mhz=1980
        )
        with store.transaction() as tx:
            self._devices = {GPU: samples.know_device(tx, GPU, facts.to_json())}
        gpu.on_step = self._take

    def set_rate(self, rate: Literal["fast", "idle"]) -> None:
        """How often it looks from now on; what it has seen is written."""
        self._gpu.step_s = self._fast_s if rate == "fast" else IDLE_S
        self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._rows:
            samples.add_samples(self._store, self._devices, self._boot_id, self._rows)
            self._rows = []

    def _take(self, t_s: float, power_w: float, temp_c: float, energy_j: float) -> None:
        t_ns = round(t_s * 1e9)
        power_mw = round(power_w * 1e3 * self._rng.gauss(1.0, NOISE))
        is_capped = power_w > CAP_SHARE * self._gpu.model.work_w
        works = self._gpu.load == "work"
        reading = {
            "power_mw": power_mw,
            "power_source": "instant",
            "power_scope": "gpu",
            "temp_c": round(temp_c),
            "sm_clock_mhz": 1980 if works else 1200,
            "gpu_utilisation_pct": 100 if works else 0,
            "event_reasons": POWER_CAP if is_capped else 0,
        }
        self._rows.append(_Row(GPU, "power", t_ns, reading))
        counter = {"energy_mj": round(energy_j * 1e3), "t_before_ns": self._last_t_ns, "polls": 1}
        self._rows.append(_Row(GPU, "counter", t_ns, counter))
        self._last_t_ns = t_ns
        if len(self._rows) > _HELD_BACK:
            self.flush()
