"""A computed GPU: first-order heating and cooling, power that rises with temperature, whole-degree sensor."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Load = Literal["empty", "idle", "loading", "work"]
#: Told of every step: seconds, W, C, J so far.
OnStep = Callable[[float, float, float, float], None]


@dataclass(frozen=True)
class DeviceModel:
    """A card of the 300 W class. Powers in W at `ambient_c`, `leak_w_per_c` on top for every degree above."""

    empty_w: float = 40.0
    idle_w: float = 62.0
    loading_w: float = 140.0
    work_w: float = 280.0
    ambient_c: float = 28.0
    c_per_w: float = 0.16
    tau_s: float = 45.0
    leak_w_per_c: float = 0.15


class SimulatedGpu:
    """Temperature and energy as exact functions of the loads that it has had. Times are seconds on the run's clock."""

    def __init__(self, model: DeviceModel, rng: random.Random, now_s: float):
        self.model = model
        self.load: Load = "empty"
        #: Share of the full work power that the present workload draws.
        self.intensity = 1.0
        self.energy_j = 0.0
        #: The length of a step, and who is told of each: a sampler.
        self.step_s = 1.0
        self.on_step: OnStep | None = None
        self._rng = rng
        self._now_s = now_s
        self._temp_c = model.ambient_c + model.c_per_w * model.empty_w

    def power_w(self) -> float:
        """At the present load and temperature."""
        m = self.model
        base_w = {"empty": m.empty_w, "idle": m.idle_w, "loading": m.loading_w, "work": m.work_w}[self.load]
        if self.load == "work":
            base_w = m.idle_w + (m.work_w - m.idle_w) * self.intensity
        return base_w + m.leak_w_per_c * (self._temp_c - m.ambient_c)

    def advance(self, now_s: float) -> None:
        """Live until `now_s` at the present load."""
        while self._now_s < now_s - 1e-9:
            dt_s = min(self.step_s, now_s - self._now_s)
            power_w = self.power_w()
            target_c = self.model.ambient_c + self.model.c_per_w * power_w
            self.energy_j += power_w * dt_s
            self._temp_c = target_c + (self._temp_c - target_c) * math.exp(-dt_s / self.model.tau_s)
            self._now_s += dt_s
            if self.on_step is not None:
                self.on_step(self._now_s, power_w, self._temp_c, self.energy_j)

    def set_load(self, load: Load, now_s: float, intensity: float = 1.0) -> None:
        """Change what it does, from `now_s` on."""
        self.advance(now_s)
        self.load, self.intensity = load, intensity

    def sensor_c(self) -> float:
        """What the sensor says: noise of 0.3 C, whole degrees."""
        return float(round(self._temp_c + self._rng.gauss(0.0, 0.3)))
