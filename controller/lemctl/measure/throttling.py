"""How much of a window a GPU was slowed down, and by what. Pure.

Bits of NVML's clocks event reasons: the power cap is normal at full load and only reported; the others are faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lemctl.measure.readings import GpuSample

POWER_CAP = 0x4
HW_SLOWDOWN = 0x8
SW_THERMAL = 0x20
HW_THERMAL = 0x40
POWER_BRAKE = 0x80
_NAMES = {HW_SLOWDOWN: "hardware slowdown", SW_THERMAL: "software thermal", HW_THERMAL: "hardware thermal"}
_BRAKE = "power brake"


@dataclass(frozen=True, slots=True)
class Throttling:
    """Shares of the window, 0 to 1, None where neither counters nor bits were to be had."""

    power_cap_share: float | None
    thermal_share: float | None
    power_brake_share: float | None
    reasons: tuple[str, ...] = ()


def find_throttling(times_ns: Sequence[int], samples: Sequence[GpuSample]) -> Throttling:
    """Of the samples of a window (its edges included): cumulative counters where there are any, else shares of bits.

    The thermal share is the larger of both kinds of evidence: the counter knows of slowdowns between samples, the bits
    of kinds that the counter does not count.
    """
    bits = [sample.event_reasons for sample in samples if sample.event_reasons is not None]
    span_ns = times_ns[-1] - times_ns[0] if len(times_ns) > 1 else 0
    power = _counter_share([sample.policy_power_ns for sample in samples], span_ns)
    thermal = _counter_share([sample.policy_thermal_ns for sample in samples], span_ns)
    slowed = [value for value in bits if _is_thermal(value)]
    by_bits = len(slowed) / len(bits) if bits else None
    known = [share for share in (thermal, by_bits) if share is not None]
    return Throttling(
        power_cap_share=power if power is not None else _bit_share(bits, POWER_CAP),
        thermal_share=max(known) if known else None,
        power_brake_share=_bit_share(bits, POWER_BRAKE),
        reasons=tuple(name for bit, name in _NAMES.items() if any(value & bit for value in slowed)),
    )


def slowed_by(event_reasons: int) -> tuple[str, ...]:
    """What slows a GPU down at the moment of one reading, in words; the power cap, being normal, is none of it."""
    names = [name for bit, name in _NAMES.items() if event_reasons & bit]
    return (*names, _BRAKE) if event_reasons & POWER_BRAKE else tuple(names)


def _is_thermal(value: int) -> bool:
    # The hardware-slowdown bit is also set along with the power brake, which is counted on its own.
    return bool(value & (SW_THERMAL | HW_THERMAL)) or bool(value & HW_SLOWDOWN and not value & POWER_BRAKE)


def _bit_share(bits: Sequence[int], bit: int) -> float | None:
    return sum(bool(value & bit) for value in bits) / len(bits) if bits else None


def _counter_share(values: Sequence[int | None], span_ns: int) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 2 or span_ns <= 0:
        return None
    return max(0.0, min(1.0, (known[-1] - known[0]) / span_ns))
