"""How values are written in a campaign file: durations, rates, shares, data types, times of the day, days, zones, cron.

Pure. Each type has its checked value and the pattern by which it is written; durations are seconds once read.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from lemctl.campaign.cron import read_cron
from lemctl.campaign.hours import DAYS, minutes, zone_of

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)")
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?/ ?(s|min|h)")
_PER_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
_MOST_PER_S = 1e6
#: Of one list: one for every hour of a week fits.
MOST_WINDOWS = 200
_LONGEST_S = 366 * 86400.0
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def seconds(value: Any) -> float:
    """`300s`, `30m`, `2h`, `1d`, `500ms` or 0 -> seconds; raises `ValueError`."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a duration with its unit, such as 300s, 30m, 2h or 1d")
    result = float(found[1]) * _UNIT_S[found[2]]
    if result > _LONGEST_S:
        raise ValueError("must be at most a year")
    return result


def _window(value: Any) -> float | None:
    return None if value == "one_pass" else _positive(seconds(value))


def _positive(value_s: float) -> float:
    if value_s <= 0:
        raise ValueError("must be longer than 0")
    return value_s


def _read_positive(value: Any) -> float:
    return _positive(seconds(value))


def _share(value: Any) -> float:
    """`2%` -> 0.02."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", value) if isinstance(value, str) else None
    if found is None or not 0 < float(found[1]) < 100:
        raise ValueError("must be a share above 0% and below 100%, such as 2%")
    return float(found[1]) / 100


def _rate(value: Any) -> float | None:
    """`4/s`, `90/min`, `600/h` -> a second."""
    if value is None:
        return None
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a rate with its unit, such as 4/s, 0.5/s or 90/min")
    rate_per_s = float(found[1]) / _PER_S[found[2]]
    if not 0 < rate_per_s <= _MOST_PER_S:
        raise ValueError(f"must be above 0 and at most {_MOST_PER_S:,.0f}/s")
    return rate_per_s


def _dtype(value: Any) -> Any:
    return _DTYPES.get(value, value) if isinstance(value, str) else value


_AS_TEXT = WithJsonSchema({"type": "string", "pattern": _DURATION.pattern, "examples": ["300s", "30m"]})
Duration = Annotated[float, BeforeValidator(seconds), _AS_TEXT]
Limit = Annotated[float, BeforeValidator(_read_positive), _AS_TEXT]
Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)? ?%$", "examples": ["2%"]}),
]
Window = Annotated[
    float | None,
    BeforeValidator(_window),
    WithJsonSchema({"anyOf": [{"const": "one_pass"}, {"type": "string", "pattern": _DURATION.pattern}]}),
]
Rate = Annotated[
    float | None,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": _RATE.pattern, "examples": ["4/s", "90/min"]}),
]
Dtype = Annotated[Literal["auto", "float32", "float16", "bfloat16"], BeforeValidator(_dtype)]
Text = Annotated[str, Field(min_length=1, max_length=500)]


def _time_of_day(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a time of the day such as 22:00")
    minutes(value)
    return value


def _zone(value: Any) -> Any:
    if isinstance(value, str):
        zone_of(value)
    return value


def _days(value: Any) -> list[str]:
    """`mon-fri`, `sat` or `[mon, wed]` -> days of the week, from Monday on."""
    if isinstance(value, str):
        first, _, last = value.partition("-")
        if first in DAYS and (last or first) in DAYS:
            start, count = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7 + 1
            return sorted((DAYS[(start + n) % 7] for n in range(count)), key=DAYS.index)
    if isinstance(value, list) and value and all(day in DAYS for day in value):
        return sorted(set(value), key=DAYS.index)
    raise ValueError("must be days such as [mon, tue] or mon-fri")


def one_window_or_some(value: Any) -> Any:
    """The form of `hours`: a mapping, or a list that is neither empty nor too long; raises `ValueError`."""
    if not isinstance(value, dict | list):
        raise ValueError('must be a window such as {from: "22:00", to: "07:00"}, or a list of windows')
    if isinstance(value, list) and not value:
        raise ValueError("must have at least one window; without the key runs may start at any time")
    if len(value) > MOST_WINDOWS:
        raise ValueError(f"must have at most {MOST_WINDOWS} windows")
    return value


def _cron(value: Any) -> Any:
    if isinstance(value, str):
        read_cron(value)
    return value


TimeOfDay = Annotated[
    str,
    BeforeValidator(_time_of_day),
    WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d$", "examples": ["22:00"]}),
]
_DAY = {"type": "string", "enum": list(DAYS)}
Days = Annotated[
    list[str],
    BeforeValidator(_days),
    WithJsonSchema({"anyOf": [{"type": "array", "items": _DAY, "minItems": 1}, {"type": "string"}]}),
]
Zone = Annotated[Text, BeforeValidator(_zone)]
Cron = Annotated[Text, BeforeValidator(_cron)]
