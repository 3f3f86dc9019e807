"""Peak rates of GPUs, for MFU and MBU: dense (no structured sparsity), per precision, from NVIDIA's published tables.

Tensor-core figures accumulate in FP32 where the table distinguishes. FP32 is that of the CUDA cores. A GPU that is not
here has no peak, and its MFU and MBU are absent: a guessed peak would make a guessed figure. Clocks boosted or locked
elsewhere than the table's boost clock change the real peak; the table's stays the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
TERA = 1e12
GIGA = 1e9
#: How engines and configs spell a precision.
PRECISION_NAMES: Mapping[str, Precision] = {
    "float32": "fp32",
    "tf32": "tf32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8",
    "fp8": "fp8",
    "int8": "int8",
    "nvfp4": "fp4",
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
    "fp4": "fp4",
}


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peak operations per second by precision, memory bandwidth in bytes/s, and the document they are from."""

    flops_per_s: Mapping[Precision, float]
    bytes_per_s: float
    source: str


def _peaks(source: str, gb_per_s: float, **tera: float) -> Peaks:
    half = tera.pop("half", None)
    if half is not None:
        tera |= {"fp16": half, "bf16": half}
    rates: dict[Precision, float] = {PRECISION_NAMES[name]: rate * TERA for name, rate in tera.items()}
    return Peaks(rates, gb_per_s * GIGA, source)


_H100 = "NVIDIA H100 datasheet"
_H200 = "NVIDIA H200 datasheet"
_A100 = "NVIDIA A100 datasheet"
_AMPERE = "NVIDIA Ampere GA102 whitepaper"
_ADA = "NVIDIA Ada GPU architecture whitepaper"
_H100_SXM = {"fp32": 67.0, "tf32": 494.7, "half": 989.4, "fp8": 1978.9, "int8": 1978.9}
_A100_RATES = {"fp32": 19.5, "tf32": 156.0, "half": 312.0, "int8": 624.0}

#: Keyed by the name that NVML gives, without the leading vendor.
PEAKS: Mapping[str, Peaks] = {
    "H100 80GB HBM3": _peaks(_H100, 3350, **_H100_SXM),
    "H100 PCIe": _peaks(_H100, 2000, fp32=51, tf32=378, half=756, fp8=1513, int8=1513),
    "H100 NVL": _peaks(_H100, 3900, fp32=60, tf32=417.5, half=835.5, fp8=1671, int8=1671),
    "H200": _peaks(_H200, 4800, **_H100_SXM),
    "H200 NVL": _peaks(_H200, 4800, fp32=60, tf32=417.5, half=835.5, fp8=1671, int8=1671),
    "GH200 480GB": _peaks("NVIDIA GH200 datasheet", 4000, **_H100_SXM),
    "GH200 144G HBM3e": _peaks("NVIDIA GH200 datasheet", 4900, **_H100_SXM),
    "B200": _peaks("NVIDIA DGX B200 datasheet", 8000, half=2250, fp8=4500, fp4=9000),
    "A100-SXM4-80GB": _peaks(_A100, 2039, **_A100_RATES),
    "A100 80GB PCIe": _peaks(_A100, 1935, **_A100_RATES),
    "A100-SXM4-40GB": _peaks(_A100, 1555, **_A100_RATES),
    "A100-PCIE-40GB": _peaks(_A100, 1555, **_A100_RATES),
    "A40": _peaks("NVIDIA A40 datasheet", 696, fp32=37.4, tf32=74.8, half=149.7, int8=299.3),
    "A30": _peaks("NVIDIA A30 datasheet", 933, fp32=10.3, tf32=82, half=165, int8=330),
    "A10": _peaks("NVIDIA A10 datasheet", 600, fp32=31.2, tf32=62.5, half=125, int8=250),
    "L40S": _peaks("NVIDIA L40S datasheet", 864, fp32=91.6, tf32=183, half=362, fp8=733, int8=733),
    "L40": _peaks("NVIDIA L40 datasheet", 864, fp32=90.5, tf32=90.5, half=181, fp8=362, int8=362),
    "L4": _peaks("NVIDIA L4 datasheet", 300, fp32=30.3, tf32=60, half=121, fp8=242.5, int8=242.5),
    "RTX A6000": _peaks(_AMPERE, 768, fp32=38.7, tf32=77.4, half=154.8, int8=309.7),
    "RTX 6000 Ada Generation": _peaks(_ADA, 960, fp32=91.1, tf32=182.1, half=364.2, fp8=728.5, int8=728.5),
    "GeForce RTX 3090": _peaks(_AMPERE, 936, fp32=35.6, tf32=35.6, half=71, int8=284),
    "GeForce RTX 4090": _peaks(_ADA, 1008, fp32=82.6, tf32=82.6, half=165.2, fp8=330.3, int8=660.6),
    "GeForce RTX 5090": _peaks("NVIDIA RTX Blackwell whitepaper", 1792, fp32=104.8, half=209.5, fp8=419, fp4=1676),
    "Tesla V100-SXM2-16GB": _peaks("NVIDIA V100 datasheet", 900, fp32=15.7, fp16=125),
    "Tesla V100-SXM2-32GB": _peaks("NVIDIA V100 datasheet", 900, fp32=15.7, fp16=125),
    "Tesla T4": _peaks("NVIDIA T4 datasheet", 320, fp32=8.1, fp16=65, int8=130),
}


def find_peaks(gpu_name: str) -> Peaks | None:
    """The peaks of a GPU by its NVML name, None for one that is not in the table or a MIG slice of one."""
    if "MIG" in gpu_name.split():
        return None
    return PEAKS.get(gpu_name.removeprefix("NVIDIA ").strip())


def peak_flops_per_s(gpu_name: str, precision: str) -> float | None:
    """Dense peak in FLOP/s of the precision used (`float16`, `bf16`, ...), None where GPU or precision is unknown."""
    peaks = find_peaks(gpu_name)
    label = PRECISION_NAMES.get(precision.removeprefix("torch."))
    return None if peaks is None or label is None else peaks.flops_per_s.get(label)
