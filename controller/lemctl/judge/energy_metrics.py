"""Energy metrics: total, net of idle, attributed; per token, request and prompt; tokens per joule; by scope.

Uncertainties are standard ones (k = 1) from edges, resolution and baselines. The sensor's gain error of about +-5 % per
board is not in them: it is the same for all runs on one GPU and is stated once per report.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from lemctl.judge.measured import BaselineName, Energy, Measured, Scope
from lemctl.judge.metric import MetricRegistry, NotKnownError, Value, divided, known
from lemctl.judge.work import (
    WORK_INPUTS,
    count_tokens_in,
    count_tokens_out,
    duration_s,
    requests_answered,
    requests_counted,
)

ENERGY_METRICS = MetricRegistry()
J_PER_KWH = 3.6e6
RESOLVED_AT_U = 3.0
NOT_RESOLVED = "not resolved"
_metric = ENERGY_METRICS.metric


@_metric("J", ("energy",))
def energy_total(measured: Measured) -> Value:
    """E_total: all energy of the allotted GPUs in the windows (NVML counter)."""
    return _as_value(known(measured.energy_of("gpu")))


def _as_value(energy: Energy) -> Value:
    note = energy.meter if energy.basis == "measured" else f"{energy.meter}, estimated"
    return Value(energy.energy_j, energy.u_j, note)


def _above_baseline(measured: Measured, name: BaselineName) -> Value:
    """E_total - P_baseline x T with u^2 = u_E^2 + (T u_P)^2; signed, and flagged where it is below 3 u."""
    total = known(measured.energy_of("gpu"))
    baseline = known(measured.baseline_of(name))
    seconds = duration_s(measured)
    net_j = total.energy_j - baseline.value * seconds
    u_j = math.hypot(total.u_j, baseline.u * seconds)
    return Value(net_j, u_j, NOT_RESOLVED if net_j < RESOLVED_AT_U * u_j else None)


_BASELINE_INPUTS = ("energy", "baselines", "windows")


@_metric("J", _BASELINE_INPUTS)
def energy_net(measured: Measured) -> Value:
    """E_net = E_total - B2 x T: above the idle power of the loaded model."""
    return _above_baseline(measured, "b2")


@_metric("J", _BASELINE_INPUTS)
def energy_attributed(measured: Measured) -> Value:
    """E_attrib = E_total - B0 x T: above the idle power of an empty GPU."""
    return _above_baseline(measured, "b0")


def _total_tokens(measured: Measured) -> int:
    return count_tokens_in(measured) + count_tokens_out(measured)


class _Share(NamedTuple):
    """What energy is divided by: suffix of the metric's name, words for one and for many, and how to count them."""

    suffix: str
    one: str
    many: str
    count: Callable[[Measured], int]


class _Kind(NamedTuple):
    """An energy that is divided: prefix of the metric's name, its symbol, inputs and function."""

    prefix: str
    symbol: str
    inputs: tuple[str, ...]
    energy: Callable[[Measured], Value]


_SHARES = (
    _Share("output_token", "output token", "output tokens", count_tokens_out),
    _Share("total_token", "prompt or output token", "tokens", _total_tokens),
    _Share("request", "answered request", "answered requests", lambda m: len(requests_answered(m))),
    _Share("prompt", "prompt submitted, answered or not", "prompts", lambda m: len(requests_counted(m))),
)
_KINDS = (
    _Kind("energy", "E_total", ("energy",), energy_total),
    _Kind("energy_net", "E_net", _BASELINE_INPUTS, energy_net),
    _Kind("energy_attributed", "E_attrib", _BASELINE_INPUTS, energy_attributed),
)


def _register_per(kind: _Kind, share: _Share) -> None:
    name, unit = f"{kind.prefix}_per_{share.suffix}", f"J/{share.suffix.replace('_', ' ')}"
    inputs = tuple(dict.fromkeys((*kind.inputs, *WORK_INPUTS)))

    @_metric(unit, inputs, name=name, meaning=f"{kind.symbol} per {share.one}.")
    def energy_per(measured: Measured) -> Value:
        return divided(kind.energy(measured), share.count(measured), share.many)


for _kind in _KINDS:
    for _share in _SHARES:
        _register_per(_kind, _share)


@_metric("token/J", ("energy", *WORK_INPUTS))
def tokens_per_joule(measured: Measured) -> Value:
    """Token efficiency: output tokens per joule of E_total."""
    return _inverse(energy_total(measured), count_tokens_out(measured))


def _inverse(energy: Value, count: float) -> Value:
    if energy.value <= 0:
        raise NotKnownError("no energy was measured in the windows")
    figure = count / energy.value
    return Value(figure, None if energy.u is None else figure * energy.u / energy.value, energy.note)


@_metric("W", ("energy", "windows"))
def power_mean(measured: Measured) -> Value:
    """E_total over the windows' duration: mean power of the allotted GPUs."""
    return divided(energy_total(measured), duration_s(measured), "seconds")


@_metric("kWh", ("energy",))
def energy_kwh(measured: Measured) -> Value:
    """E_total in kWh, the input of cost and CO2e."""
    return divided(energy_total(measured), J_PER_KWH, "kWh")


def _register_scope(scope: Scope, meaning: str) -> None:
    @_metric("J", ("energy",), name=f"energy_{scope}", meaning=meaning)
    def energy_scope(measured: Measured) -> Value:
        return _as_value(known(measured.energy_of(scope)))


_register_scope("gpu_series", "Integral of the power series of the allotted GPUs: the cross-check of the counter.")
_register_scope("gpu_not_allotted", "GPUs of the host that the run did not use; in no other figure.")
_register_scope("cpu", "CPU packages: RAPL where readable (measured), else codecarbon from TDP (estimated).")
_register_scope("ram", "Memory: RAPL dram where readable (measured), else codecarbon's constant (estimated).")

_SUMMED: tuple[Scope, ...] = ("gpu", "cpu", "ram")


def _sum_of(measured: Measured, with_estimates: bool) -> Value:
    parts = {scope: measured.energy_of(scope) for scope in _SUMMED}
    chosen = {
        scope: part
        for scope, part in parts.items()
        if isinstance(part, Energy) and (with_estimates or part.basis == "measured")
    }
    if not chosen:
        raise NotKnownError("no meter of any scope gave a figure")
    missing = [scope for scope in _SUMMED if scope not in chosen]
    note = "+".join(chosen) + (f", without {', '.join(missing)}" if missing else "")
    return Value(
        math.fsum(part.energy_j for part in chosen.values()),
        math.hypot(*(part.u_j for part in chosen.values())),
        note,
    )


@_metric("J", ("energy",))
def energy_sum_measured(measured: Measured) -> Value:
    """GPU, CPU and RAM as far as measured; the note says what is in it."""
    return _sum_of(measured, with_estimates=False)


@_metric("J", ("energy",))
def energy_sum_with_estimates(measured: Measured) -> Value:
    """GPU, CPU and RAM, estimates included; never a headline."""
    return _sum_of(measured, with_estimates=True)


@_metric("1", ("energy",))
def counter_series_difference(measured: Measured) -> Value:
    """(counter - integral) / counter; both may share one sensor."""
    counter, series = known(measured.energy_of("gpu")), known(measured.energy_of("gpu_series"))
    return divided(Value(counter.energy_j - series.energy_j), counter.energy_j, "energy")
