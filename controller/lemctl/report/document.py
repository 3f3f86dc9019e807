"""A report as one value: what the text, the CSV and the JSON are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lemctl.judge.drift import Drift
from lemctl.judge.factors import Factors
from lemctl.report.cells import Cell
from lemctl.report.comparison import Pair
from lemctl.report.lengths import LengthFit
from lemctl.store.queries import CampaignRow
from lemctl.store.read_results import ConfigurationFinding, Suspicion
from lemctl.store.read_status import FaultCount


@dataclass(frozen=True)
class Report:
    """A campaign's figures with everything that must stand beside them. `preset` None: the file names none."""

    campaign: CampaignRow
    preset: str | None
    surroundings: dict[str, Any]
    cells: Sequence[Cell]
    faults: Sequence[FaultCount]
    database: str
    include_suspect: bool
    targets_s: Mapping[str, float] | None = None
    """Latencies that goodput asks for, by their name."""
    comparisons: Sequence[Pair] = ()
    """Backend against backend, where nothing else differs."""
    work: Mapping[str, str] = field(default_factory=dict)
    """experiment -> letter: those of one letter did the same work. Empty where all did."""
    work_differences: Sequence[str] = ()
    factors: Factors | None = None
    """What a kWh costs, where that was given: `costs.with_costs` has been applied to the cells."""
    lengths: Sequence[LengthFit] = ()
    """What prompts and outputs cost, where the campaign varies both lengths."""
    drift: Drift | None = None
    """Of deep idle from the campaign's start to its end; None where it was not read at both."""
    suspicions: Sequence[Suspicion] = ()
    """Why results are SUSPECT."""
    configuration: Sequence[ConfigurationFinding] = ()
    """Parameters that an engine reported otherwise than they were handed over."""

    @property
    def is_simulated(self) -> bool:
        """Whether no engine ran: the figures are made up by the simulation."""
        return self.campaign.executor == "simulate"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "campaign": self.campaign.to_json(),
            "simulated": self.is_simulated,
            "preset": self.preset,
            "include_suspect": self.include_suspect,
            "targets_s": self.targets_s,
            "surroundings": self.surroundings,
            "experiments": [cell.to_json() for cell in self.cells],
            "absent": absent_reasons(self.cells),
            "comparisons": [pair.to_json() for pair in self.comparisons],
            "work": {"experiments": dict(self.work), "differences": list(self.work_differences)},
            "lengths": [fit.to_json() for fit in self.lengths],
            "factors": None if self.factors is None else asdict(self.factors),
            "drift": None if self.drift is None else {"shift": self.drift.shift, "uncertainty": self.drift.u},
            "suspicions": [asdict(suspicion) for suspicion in self.suspicions],
            "configuration": [asdict(finding) for finding in self.configuration],
            "failures": [fault.to_json() for fault in self.faults],
            "database": self.database,
        }


def absent_reasons(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """metric -> the distinct reasons why it is absent somewhere."""
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        for name, figure in cell.figures.items():
            if figure.reason is not None and figure.reason not in reasons.setdefault(name, []):
                reasons[name].append(figure.reason)
    return {name: found for name, found in reasons.items() if found}
