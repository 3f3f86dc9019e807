"""Lengths of prompts in tokens: cut, filled up, or drawn from a distribution. Pure functions of numbers and ids."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

#: name -> how many parameters it takes, and what a campaign file may say.
DRAWS = {
    "uniform": "uniform(LEAST, MOST)",
    "normal": "normal(MEAN, SD)",
    "lognormal": "lognormal(MEDIAN, SIGMA)",
    "mix": "mix(LENGTH: WEIGHT, ...)",
}
_CALL = re.compile(r"\s*([a-z]+)\s*\(([^()]*)\)\s*")
MOST_TOKENS = 10_000_000


class LengthError(ValueError):
    """A distribution that cannot be drawn from, or a length that a prompt cannot have."""


@dataclass(frozen=True)
class Lengths:
    """`truncate`: at most so many tokens. `pad`: at least so many, filled up with the prompt's own tokens from its
    beginning. `draw`: each prompt cut or filled to a length of its own, drawn from this distribution. `keep`: which end
    of a cut prompt stays."""

    truncate: int | None = None
    pad: int | None = None
    draw: str | None = None
    keep: Literal["start", "end"] = "start"

    def of(self, count: int, seed: int) -> list[tuple[int, int | None]]:
        """(least, most or None) for each of `count` prompts."""
        if self.draw is None:
            return [(self.pad or 0, self.truncate)] * count
        return [(length, length) for length in draw_lengths(self.draw, count, seed)]


def draw_lengths(text: str, count: int, seed: int) -> list[int]:
    """`count` lengths of at least 1 from `uniform(64, 512)`, `normal(512, 128)`, `lognormal(256, 0.5)` or
    `mix(128: 0.7, 2048: 0.3)`, the same for the same seed. Raises `LengthError`."""
    draw = _distribution(text)
    source = random.Random(f"lengths:{seed}")  # noqa: S311 - a reproducible choice
    return [min(max(1, draw(source)), MOST_TOKENS) for _ in range(count)]


def fit(
    body: Sequence[int], frame: tuple[Sequence[int], Sequence[int]], least: int, most: int | None, keep: str
) -> list[int]:
    """The ids of a prompt within its frame (what a template or tokenizer puts before and after), with the body cut or
    repeated so that the whole has `least` to `most` tokens. Raises `LengthError` where the frame alone is longer."""
    before, after = frame
    framed = len(before) + len(after)
    if most is not None and framed >= most:
        raise LengthError(f"{most} tokens are asked for, and the template alone has {framed}")
    fitted = list(body)
    if fitted and framed + len(fitted) < least:
        wanted = least - framed
        fitted = (fitted * (wanted // len(fitted) + 1))[:wanted]
    if most is not None and framed + len(fitted) > most:
        room = most - framed
        fitted = fitted[:room] if keep == "start" else fitted[-room:]
    return [*before, *fitted, *after]


def frame_of(whole: Sequence[int], body: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """What `whole` has before and after `body`; None where it does not hold it."""
    extra = len(whole) - len(body)
    for start in range(extra + 1):
        if list(whole[start : start + len(body)]) == list(body):
            return list(whole[:start]), list(whole[start + len(body) :])
    return None


def _distribution(text: str) -> Callable[[random.Random], int]:
    found = _CALL.fullmatch(text)
    name = found[1] if found else ""
    if found is None or name not in DRAWS:
        raise LengthError(f"{text!r} is no distribution of lengths; there are {', '.join(DRAWS.values())}")
    try:
        return _mix(found[2]) if name == "mix" else _two(name, found[2])
    except (ValueError, ZeroDivisionError) as error:
        raise LengthError(f"{text!r}: {DRAWS[name]} is needed, with numbers above 0") from error


def _two(name: str, arguments: str) -> Callable[[random.Random], int]:
    first, second = (float(part) for part in arguments.split(","))
    if not (0 < first <= MOST_TOKENS and 0 < second <= MOST_TOKENS) or (name == "uniform" and first > second):
        raise ValueError(arguments)
    if name == "uniform":
        return lambda source: source.randint(round(first), round(second))
    if name == "normal":
        return lambda source: round(source.gauss(first, second))
    # The factor is held within a range that no overflow reaches; the result is limited anyway.
    return lambda source: round(first * 2.718281828459045 ** min(50.0, source.gauss(0.0, second)))


def _mix(arguments: str) -> Callable[[random.Random], int]:
    pairs = [part.split(":") for part in arguments.split(",")]
    lengths, weights = [int(pair[0]) for pair in pairs], [float(pair[1]) for pair in pairs if len(pair) == 2]
    if len(weights) != len(lengths) or min(lengths) < 1 or min(weights) <= 0:
        raise ValueError(arguments)
    return lambda source: source.choices(lengths, weights)[0]
