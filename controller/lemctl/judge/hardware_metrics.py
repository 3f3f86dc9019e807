"""How hard the hardware was used: FLOPs, MFU, MBU, memory, utilisation, clocks."""

from __future__ import annotations

import statistics

from lemctl.judge.measured import Absent, Measured
from lemctl.judge.metric import MetricRegistry, NotKnownError, Value, divided, known
from lemctl.judge.speed_metrics import inter_token_s
from lemctl.judge.work import WORK_INPUTS, count_tokens_out, duration_s, requests_answered

HARDWARE_METRICS = MetricRegistry()
_metric = HARDWARE_METRICS.metric


@_metric("FLOP", ("flops",))
def flops(measured: Measured) -> Value:
    """Operations of the counted work, 2 per multiply-add; the note names the method."""
    counted = known(measured.flops)
    return Value(counted.flops, note=counted.method)


@_metric("FLOP/token", ("flops", *WORK_INPUTS))
def flops_per_output_token(measured: Measured) -> Value:
    """FLOPs over output tokens, prefill included."""
    return divided(flops(measured), count_tokens_out(measured), "output tokens")


@_metric("FLOP/s", ("flops", "windows"))
def flops_per_s(measured: Measured) -> Value:
    """FLOPs over the windows' duration: the achieved rate."""
    return divided(flops(measured), duration_s(measured), "seconds")


@_metric("FLOP/J", ("flops", "energy"))
def flops_per_joule(measured: Measured) -> Value:
    """FLOPs per joule of E_total."""
    energy = known(measured.energy_of("gpu"))
    figure = divided(flops(measured), energy.energy_j, "energy")
    return Value(figure.value, figure.value * energy.u_j / energy.energy_j, figure.note)


@_metric("1", ("flops", "windows", "peak_flops_per_s"))
def mfu(measured: Measured) -> Value:
    """Model FLOPs utilisation: FLOP/s over the dense peak of the precision used (PaLM, arXiv 2204.02311, app. B)."""
    return divided(flops_per_s(measured), known(measured.peak_flops_per_s), "peak")


@_metric("1", ("decode_bytes_per_step", "peak_bytes_per_s", *WORK_INPUTS))
def mbu(measured: Measured) -> Value:
    """Memory bandwidth utilisation (Databricks): bytes read per decode step / median ITL / peak bandwidth."""
    step_bytes, peak = known(measured.decode_bytes_per_step), known(measured.peak_bytes_per_s)
    gaps_s = [gap for gap in inter_token_s(requests_answered(measured)) if gap > 0]
    if not gaps_s:
        raise NotKnownError("no request in the windows has two output tokens")
    return divided(Value(step_bytes / statistics.median(gaps_s)), peak, "bandwidth")


def _register_reading(name: str, unit: str, field: str, meaning: str) -> None:
    @_metric(unit, (field,), name=name, meaning=meaning)
    def reading(measured: Measured) -> Value:
        figure: float | Absent = getattr(measured, field)
        return Value(known(figure))


_register_reading(
    "peak_memory",
    "byte",
    "peak_memory_bytes",
    "Highest memory in use: of the GPUs during the windows, summed (NVML); without GPUs the runner's own peak.",
)
_register_reading("gpu_utilisation", "1", "gpu_utilisation", "Share of time with a kernel running (NVML): not FLOPs.")
_register_reading("memory_utilisation", "1", "memory_utilisation", "Share of time with memory being accessed (NVML).")
_register_reading("sm_clock", "MHz", "sm_clock_mhz", "Mean SM clock in the windows.")
_register_reading(
    "power_cap_share", "1", "power_cap_share", "Share of the windows at the power cap: normal at full load."
)
_register_reading("temperature", "C", "temperature_c", "Mean core temperature in the windows.")
_register_reading(
    "kv_cache_use", "1", "kv_cache_use", "Highest share of the KV cache in use, where the engine tells it."
)
