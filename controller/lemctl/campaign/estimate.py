"""How long a plan takes and what it writes, before it is started. Pure: history comes as an argument.

Every figure says what it rests on: runs of the same experiment (`measured`), other runs of that backend and model
(`like`), or the constants below (`guess`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lem_runner.protocol import SETTLE_P95
from lemctl.campaign.expected import GUESS_LOAD_S, Durations, Expected, Ground
from lemctl.campaign.load import in_flight, is_one_by_one, rate_per_s, request_s
from lemctl.campaign.order import loads
from lemctl.campaign.plan import Experiment, Plan, engine_of

# The guesses, like those of `load`: of the right order for a model of some billion parameters on one GPU.
GUESS_COOL_S = 90.0
GUESS_STEADY_S = 60.0
#: Samples after the window, and writing the records.
TAIL_S = 2.0

# Rows a second of one GPU's counter, power and environment series at their default periods, and SQLite's bytes a row.
_SAMPLE_ROWS_PER_S = 25.0
_IDLE_ROWS_PER_S = 1.0
_BYTES_PER_SAMPLE = 48
_BYTES_PER_REQUEST = 250
#: Rows of one attempt beside its samples: the log of its moves, facts, metrics, findings, windows, environments.
STATE_BYTES_PER_RUN = 7_000
_BYTES_PER_TOKEN_TIME = 12


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds that runs spend. In history `loading_s` is None where the engine was open already."""

    measuring_s: float = 0.0
    cooling_s: float = 0.0
    baseline_s: float = 0.0
    warmup_s: float = 0.0
    loading_s: float | None = None

    @property
    def total_s(self) -> float:
        """All phases."""
        return self.measuring_s + self.cooling_s + self.baseline_s + self.warmup_s + (self.loading_s or 0.0)


