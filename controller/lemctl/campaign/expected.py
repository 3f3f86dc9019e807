"""How long a run is expected to take, with its 90th percentile, and what is left of a campaign. Pure.

Each figure says what it rests on: results of the same experiment (`measured`), results of other experiments of that
backend and model, scaled by the guessed size of their work (`like`), or the stated guess alone (`guess`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from lemctl.campaign.hours import Hours

Ground = Literal["measured", "like", "guess"]

#: Loading an engine, before any was seen: of the right order for a model of some billion parameters.
GUESS_LOAD_S = 45.0
#: What the 90th percentile is above the median where too little was seen to tell (ours).
GUESS_MARGIN, LIKE_MARGIN, FEW_MARGIN = 2.0, 1.25, 1.1
#: With fewer results than these, the longest one stands for the 90th percentile; then no longer with a margin.
MANY, FEW = 10, 5
#: Windows that are looked at for a run that none seems to fit.
_MOST_WINDOWS = 60


@dataclass(frozen=True, slots=True)
class PastRun:
    """One result: seconds without loading, seconds of loading where the engine was loaded for it, and what had been
    guessed."""

    experiment: str
    backend: str
    model: str
    rest_s: float
    load_s: float | None
    guess_s: float | None


@dataclass(frozen=True, slots=True)
class Expected:
    """Median and 90th percentile, seconds."""

    p50_s: float
    p90_s: float
    ground: Ground


class Durations:
    """What earlier results tell. Every percentile is taken once, however many runs rest on it."""

    def __init__(self, past: Iterable[PastRun]):
        self._own: dict[str, list[float]] = defaultdict(list)
        self._ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._loads: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._known: dict[object, tuple[float, float] | None] = {}
        for run in past:
            key = run.backend, run.model
            self._own[run.experiment].append(run.rest_s)
            if run.guess_s:
                self._ratios[key].append(run.rest_s / run.guess_s)
            if run.load_s is not None:
                self._loads[key].append(run.load_s)

    def run(self, experiment: str, backend: str, model: str, guess_s: float) -> Expected:
        """Of one run, loading apart."""
        own = self._percentiles(experiment, self._own.get(experiment), FEW_MARGIN)
        if own is not None:
            return Expected(*own, "measured")
        key = backend, model
        ratio = self._percentiles(key, self._ratios.get(key), LIKE_MARGIN)
        if ratio is not None:
            return Expected(guess_s * ratio[0], guess_s * ratio[1], "like")
        return Expected(guess_s, guess_s * GUESS_MARGIN, "guess")

    def has_own(self, experiment: str) -> bool:
        """Whether any result is of this experiment."""
        return experiment in self._own

    def load(self, backend: str, model: str) -> Expected:
        """Of loading an engine."""
        key = backend, model
        known = self._percentiles((key, "load"), self._loads.get(key), FEW_MARGIN)
        if known is not None:
            return Expected(*known, "measured")
        return Expected(GUESS_LOAD_S, GUESS_LOAD_S * GUESS_MARGIN, "guess")

    def whole(self, experiment: str, backend: str, model: str, guess_s: float, is_load: bool) -> Expected:
        """Of one run with the loading of its engine, where one is loaded."""
        run = self.run(experiment, backend, model, guess_s)
        if not is_load:
            return run
        load = self.load(backend, model)
        return Expected(run.p50_s + load.p50_s, run.p90_s + load.p90_s, run.ground)

    def _percentiles(self, key: object, values: Sequence[float] | None, margin: float) -> tuple[float, float] | None:
        if not values:
            return None
        if key not in self._known:
            ranked = sorted(values)
            p50, p90 = percentile(ranked, 0.5), percentile(ranked, 0.9) if len(ranked) >= MANY else ranked[-1]
            self._known[key] = p50, max(p90, p50 * margin) if len(ranked) < FEW else p90
        return self._known[key]


def percentile(ranked: Sequence[float], share: float) -> float:
    """Of sorted values, interpolated linearly."""
    place = (len(ranked) - 1) * share
    low = int(place)
    return ranked[low] + (ranked[min(low + 1, len(ranked) - 1)] - ranked[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a campaign. Ends are in the zone of its hours, else UTC; they and windows are None where it
    cannot end. `windows` counts those of its hours in which runs begin; `too_long` holds (experiment, seconds) of runs
    that no window is long enough for."""

    p50_s: float
    p90_s: float
    grounds: dict[Ground, int]
    ends_p50: datetime | None
    ends_p90: datetime | None
    windows_p50: int | None
    windows_p90: int | None
    too_long: list[tuple[str, float]] = field(default_factory=list)


def what_is_left(runs: Sequence[tuple[str, Expected]], hours: Hours | None, now: datetime) -> Left:
    """Of runs in their order, loading included. Errors of guesses add up; the scatter of measured runs partly cancels,
    so theirs is added in squares."""
    grounds: dict[Ground, int] = {"measured": 0, "like": 0, "guess": 0}
    p50_s = guessed_s = measured_s2 = 0.0
    for _, one in runs:
        grounds[one.ground] += 1
        p50_s += one.p50_s
        if one.ground == "measured":
            measured_s2 += (one.p90_s - one.p50_s) ** 2
        else:
            guessed_s += one.p90_s - one.p50_s
    p90_s = p50_s + guessed_s + measured_s2**0.5
    if hours is None:
        ends = now + timedelta(seconds=p50_s), now + timedelta(seconds=p90_s)
        return Left(p50_s, p90_s, grounds, *ends, None, None)
    too_long: dict[str, float] = {}
    expected = _walk(runs, 1.0, hours, now, too_long)
    slow = _walk(runs, p90_s / p50_s if p50_s else 1.0, hours, now, too_long)
    return Left(p50_s, p90_s, grounds, expected[0], slow[0], expected[1], slow[1], list(too_long.items()))


def _walk(
    runs: Sequence[tuple[str, Expected]], stretch: float, hours: Hours, now: datetime, too_long: dict[str, float]
) -> tuple[datetime | None, int | None]:
    """(end, windows used) when every run takes `stretch` times its median and begins only where its 90th percentile
    fits before the close."""
    windows = hours.windows(now)
    window, count, is_used = next(windows), 0, False
    at_s, close_s = max(0.0, (now - window.opens).total_seconds()), window.length_s
    longest_s = hours.longest_s(now)
    for experiment, one in runs:
        if one.p90_s > longest_s:
            too_long[experiment] = one.p90_s
            continue
        tries = 0
        while at_s + one.p90_s > close_s and tries < _MOST_WINDOWS:
            window = next(windows)
            at_s, close_s, is_used, tries = 0.0, window.length_s, False, tries + 1
        if tries == _MOST_WINDOWS:
            too_long[experiment] = one.p90_s
            continue
        count, is_used = count + (not is_used), True
        at_s += one.p50_s * stretch
    if len(too_long) == len({experiment for experiment, _ in runs}) and runs:
        return None, None
    return (window.opens + timedelta(seconds=at_s)).astimezone(hours.zone), count
