"""Secrets out of texts that are kept or shown: the values that are known first, then whatever looks like one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

MARK = "***"
#: Environment variables whose values are secrets, and prefixes of such names.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
ADDRESS_PREFIX = "LEM_NOTIFY"
#: Shorter pieces are words that texts hold by chance.
SHORTEST = 6

_PATTERNS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), MARK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {MARK}"),
    (
        re.compile(r"(?i)\b(token|api[_-]?key|passwd|password|secret)(['\"]?\s*[=:]\s*['\"]?)[^\s,;&'\"]+"),
        rf"\1\2{MARK}",
    ),
    # user:password@ in any address
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@]+@"), rf"\1{MARK}@"),
)


def secret_values(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What this process knows to be secret: tokens, and addresses with each of their parts."""
    known = os.environ if environment is None else environment
    values = [known[name] for name in TOKEN_VARIABLES if known.get(name)]
    for name, value in known.items():
        if name.startswith(ADDRESS_PREFIX):
            values += address_parts(value)
    return tuple(values)


def address_parts(text: str) -> list[str]:
    """Addresses, and what of each could give it away: user, password, host, path, the values of its query."""
    parts = []
    for address in text.split():
        rest = address.partition("://")[2] or address
        found = [address, *(piece for piece in re.split(r"[/:@?&=]", rest))]
        parts += [piece for piece in {*found, *map(unquote, found)} if len(piece) >= SHORTEST]
    return parts


def redact(text: str, values: Iterable[str] | None = None) -> str:
    """`text` without secrets. `values` are those known; by default those of this process' environment."""
    known = secret_values() if values is None else values
    for value in sorted(set(known), key=len, reverse=True):
        text = text.replace(value, MARK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
