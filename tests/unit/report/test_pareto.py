"""The front is what nobody beats, and intervals decide what is certain."""

from __future__ import annotations

import random

from lemctl.report.pareto import Point, standings


def test_front_of_energy_against_throughput() -> None:
    points = [Point(1.0, 10.0), Point(2.0, 20.0), Point(2.5, 15.0), Point(0.9, 9.0), Point(1.05, 9.5)]
    assert standings(points, x_is_cost=True, y_is_cost=False) == ["front", "front", "dominated", "front", "dominated"]


def test_what_lies_within_the_intervals_is_not_resolved() -> None:
    wide, near = Point(1.0, 10.0, 0.2, 1.0), Point(1.1, 9.8, 0.2, 1.0)
    far = Point(3.0, 5.0, 0.2, 1.0)
    assert standings([wide, near, far], x_is_cost=True, y_is_cost=False) == ["front", "not resolved", "dominated"]


def test_equal_points_stand_together() -> None:
    assert standings([Point(1.0, 1.0), Point(1.0, 1.0)], x_is_cost=True, y_is_cost=True) == ["front", "front"]


def test_the_front_is_that_of_looking_at_every_pair() -> None:
    draw = random.Random(5)
    points = [Point(draw.randint(0, 30), draw.randint(0, 30), draw.random() * 3, draw.random() * 3) for _ in range(200)]
    found = standings(points, x_is_cost=True, y_is_cost=True)
    for p, standing in zip(points, found, strict=True):
        beaten = any((q.x <= p.x and q.y <= p.y) and (q.x < p.x or q.y < p.y) for q in points)
        surely = any(q.x + q.half_x < p.x - p.half_x and q.y + q.half_y < p.y - p.half_y for q in points)
        assert standing == ("dominated" if surely else "not resolved" if beaten else "front")
