"""Which cycles of a campaign stand out: outlier flags for the report. A flag is information, nothing is dropped."""

from __future__ import annotations

from collections.abc import Mapping

from lemctl.judge.outliers import find_outliers


def flagged_cycles(values: Mapping[tuple[str, int], float]) -> dict[str, tuple[int, ...]]:
    """experiment -> its cycles whose value of one metric the generalised ESD test flags; others are left out.

    `values` are those of a whole campaign by (experiment, cycle), all experiments at once: the block is the cycle, and
    a few repeats of one experiment alone cannot tell an outlier.
    """
    flagged: dict[str, tuple[int, ...]] = {}
    for experiment, cycle in sorted(find_outliers(values)):
        flagged[experiment] = (*flagged.get(experiment, ()), cycle)
    return flagged
