"""How long a workload's prompts are, and how many positions a model has, as far as the night's eve can tell. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from lem_runner.lengths import draw_lengths

#: The names that model families give to their number of positions.
_POSITIONS = ("max_position_embeddings", "n_positions")
#: Ways of rope that leave the number of positions as it is stated.
_UNSCALED = (None, "default", "llama3")


class Longest(NamedTuple):
    """Tokens that the longest prompt has at least, and the key of the campaign file that says so."""

    tokens: int
    key: str


def longest_stated(workload: Mapping[str, Any]) -> Longest | None:
    """What the campaign alone shows of a specified workload: stated, drawn from the seed, or filled up to. None where
    only the prompts know."""
    if (stated := workload["dataset"]["input_len"]) is not None:
        return Longest(stated, "workload.random.input_len")
    lengths = workload.get("lengths") or {}
    if "draw" in lengths:
        drawn = longest_drawn(lengths["draw"], workload["prompts"], workload["seed"])
        return Longest(drawn, "workload.lengths.draw")
    return Longest(lengths["pad"], "workload.lengths.pad") if "pad" in lengths else None


@functools.cache
def longest_drawn(draw: str, count: int, seed: int) -> int:
    """Of `count` lengths, as the preparation of the prompts draws them."""
    return max(draw_lengths(draw, count, seed))


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model with this configuration (as in `config.json`) takes, prompt and output together; None where
    it does not say, or where its rope is scaled, which engines read in ways of their own."""
    text = config.get("text_config")
    own = {**config, **text} if isinstance(text, Mapping) else config
    rope = own.get("rope_scaling") or own.get("rope_parameters") or {}
    if not isinstance(rope, Mapping) or rope.get("rope_type", rope.get("type")) not in _UNSCALED:
        return None
    stated = [own[name] for name in _POSITIONS if type(own.get(name)) is int and own[name] > 0]
    return min(stated, default=None)