History = Mapping[str, Sequence[Phases]]
Likeness = Mapping[tuple[str, str], Sequence[Phases]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan takes. `grounds` counts runs by what their figures rest on, `load_grounds` the engine loads."""

    runs: int
    runs_by_backend: dict[str, int]
    experiments_by_backend: dict[str, int]
    engine_loads: int
    phases: Phases
    grounds: dict[Ground, int]
    load_grounds: dict[Ground, int]
    sample_bytes: int
    request_bytes: int
    state_bytes: int
    #: The guess of one run of each experiment, loading apart; for each run in order, whether it loads an engine.
    guesses_s: tuple[float, ...]
    is_loaded: tuple[bool, ...]

    @property
    def total_s(self) -> float:
        """The whole campaign, without retries."""
        return self.phases.total_s

    @property
    def measuring_share(self) -> float:
        """Which part of the time is measured, 0 to 1."""
        return self.phases.measuring_s / self.total_s if self.total_s else 0.0

    @property
    def source(self) -> Ground:
        """The weakest ground that any run rests on."""
        return "guess" if self.grounds["guess"] else "like" if self.grounds["like"] else "measured"


def estimate(
    plan: Plan, history: History | None = None, like: Likeness | None = None, sensors: bool = True
) -> Estimate:
    """The estimate of `plan`. `history` is by experiment hash, `like` by (backend, model); without `sensors` there is
    neither cooling nor baseline, only the gate's gap."""
    past = _Past(history or {}, like or {}, plan.document["gate"], sensors)
    measuring_s = cooling_s = baseline_s = warmup_s = samples = requests = 0.0
    grounds: Counter[Ground] = Counter()
    counted: Counter[str] = Counter()
    for experiment, times in zip(plan.experiments, _cycles(plan), strict=True):
        phases, ground = past.phases(experiment)
        grounds[ground] += times
        counted[experiment.backend] += times
        measuring_s += times * phases.measuring_s
        cooling_s += times * phases.cooling_s
        baseline_s += times * phases.baseline_s
        warmup_s += times * phases.warmup_s
        samples += times * _sample_bytes(phases) if sensors else 0.0
        requests += times * _request_bytes(experiment.spec["workload"], phases.measuring_s)
    is_loaded = loaded_runs(plan)
    load_s, load_grounds = _loading(plan, past, is_loaded)
    return Estimate(
        runs=len(plan.runs),
        runs_by_backend=dict(counted),
        experiments_by_backend=dict(Counter(experiment.backend for experiment in plan.experiments)),
        engine_loads=sum(load_grounds.values()),
        phases=Phases(measuring_s, cooling_s, baseline_s, warmup_s, load_s),
        grounds={"measured": grounds["measured"], "like": grounds["like"], "guess": grounds["guess"]},
        load_grounds=load_grounds,
        sample_bytes=int(samples),
        request_bytes=int(requests),
        state_bytes=len(plan.runs) * STATE_BYTES_PER_RUN,
        guesses_s=tuple([past.guess_s(experiment) for experiment in plan.experiments]),
        is_loaded=tuple(is_loaded),
    )


def guesses_s(plan: Plan, sensors: bool = True) -> list[float]:
    """For each experiment the guess of one run, loading apart: what history is compared with."""
    past = _Past({}, {}, plan.document["gate"], sensors)
    return [past.guess_s(experiment) for experiment in plan.experiments]


def expected_runs(plan: Plan, made: Estimate, durations: Durations) -> list[tuple[str, Expected]]:
    """(experiment, what it is expected to take, loading included) of every run in order, from the plan's estimate."""
    known: dict[tuple[object, ...], Expected] = {}
    found = []
    for run, is_load in zip(plan.runs, made.is_loaded, strict=True):
        one, guess_s = plan.experiments[run.experiment], made.guesses_s[run.experiment]
        key = durations.has_own(one.hash) and one.hash, one.backend, one.model, guess_s, is_load
        expected = known.get(key)
        if expected is None:
            expected = known[key] = durations.whole(one.hash, one.backend, one.model, guess_s, is_load)
        found.append((one.hash, expected))
    return found


def loaded_runs(plan: Plan) -> list[bool]:
    """For each run in order: must an engine be loaded for it?"""
    if plan.document["isolation"] != "engine":
        return [True] * len(plan.runs)
    engines = [engine_of(experiment) for experiment in plan.experiments]
    return loads(
        [engines[run.experiment] for run in plan.runs],
        [run.cycle for run in plan.runs],
        bool(plan.document["reload_each_block"]),
    )


def _cycles(plan: Plan) -> list[int]:
    counts = [0] * len(plan.experiments)
    for run in plan.runs:
        counts[run.experiment] += 1
    return counts


class _Past:
    """What is known of earlier runs; every median is taken once, however many experiments rest on it."""

    def __init__(self, history: History, like: Likeness, gate: Mapping[str, Any], sensors: bool):
        self._own = {digest: _median(runs) for digest, runs in history.items() if runs}
        self._like = {key: _median(runs) for key, runs in like.items() if runs}
        self._guesses: dict[tuple[int, int], Phases] = {}
        self._gate, self._sensors = gate, sensors

    def phases(self, experiment: Experiment) -> tuple[Phases, Ground]:
        """Of one run of `experiment`, loading apart."""
        if own := self._own.get(experiment.hash):
            return own, "measured"
        guess = self._guess(experiment.spec)
        known = self._like.get((experiment.backend, experiment.model))
        if known is None:
            return guess, "guess"
        # The window is stated; only where it is one pass does another run's duration say more than the statement.
        measuring_s = known.measuring_s if experiment.spec["measure"]["one_pass"] else guess.measuring_s
        return Phases(measuring_s, known.cooling_s, known.baseline_s, known.warmup_s), "like"

    def guess_s(self, experiment: Experiment) -> float:
        """Of one run, loading apart, whatever is known of it."""
        return self._guess(experiment.spec).total_s

    def loading(self, experiment: Experiment) -> tuple[float, Ground]:
        """Seconds of one load."""
        own = self._own.get(experiment.hash)
        if own is not None and own.loading_s is not None:
            return own.loading_s, "measured"
        known = self._like.get((experiment.backend, experiment.model))
        if known is not None and known.loading_s is not None:
            return known.loading_s, "like"
        return GUESS_LOAD_S, "guess"

    def _guess(self, spec: Mapping[str, Any]) -> Phases:
        # Experiments share the sections of their specification, so identity is enough, and quick.
        key = id(spec["workload"]), id(spec["measure"])
        if key not in self._guesses:
            self._guesses[key] = _guessed(spec, self._gate, self._sensors)
        return self._guesses[key]


def _guessed(spec: Mapping[str, Any], gate: Mapping[str, Any], sensors: bool) -> Phases:
    measure, workload = spec["measure"], spec["workload"]
    warmup = measure["warmup"]
    batch_s = request_s(workload)
    window_s = _window_s(workload, measure)
    if gate["kind"] == "cool" and sensors:
        cooling_s = min(GUESS_COOL_S, gate["max_s"])
    else:
        cooling_s = 0.0 if gate["kind"] == "steady" else gate["gap_s"]
    steady_s = min(max(GUESS_STEADY_S, warmup["min_s"], batch_s), warmup["max_s"])
    warmup_s = {"none": 0.0, "one_batch": batch_s, "steady": steady_s}[warmup["kind"]]
    baseline_s = 2 * measure["baseline_s"] if sensors else 0.0
    return Phases(window_s + TAIL_S, cooling_s, baseline_s, warmup_s)


def _window_s(workload: Mapping[str, Any], measure: Mapping[str, Any]) -> float:
    """Seconds from the window's begin, ramp and settling before it, to the last request's end."""
    one_s, rate = request_s(workload), rate_per_s(workload["load"])
    if rate is not None:
        arriving_s = workload["prompts"] / rate if measure["one_pass"] else measure["window_s"] + SETTLE_P95 * one_s
        return float(arriving_s + one_s)
    if measure["one_pass"]:
        return float(-(-workload["prompts"] // in_flight(workload)) * one_s)
    ramp_s = 2 * one_s if is_one_by_one(workload["load"]) else 0.0
    return float(max(measure["window_s"], one_s) + ramp_s)


def _median(past: Sequence[Phases]) -> Phases:
    loads_s = [phases.loading_s for phases in past if phases.loading_s is not None]
    return Phases(
        _middle([phases.measuring_s for phases in past]),
        _middle([phases.cooling_s for phases in past]),
        _middle([phases.baseline_s for phases in past]),
        _middle([phases.warmup_s for phases in past]),
        _middle(loads_s) if loads_s else None,
    )


def _middle(values: Sequence[float]) -> float:
    """The median. The standard library's module costs more to import than a plan of some hundred runs to estimate."""
    ranked = sorted(values)
    return (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2


def _loading(plan: Plan, past: _Past, is_loaded: Sequence[bool]) -> tuple[float, dict[Ground, int]]:
    """Seconds of all loads, and how many rest on what."""
    total_s = 0.0
    grounds: dict[Ground, int] = {"measured": 0, "like": 0, "guess": 0}
    for run, is_one in zip(plan.runs, is_loaded, strict=True):
        if is_one:
            one_s, ground = past.loading(plan.experiments[run.experiment])
            total_s += one_s
            grounds[ground] += 1
    return total_s, grounds


def _sample_bytes(phases: Phases) -> float:
    busy_s = phases.measuring_s + phases.baseline_s + phases.warmup_s
    return _BYTES_PER_SAMPLE * (busy_s * _SAMPLE_ROWS_PER_S + phases.cooling_s * _IDLE_ROWS_PER_S)


def _request_bytes(workload: Mapping[str, Any], measuring_s: float) -> float:
    served = max(workload["prompts"], in_flight(workload) * measuring_s / request_s(workload))
    return float(served * (_BYTES_PER_REQUEST + _BYTES_PER_TOKEN_TIME * workload["max_new_tokens"]))
