"""Which experiments nobody beats: the Pareto front of two figures, with what their intervals leave open. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Standing = Literal["front", "not resolved", "dominated"]


@dataclass(frozen=True, slots=True)
class Point:
    """An experiment's two means and the half-widths of their intervals (infinite where a single run has none)."""

    x: float
    y: float
    half_x: float = 0.0
    half_y: float = 0.0


def standings(points: Sequence[Point], *, x_is_cost: bool, y_is_cost: bool) -> list[Standing]:
    """How each point stands. `front`: no other mean is at least as good in both figures and better in one.
    `not resolved`: dominated by a mean, but by no point whose two intervals both lie wholly on the better side."""
    costs = [_as_costs(point, x_is_cost, y_is_cost) for point in points]
    on_front = _front([(x, y) for x, y, _, _ in costs])
    # A point is surely dominated where some point's worst corner still beats its best one.
    worst = sorted((x + half_x, y + half_y) for x, y, half_x, half_y in costs)
    lowest, best_y = [], float("inf")
    for x, y in worst:
        best_y = min(best_y, y)
        lowest.append((x, best_y))
    return [
        "front" if is_front else "dominated" if _is_beaten(lowest, x - half_x, y - half_y) else "not resolved"
        for is_front, (x, y, half_x, half_y) in zip(on_front, costs, strict=True)
    ]


def _as_costs(point: Point, x_is_cost: bool, y_is_cost: bool) -> tuple[float, float, float, float]:
    return point.x if x_is_cost else -point.x, point.y if y_is_cost else -point.y, point.half_x, point.half_y


def _front(costs: Sequence[tuple[float, float]]) -> list[bool]:
    found = [False] * len(costs)
    best_y = float("inf")
    last: tuple[float, float] | None = None
    for index in sorted(range(len(costs)), key=costs.__getitem__):
        if costs[index][1] < best_y or costs[index] == last:
            found[index] = True
            best_y, last = costs[index][1], costs[index]
    return found


def _is_beaten(lowest: Sequence[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a corner lies left of and below (x, y); `lowest` has, by growing x, the least y so far."""
    place = bisect_left(lowest, (x, float("-inf")))
    return place > 0 and lowest[place - 1][1] < y
