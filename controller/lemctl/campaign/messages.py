"""What pydantic found, as one sentence in the words of the campaign file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lemctl.campaign.keys import listed, nearest
from lemctl.campaign.layers import Source
from lemctl.errors import CampaignFileError

_WANTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


class SectionError(ValueError):
    """Values that do not go together; `key` is the one to change."""

    def __init__(self, key: str, message: str):
        self.key = key
        super().__init__(message)


def unwrapped(annotation: Any) -> Any:
    """`X` of `X | None`; anything else as it is."""
    if get_origin(annotation) in (UnionType, Union):
        some = [part for part in get_args(annotation) if part is not type(None)]
        return some[0] if len(some) == 1 else annotation
    return annotation


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of the mapping that a value may be, by itself or in a list; None where it is no mapping."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return section_of(arguments[0])
    if origin in (UnionType, Union, list):
        return next((found for part in arguments if (found := section_of(part)) is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def section_at(model: type[BaseModel], path: Iterable[str]) -> type[BaseModel] | None:
    """The model of the mapping at `path` below `model`; None where it is none."""
    for part in path:
        field = model.model_fields.get(part)
        inner = section_of(field.annotation) if field is not None else None
        if inner is None:
            return None
        model = inner
    return model


def translated(
    error: ValidationError, model: type[BaseModel], source: Source, exists: Callable[[str], bool], prefix: str = ""
) -> CampaignFileError:
    """The first mistake by line, with the count of the others. `exists` tells real keys from pydantic's own marks."""
    found = []
    for details in error.errors(include_url=False):
        location = [str(part) for part in details["loc"] if not str(part).startswith("<")]
        known = details["type"] in ("missing", "extra_forbidden")
        while location and not known and not exists(prefix + ".".join(location)):
            location.pop()
        key = prefix + ".".join(location) if location else prefix.rstrip(".")
        found.append((source.line(key) or 0, key, sentence(details, model)))
    _, key, message = min(found, key=lambda item: item[0])
    places = {place for _, place, _ in found}
    others = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return source.error(message + others, key)


def sentence(details: ErrorDetails, model: type[BaseModel]) -> str:
    """One sentence about one mistake."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return "this key is required"
    if kind == "extra_forbidden":
        *parents, name = (str(part) for part in details["loc"] if not str(part).startswith("<"))
        section = section_at(model, [part for part in parents if not part.isdigit()])
        names = [field.alias or key for key, field in section.model_fields.items()] if section is not None else []
        if parents in (["engine"], ["sampling"]):
            return (
                f"unknown key{nearest(name, names)}; here stand only {listed(names)}, which every backend has: one"
                f" engine's own is BACKEND.{parents[0]}.{name} (`lemctl config params BACKEND` lists them)"
            )
        return f"unknown key{nearest(name, names)}" + (f" (allowed: {listed(names, 30)})" if names else "")
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        near = nearest(value, allowed.split(", ")) if isinstance(value, str) else ""
        return f"found {_short(value)}; allowed: {allowed}{near}"
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, found {_short(value)}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]}, found {_short(value)}"
    if kind == "value_error":
        return f"{context['error']}, found {_short(value)}"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}, found {_short(value)}"
    return f"{details['msg'][0].lower()}{details['msg'][1:]}, found {_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    text = f"the text {value!r}" if isinstance(value, str) else "a mapping" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
