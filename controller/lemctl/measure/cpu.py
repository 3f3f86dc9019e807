"""Energy of CPU packages and memory: RAPL through /sys/class/powercap, where it may be read.

RAPL counts microjoules and wraps around; on AMD and Intel since Zen and Sandy Bridge. Many distributions let only root
read it (CVE-2020-8694), and virtual machines have none: then there is no reading and a reason, never a 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RaplScope = Literal["cpu", "ram"]
POWERCAP = Path("/sys/class/powercap")
UJ_PER_J = 1e6


class RaplUnavailableError(Exception):
    """RAPL cannot be read on this host; the message says why."""


@dataclass(frozen=True, slots=True)
class RaplZone:
    """One counter: a CPU package, or the memory behind one."""

    path: Path
    name: str
    scope: RaplScope
    wraps_at_uj: int


def find_zones(powercap: Path = POWERCAP) -> list[RaplZone]:
    """All package and dram zones. Raises RaplUnavailableError where there is none or none may be read."""
    zones = []
    for folder in sorted(powercap.glob("*rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
            scope: RaplScope | None = "cpu" if name.startswith("package") else "ram" if name == "dram" else None
            # intel-rapl-mmio shows the same package a second time.
            if scope is None or "mmio" in folder.name:
                continue
            int((folder / "energy_uj").read_text())
            zones.append(RaplZone(folder, name, scope, int((folder / "max_energy_range_uj").read_text())))
        except PermissionError as error:
            raise RaplUnavailableError(f"{folder}/energy_uj may not be read: make it readable for this user") from error
        except (OSError, ValueError):
            continue
    if not zones:
        raise RaplUnavailableError(f"no RAPL zone under {powercap}")
    return zones


def read_zones(zones: list[RaplZone]) -> dict[Path, int]:
    """The counters now, in microjoules. Raises RaplUnavailableError where one has become unreadable."""
    try:
        return {zone.path: int((zone.path / "energy_uj").read_text()) for zone in zones}
    except (OSError, ValueError) as error:
        raise RaplUnavailableError(f"RAPL can no longer be read: {error}") from error


def energy_between_j(
    zones: list[RaplZone], begin_uj: Mapping[Path, int], end_uj: Mapping[Path, int]
) -> dict[RaplScope, float]:
    """Energy by scope in J between two readings less than one wrap apart (about an hour at 200 W on Intel)."""
    energies: dict[RaplScope, float] = {}
    for zone in zones:
        gained_uj = end_uj[zone.path] - begin_uj[zone.path]
        if gained_uj < 0:
            gained_uj += zone.wraps_at_uj
        energies[zone.scope] = energies.get(zone.scope, 0.0) + gained_uj / UJ_PER_J
    return energies
