"""Does the cooling gate make runs start alike, and does it wait less than a fixed gap would?

Simulated GPUs cool exponentially with constants of 20, 45 and 90 s towards an idle temperature that a loaded engine
raises by 0, 1.5 or 3 C; the sensor has 0.3 C of noise and whole degrees. Each serves 200 runs of 60 s that heat by 15
or 45 C at random, in sessions of 20 runs; loading an engine heats by 25 C and makes the gate forget its reference.
The same runs with fixed gaps give the shortest single gap whose starts spread by at most 2 C on all of them.
The gate, its loop and its learning are the ones that ship.

    python bench/gate.py [--out bench/results/gate.md]
"""

from __future__ import annotations

import argparse
import math
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from machine import describe_machine

from lemctl.measure.readings import Reading
from lemctl.thermal.gate import GateSettings, Reference
from lemctl.thermal.loop import pass_gate

TAUS_S = (20.0, 45.0, 90.0)
OFFSETS_C = (0.0, 1.5, 3.0)
RUNS = 200
RUNS_PER_SESSION = 20
IDLE_C = 32.0
LOADING_HEATS_C = 25.0
SPREAD_LIMIT_C = 2.0
WAIT_SHARE_LIMIT = 0.75


class SimulatedGpu:
    """A GPU, its sensor and its clock: waiting cools it."""

    def __init__(self, tau_s: float, offset_c: float, seed: int):
        self.tau_s, self.idle_c = tau_s, IDLE_C + offset_c
        self.temp_c, self.now_s = self.idle_c, 0.0
        self.noise = random.Random(seed)

    def monotonic_ns(self) -> int:
        return round(self.now_s * 1e9)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.now_s += timeout_s
        self.temp_c = self.idle_c + (self.temp_c - self.idle_c) * math.exp(-timeout_s / self.tau_s)
        return event.is_set()

    def latest(self) -> Mapping[str, Reading]:
        sensed_c = float(round(self.temp_c + self.noise.gauss(0.0, 0.3)))
        return {"gpu": Reading(self.monotonic_ns(), sensed_c, None, 0.0)}

    def run(self, heats_c: float) -> None:
        self.now_s += 60.0
        self.temp_c += heats_c


@dataclass(frozen=True)
class Series:
    """One GPU's 200 starts under one policy."""

    start_temps_c: list[float]
    waited_s: float
    given_up: int = 0

    @property
    def spread_c(self) -> float:
        return max(self.start_temps_c) - min(self.start_temps_c)


def heats(seed: int) -> list[float]:
    draw = random.Random(seed)
    return [draw.choice((15.0, 45.0)) for _ in range(RUNS)]


def serve_gated(tau_s: float, offset_c: float, seed: int) -> Series:
    gpu = SimulatedGpu(tau_s, offset_c, seed)
    references: Mapping[str, Reference] = {}
    starts, waited_s, given_up = [], 0.0, 0
    for index, heats_c in enumerate(heats(seed)):
        if index % RUNS_PER_SESSION == 0:
            references = {}
            gpu.temp_c += LOADING_HEATS_C
        outcome = pass_gate(GateSettings(), gpu, gpu, threading.Event(), references)
        references = outcome.references
        starts.append(gpu.temp_c)
        waited_s += outcome.waited_s
        given_up += outcome.start_state == "warm"
        gpu.run(heats_c)
    return Series(starts, waited_s, given_up)


def serve_fixed(tau_s: float, offset_c: float, seed: int, gap_s: float) -> Series:
    gpu = SimulatedGpu(tau_s, offset_c, seed)
    starts = []
    for index, heats_c in enumerate(heats(seed)):
        if index % RUNS_PER_SESSION == 0:
            gpu.temp_c += LOADING_HEATS_C
        gpu.wait(threading.Event(), gap_s)
        starts.append(gpu.temp_c)
        gpu.run(heats_c)
    return Series(starts, RUNS * gap_s)


def shortest_fixed_gap_s(seed: int) -> int:
    """The shortest whole-second gap whose starts spread by at most 2 C on every constant."""
    return next(
        gap_s
        for gap_s in range(10, 1000)
        if all(serve_fixed(tau_s, 0.0, seed, gap_s).spread_c <= SPREAD_LIMIT_C for tau_s in TAUS_S)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gate.md")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()

    gap_s = shortest_fixed_gap_s(arguments.seed)
    rows, gated_s, fixed_s, widest_c = [], 0.0, 0.0, 0.0
    for tau_s in TAUS_S:
        tau_gated_s = tau_widest_c = 0.0
        given_up = 0
        for offset_c in OFFSETS_C:
            series = serve_gated(tau_s, offset_c, arguments.seed)
            tau_gated_s += series.waited_s
            tau_widest_c = max(tau_widest_c, series.spread_c)
            given_up += series.given_up
        tau_fixed_s = len(OFFSETS_C) * RUNS * gap_s
        rows.append(
            f"| {tau_s:.0f} | {tau_widest_c:.2f} | {tau_gated_s / (len(OFFSETS_C) * RUNS):.0f} | {gap_s} "
            f"| {tau_gated_s / tau_fixed_s:.0%} | {given_up} |"
        )
        gated_s, fixed_s, widest_c = gated_s + tau_gated_s, fixed_s + tau_fixed_s, max(widest_c, tau_widest_c)
    passed = widest_c <= SPREAD_LIMIT_C and gated_s <= WAIT_SHARE_LIMIT * fixed_s
    text = "\n".join(
        [
            "# The cooling gate against a fixed gap",
            "",
            describe_machine(),
            "",
            f"{RUNS} runs on each of {len(TAUS_S)} x {len(OFFSETS_C)} simulated GPUs, seed {arguments.seed}. "
            "Spread is the largest minus the smallest true start temperature, the worst of the offsets.",
            "",
            "| cooling constant (s) | spread (C) | mean wait (s) | fixed gap (s) | share | given up |",
            "|---|---|---|---|---|---|",
            *rows,
            f"| all | {widest_c:.2f} | | | {gated_s / fixed_s:.0%} | |",
            "",
            f"Limits: spread {SPREAD_LIMIT_C:g} C, waiting {WAIT_SHARE_LIMIT:.0%}: {'pass' if passed else 'FAIL'}.",
            "",
        ]
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
