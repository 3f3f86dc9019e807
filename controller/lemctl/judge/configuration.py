"""Does the engine run with what it was given? What was resolved against what it reports, name by name. Pure.

Only what both sides tell is compared. A value that leaves the choice to the engine (`auto`, None) is met by any choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lemctl.judge.verdict import Finding

#: A parameter whose name has one of these parts changes what is computed, or how much of it: its figure stands for
#: another experiment than the one asked for.
_GRAVE = (
    "dtype", "quant", "parallel", "attn", "attention", "cach", "reuse", "specul", "draft", "lora", "adapter", "batch",
    "seqs", "tokens", "len", "window", "compile", "eager", "graph", "backend", "precision", "deterministic", "load_in",
    "device", "threads",
)  # fmt: skip
#: A name behind those of a library; paths, versions and repositories are none.
_PREFIXED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_LEFT_OPEN = (None, "auto")
#: Other names of one dtype, as torch and the engines take them.
_ALIASES = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "float": "float32", "fp32": "float32"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One parameter that the engine reports otherwise than it was handed over."""

    name: str
    given: Any
    found: Any
    is_grave: bool

    @property
    def text(self) -> str:
        """`engine.dtype: float16 was given, the engine reports bfloat16`."""
        return f"{self.name}: {_word(self.given)} was given, the engine reports {_word(self.found)}"


def compared(resolved: Mapping[str, Any], reported: Mapping[str, Any] | None) -> list[Difference]:
    """Every difference, in the order of what was given; none where the engine reports nothing.

    Both hold `engine` and `sampling`. What every request draws with is always grave.
    """
    found = []
    for part in ("engine", "sampling"):
        told = (reported or {}).get(part) or {}
        for name, given, seen in _pairs(resolved.get(part) or {}, told):
            if not _agree(given, seen):
                is_grave = part == "sampling" or any(mark in name for mark in _GRAVE)
                found.append(Difference(f"{part}.{name}", given, seen, is_grave))
    return found


def suspicions(differences: Sequence[Difference]) -> list[Finding]:
    """The differences that speak against the figures."""
    return [Finding("configuration_differs", "SUSPECT", each.text) for each in differences if each.is_grave]


def _pairs(given: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name, value in given.items():
        if name not in told:
            continue
        if isinstance(value, Mapping) and isinstance(told[name], Mapping):
            yield from ((f"{name}.{key}", one, other) for key, one, other in _pairs(value, told[name]))
        else:
            yield name, value, told[name]


def _agree(given: Any, seen: Any) -> bool:
    if given in _LEFT_OPEN:
        return True
    if isinstance(given, (int, float)) and isinstance(seen, (int, float)):
        return bool(given == seen)
    if isinstance(given, (list, tuple)) and isinstance(seen, (list, tuple)):
        return len(given) == len(seen) and all(_agree(one, other) for one, other in zip(given, seen, strict=True))
    return bool(_name(given) == _name(seen))


def _name(value: Any) -> Any:
    """A word without the library's own prefix or case: `torch.float16` and `half`, `QuantAlgo.FP8` and `fp8`."""
    if not isinstance(value, str):
        return value
    word = (value.rpartition(".")[2] if _PREFIXED.fullmatch(value) else value).lower()
    return _ALIASES.get(word, word)


def _word(value: Any) -> str:
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
