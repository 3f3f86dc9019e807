"""VALID, SUSPECT or INVALID: whether a figure may be averaged, and exactly why not.

Each rule is one small function in `RULES` that looks at the evidence and gives at most one finding; the verdict is the
worst of them. Evidence that is None was not to be had (no sensor, not asked for) and gives no finding: what is missing
makes figures absent, not invalid. The codes are stored and shown, so they never change their meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["SUSPECT", "INVALID"]
Verdict = Literal["VALID", "SUSPECT", "INVALID"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason against a figure. `value` and `limit` are in the unit that `text` names, None where there is none."""

    code: str
    severity: Severity
    text: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a reading speaks against a figure. Shares lie between 0 and 1."""

    counter_suspect: float = 0.02
    counter_invalid: float = 0.05
    """The tolerance InferenceX uses between the energy counter and the integrated power."""
    hole_invalid_s: float = 1.0
    hole_suspect_periods: float = 3.0
    throttle_invalid_share: float = 0.001
    request_errors_share: float = 0.01
    window_share: float = 0.9
    baseline_shift: float = 0.03
    clock_step_s: float = 0.5
    """More than a clock discipline can slew in a window (500 ppm of 120 s is 0.06 s)."""
    suspend_s: float = 0.01


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one attempt. None: not known or not applicable."""

    duration_s: float
    min_window_s: float | None = None
    counter_ticks: int | None = None
    min_ticks: int | None = None
    counter_reset: bool = False
    counter_series_difference: float | None = None
    """(counter - integral) / counter over the windows."""
    longest_hole_s: float | None = None
    sample_period_s: float | None = None
    thermal_throttle_share: float | None = None
    """Share of the windows that any thermal or hardware slowdown was in force."""
    power_brake_share: float | None = None
    foreign_processes: tuple[str, ...] = ()
    requests: int = 0
    requests_failed: int = 0
    requests_of_wrong_length: int | None = None
    """With `output: fixed`, requests whose re-counted output differs from the length asked for."""
    cache_hit_rate: float | None = None
    cache_hit_declared: float = 0.0
    clock_step_s: float | None = None
    """How far the wall clock moved against the monotonic clock between the edges."""
    suspended_s: float | None = None
    gate_capped: bool = False
    warmup_capped: bool = False
    warmup_moves: tuple[str, ...] = ()
    """What the host saw still moving when the window began, though the runner found its latencies steady."""
    baseline_shift: float | None = None
    """Relative change of B0 since the campaign's start. B2 moves by leakage alone, and carries that as uncertainty."""
    saturated: bool = False
    settled: bool | None = None
    """Open loop: the window begins 3 x the 95th percentile of latency after the first arrival, or later."""
    headline_estimated: bool = False


