"""How a figure is written: three significant digits or more where they mean something, `—` where it is absent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ABSENT = "—"
_LEADING_NUMBER = re.compile(r"\d+(\.\d+)?")


def number(value: float | None) -> str:
    """`0.00412`, `12.3`, `812`, `12,345`: four significant digits at most, no exponent in the usual range."""
    if value is None:
        return ABSENT
    magnitude = abs(value)
    if magnitude == 0:
        return "0"
    if value == int(value) and magnitude < 1e7:
        return f"{value:,.0f}"
    if magnitude >= 1e7 or magnitude < 1e-4:
        return f"{value:.3g}"
    if magnitude >= 1000:
        return f"{value:,.0f}"
    digits = 3 if magnitude < 1 else 2 if magnitude < 10 else 1
    return f"{value:.{digits}f}" if magnitude >= 0.1 else f"{value:.3g}"


def milliseconds(value_s: float | None) -> str:
    """A latency in ms, `12.3 ms` below a second, `1.23 s` above."""
    if value_s is None:
        return ABSENT
    return f"{value_s:.2f} s" if value_s >= 1 else f"{value_s * 1e3:.3g} ms"


def axis_names(keys: list[str]) -> dict[str, str]:
    """Each dotted key's shortest ending that is not another one's: `workload.load.batch_size` -> `batch_size`."""
    names = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        names[key] = next(
            ending
            for ending in endings
            if ending == key or sum(other == ending or other.endswith("." + ending) for other in keys) == 1
        )
    return names


def axis_value(value: Any) -> str:
    """A swept value in a cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={axis_value(inner)}" for key, inner in value.items())
    return str(value)


def axes_line(axes: Mapping[str, Any]) -> str:
    """`backend=pytorch batch_size=8`, or `-` where nothing is swept."""
    names = axis_names(list(axes))
    return " ".join(f"{names[key]}={axis_value(value)}" for key, value in axes.items()) or "-"


def sort_key(value: Any) -> tuple[int, float, str]:
    """Numbers by size, before words; words that begin with a number (`4/s`) by that."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, float(value), ""
    text = str(value)
    number = _LEADING_NUMBER.match(text)
    return 1, float(number[0]) if number else 0.0, text
