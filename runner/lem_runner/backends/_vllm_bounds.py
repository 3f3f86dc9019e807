"""Which numbers vLLM's engine arguments and sampling parameters can be, as keywords of `Parameter`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any, TypedDict, cast


class Bounds(TypedDict, total=False):
    """The limits of a number; one that is not there is none."""

    minimum: float
    exclusive_minimum: float
    maximum: float
    exclusive_maximum: float


#: Stricter than the library's fields, or where these state nothing.
_OWN_ENGINE: dict[str, Bounds] = {
    "max_model_len": {"minimum": 1},
    "kv_cache_memory_bytes": {"minimum": 1},
}
#: What `SamplingParams` checks in its code (vllm/sampling_params.py, `_verify_args`).
SAMPLING: dict[str, Bounds] = {
    "temperature": {"minimum": 0, "maximum": 2},
    "top_k": {"minimum": -1},
    "top_p": {"exclusive_minimum": 0, "maximum": 1},
    "min_p": {"minimum": 0, "maximum": 1},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "repetition_penalty": {"exclusive_minimum": 0},
}
#: As the library's fields call them.
_KEYWORDS = {"ge": "minimum", "gt": "exclusive_minimum", "le": "maximum", "lt": "exclusive_maximum"}
#: Its fields are keys of one argument, some with the names of other arguments.
_NOT_ARGUMENTS = ("SpeculativeConfig",)


@cache
def engine() -> dict[str, Bounds]:
    """What the fields of the installed config classes state, by the argument that fills them, with ours over it."""
    return {**{name: _stated(field) for name, field in _fields()}, **_OWN_ENGINE}


def _fields() -> Iterator[tuple[str, Any]]:
    """Name and pydantic's description of every field of every config class."""
    import vllm.config

    for kind in vars(vllm.config).values():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__ not in _NOT_ARGUMENTS:
            yield from getattr(kind, "__pydantic_fields__", {}).items()


def _stated(field: Any) -> Bounds:
    found = {
        keyword: getattr(each, short)
        for each in field.metadata
        for short, keyword in _KEYWORDS.items()
        if getattr(each, short, None) is not None
    }
    return cast("Bounds", found)