def judge(evidence: Evidence, limits: Limits | None = None) -> list[Finding]:
    """All findings against an attempt, in the order of `RULES`; none means VALID."""
    chosen = limits or Limits()
    findings = (rule(evidence, chosen) for rule in RULES)
    return [finding for finding in findings if finding is not None]


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict that a set of findings adds up to."""
    severities = {finding.severity for finding in findings}
    if "INVALID" in severities:
        return "INVALID"
    return "SUSPECT" if severities else "VALID"


def _counter_reset(evidence: Evidence, _limits: Limits) -> Finding | None:
    if not evidence.counter_reset:
        return None
    return Finding("counter_reset", "INVALID", "the energy counter fell: the driver was reloaded")


def _counter_disagrees(evidence: Evidence, limits: Limits) -> Finding | None:
    if evidence.counter_series_difference is None:
        return None
    off = abs(evidence.counter_series_difference)
    if off <= limits.counter_suspect:
        return None
    severity: Severity = "INVALID" if off > limits.counter_invalid else "SUSPECT"
    limit = limits.counter_invalid if severity == "INVALID" else limits.counter_suspect
    text = f"energy counter and integrated power differ by {off:.1%} (limit {limit:.0%})"
    return Finding("counter_disagrees", severity, text, off, limit)


def _series_hole(evidence: Evidence, limits: Limits) -> Finding | None:
    hole_s = evidence.longest_hole_s
    if hole_s is None:
        return None
    if hole_s > limits.hole_invalid_s:
        text = f"no sample for {hole_s:.2f} s (limit {limits.hole_invalid_s:g} s)"
        return Finding("series_hole", "INVALID", text, hole_s, limits.hole_invalid_s)
    if evidence.sample_period_s is None:
        return None
    limit_s = limits.hole_suspect_periods * evidence.sample_period_s
    if hole_s <= limit_s:
        return None
    return Finding("series_hole", "SUSPECT", f"no sample for {hole_s:.2f} s (limit {limit_s:.2f} s)", hole_s, limit_s)


def _thermal_throttle(evidence: Evidence, limits: Limits) -> Finding | None:
    share = evidence.thermal_throttle_share
    if share is None or share <= 0:
        return None
    severity: Severity = "INVALID" if share > limits.throttle_invalid_share else "SUSPECT"
    limit = limits.throttle_invalid_share if severity == "INVALID" else 0.0
    text = f"thermal or hardware slowdown in {share:.2%} of the window (limit {limit:.1%})"
    return Finding("thermal_throttle", severity, text, share, limit)


def _power_brake(evidence: Evidence, _limits: Limits) -> Finding | None:
    share = evidence.power_brake_share
    if share is None or share <= 0:
        return None
    text = f"the external power brake was on in {share:.2%} of the window"
    return Finding("power_brake", "INVALID", text, share, 0.0)


def _foreign_process(evidence: Evidence, _limits: Limits) -> Finding | None:
    others = evidence.foreign_processes
    if not others:
        return None
    text = f"other processes used the GPU: {', '.join(others)}"
    return Finding("foreign_process", "INVALID", text, len(others), 0)


def _request_errors(evidence: Evidence, limits: Limits) -> Finding | None:
    if evidence.requests == 0:
        return None
    share = evidence.requests_failed / evidence.requests
    if share <= limits.request_errors_share:
        return None
    text = (
        f"{evidence.requests_failed} of {evidence.requests} requests failed (limit {limits.request_errors_share:.0%})"
    )
    return Finding("request_errors", "INVALID", text, share, limits.request_errors_share)


def _output_length(evidence: Evidence, _limits: Limits) -> Finding | None:
    wrong = evidence.requests_of_wrong_length
    if not wrong:
        return None
    text = f"{wrong} requests gave another number of tokens than the fixed output length"
    return Finding("output_length", "INVALID", text, wrong, 0)


def _cache_hits(evidence: Evidence, _limits: Limits) -> Finding | None:
    rate = evidence.cache_hit_rate
    if rate is None or rate <= evidence.cache_hit_declared:
        return None
    text = f"prefix-cache hit rate {rate:.1%} is above the declared {evidence.cache_hit_declared:.1%}"
    return Finding("cache_hits", "INVALID", text, rate, evidence.cache_hit_declared)


def _clock_step(evidence: Evidence, limits: Limits) -> Finding | None:
    step_s = evidence.clock_step_s
    if step_s is None or abs(step_s) <= limits.clock_step_s:
        return None
    text = f"the wall clock was set by {step_s:+.2f} s during the attempt (limit {limits.clock_step_s:g} s)"
    return Finding("clock_step", "INVALID", text, step_s, limits.clock_step_s)


def _suspended(evidence: Evidence, limits: Limits) -> Finding | None:
    asleep_s = evidence.suspended_s
    if asleep_s is None or asleep_s <= limits.suspend_s:
        return None
    return Finding("suspended", "INVALID", f"the host was suspended for {asleep_s:.2f} s", asleep_s, limits.suspend_s)


def _window_short(evidence: Evidence, limits: Limits) -> Finding | None:
    reached: list[tuple[float, str]] = []
    if evidence.min_window_s:
        share = evidence.duration_s / evidence.min_window_s
        reached.append((share, f"{evidence.duration_s:.1f} s of {evidence.min_window_s:g} s"))
    if evidence.min_ticks and evidence.counter_ticks is not None:
        share = evidence.counter_ticks / evidence.min_ticks
        reached.append((share, f"{evidence.counter_ticks} of {evidence.min_ticks} counter ticks"))
    if not reached or min(reached)[0] >= limits.window_share:
        return None
    share, shown = min(reached)
    text = f"the window is too short: {shown} (limit {limits.window_share:.0%})"
    return Finding("window_short", "INVALID", text, share, limits.window_share)


def _gate_capped(evidence: Evidence, _limits: Limits) -> Finding | None:
    return (
        Finding("gate_capped", "SUSPECT", "the GPU did not cool in time: warm start") if evidence.gate_capped else None
    )


def _warmup_capped(evidence: Evidence, _limits: Limits) -> Finding | None:
    text = "the warm-up reached its limit before a steady state"
    return Finding("warmup_capped", "SUSPECT", text) if evidence.warmup_capped else None


def _warmup_not_steady(evidence: Evidence, _limits: Limits) -> Finding | None:
    if not evidence.warmup_moves:
        return None
    text = f"not at a steady state when the window began: {'; '.join(evidence.warmup_moves)}"
    return Finding("warmup_not_steady", "SUSPECT", text)


def _baseline_drift(evidence: Evidence, limits: Limits) -> Finding | None:
    shift = evidence.baseline_shift
    if shift is None or abs(shift) <= limits.baseline_shift:
        return None
    text = f"idle power moved by {shift:+.1%} (limit {limits.baseline_shift:.0%})"
    return Finding("baseline_drift", "SUSPECT", text, shift, limits.baseline_shift)


def _saturated(evidence: Evidence, _limits: Limits) -> Finding | None:
    text = "more requests arrived than were served: in-flight requests grew"
    return Finding("saturated", "SUSPECT", text) if evidence.saturated else None


def _not_settled(evidence: Evidence, _limits: Limits) -> Finding | None:
    text = "the window begins before 3 x the 95th percentile of latency: the load had not settled"
    return Finding("load_not_settled", "SUSPECT", text) if evidence.settled is False else None


def _estimated(evidence: Evidence, _limits: Limits) -> Finding | None:
    text = "the headline energy is estimated, not measured"
    return Finding("estimated_meter", "SUSPECT", text) if evidence.headline_estimated else None


RULES: tuple[Callable[[Evidence, Limits], Finding | None], ...] = (
    _counter_reset,
    _counter_disagrees,
    _series_hole,
    _thermal_throttle,
    _power_brake,
    _foreign_process,
    _request_errors,
    _output_length,
    _cache_hits,
    _clock_step,
    _suspended,
    _window_short,
    _gate_capped,
    _warmup_capped,
    _warmup_not_steady,
    _baseline_drift,
    _saturated,
    _not_settled,
    _estimated,
)
