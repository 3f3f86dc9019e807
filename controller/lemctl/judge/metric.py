"""What a metric is, and how one is added: a decorated function of `Measured` whose docstring is its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lemctl.judge.measured import Absent, Measured

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Value:
    """A metric's figure in its unit. `u` is the standard uncertainty from the meters, None where none is claimed.

    `note` says what a reader must know beside the figure: its method, a flag such as "not resolved".
    """

    value: float
    u: float | None = None
    note: str | None = None


class NotKnownError(Exception):
    """Raised inside a metric's function where an input is absent; `Metric.evaluate` turns it into `Absent`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: name, unit, the `Measured` fields it reads, its function, and one line of meaning with its source."""

    name: str
    unit: str
    inputs: tuple[str, ...]
    function: Callable[[Measured], Value]
    meaning: str

    def evaluate(self, measured: Measured) -> Value | Absent:
        """The figure, or why there is none."""
        try:
            return self.function(measured)
        except NotKnownError as reason:
            return Absent(str(reason))


class MetricRegistry(dict[str, Metric]):
    """name -> Metric, in the order in which they are documented."""

    def metric(
        self, unit: str, inputs: tuple[str, ...], *, name: str | None = None, meaning: str | None = None
    ) -> Callable[[Callable[[Measured], Value]], Callable[[Measured], Value]]:
        """Register the decorated function; its own name and docstring serve where none are given.

        Raises ValueError for a name that is taken or a metric without a meaning.
        """

        def register(function: Callable[[Measured], Value]) -> Callable[[Measured], Value]:
            key, line = name or function.__name__, meaning or function.__doc__
            if key in self or not line:
                raise ValueError(f"metric {key} is registered twice or has no meaning")
            self[key] = Metric(key, unit, inputs, function, line)
            return function

        return register


def known(figure: T | Absent) -> T:
    """The figure itself; an absent one ends the metric with its reason."""
    if isinstance(figure, Absent):
        raise NotKnownError(figure.reason)
    return figure


def divided(figure: Value, by: float, what: str) -> Value:
    """`figure` per `by`, its uncertainty and note carried along; ends the metric where `by` is 0."""
    if by == 0:
        raise NotKnownError(f"no {what} in the windows")
    return Value(figure.value / by, None if figure.u is None else figure.u / abs(by), figure.note)
