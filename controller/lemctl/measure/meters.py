"""The energy meters lemctl knows: what each covers, how finely it resolves, and whether it measures or estimates.

A meter is added here, with whatever reads it, and nowhere else. Which of them ran, and on what, is stored with each
attempt; figures of different bases are never added up silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from lemctl.measure.cpu import RaplUnavailableError, find_zones

MeterScope = Literal["gpu", "cpu", "ram"]
Basis = Literal["measured", "estimated"]


@dataclass(frozen=True, slots=True)
class Meter:
    """One kind of meter. `find_obstacle` says why it cannot run on this host, None where it can."""

    name: str
    scopes: tuple[MeterScope, ...]
    basis: Basis
    resolution: str
    meaning: str
    find_obstacle: Callable[[], str | None]


def _nvml_obstacle() -> str | None:
    from lemctl.measure.gpu import NvmlProbe
    from lemctl.measure.readings import NvmlUnavailableError

    try:
        probe = NvmlProbe()
    except NvmlUnavailableError as error:
        return str(error)
    try:
        return None if probe.gpus() else "no GPU"
    except NvmlUnavailableError as error:
        return str(error)
    finally:
        probe.close()


def _rapl_obstacle() -> str | None:
    try:
        find_zones()
    except RaplUnavailableError as error:
        return str(error)
    return None


def _codecarbon_obstacle() -> str | None:
    return None if find_spec("codecarbon") else "codecarbon is not installed: pip install 'lemctl[carbon]'"


METERS: Mapping[str, Meter] = {
    meter.name: meter
    for meter in (
        Meter(
            "nvml-counter",
            ("gpu",),
            "measured",
            "ticks of about 0.1 s, interpolated at the window's edges",
            "Cumulative energy of the board since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption).",
            _nvml_obstacle,
        ),
        Meter(
            "nvml-series",
            ("gpu",),
            "measured",
            "one power reading per 0.1 s",
            "Integral of the board's power (NVML field values): the cross-check of the counter.",
            _nvml_obstacle,
        ),
        Meter(
            "rapl",
            ("cpu", "ram"),
            "measured",
            "about 1 ms, 61 uJ or finer",
            "Energy counters of the CPU packages and, where there are any, of the memory (Linux powercap).",
            _rapl_obstacle,
        ),
        Meter(
            "codecarbon",
            ("cpu", "ram"),
            "estimated",
            "one estimate per second",
            "codecarbon offline: CPU from its TDP where RAPL cannot be read, memory a constant per module.",
            _codecarbon_obstacle,
        ),
    )
}


def find_obstacles() -> dict[str, str | None]:
    """Every meter by name: None where it can run on this host, else why not."""
    return {name: meter.find_obstacle() for name, meter in METERS.items()}
