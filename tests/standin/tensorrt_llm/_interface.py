"""The argument classes of the library, made from its published interface (`interface.json`).

Names, types, defaults and labels are those of the file, and what a class does not know it forbids, as the library's do:
what these refuse, it refuses.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Union  # noqa: UP035 - the file's own spelling

from pydantic import BaseModel, ConfigDict, Field, create_model

INTERFACE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "interface.json").read_text())
_CONFIGS: dict[str, Any] = INTERFACE["configs"]


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DecodingBaseConfig(StrictModel):
    """Variants of speculative decoding are made by name."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DecodingBaseConfig:
        fields = dict(data)
        variant = VARIANTS.get(fields.pop("decoding_type", None) or "")
        if variant is None:
            raise ValueError(f"Invalid decoding type: {data.get('decoding_type')}")
        return variant(**fields)


def _enum(name: str, words: list[str]) -> type[enum.Enum]:
    return enum.Enum(name, {word: word for word in words}, type=str)  # type: ignore[return-value]


_KNOWN: dict[str, Any] = {
    "Optional": Optional,
    "Union": Union,
    "Literal": Literal,
    "List": List,  # noqa: UP006
    "Dict": Dict,  # noqa: UP006
    "Any": Any,
    "Path": Path,
    "SpeculativeConfig": Union[DecodingBaseConfig, None],  # noqa: UP007
    "QuantAlgo": _enum("QuantAlgo", INTERFACE["QuantAlgo"]),
    "BatchingType": _enum("BatchingType", ["STATIC", "INFLIGHT"]),
    "SamplerType": _enum("SamplerType", ["auto"]),
    "LoadFormat": enum.Enum("LoadFormat", {"AUTO": 0, "DUMMY": 1}),
}
_ENUM = re.compile(r"(\w+)\{([A-Z_,]+)\}")
_MODEL = re.compile(r"(\w+)\{([a-z_,]+)\}")


def _resolve(written: str) -> Any:
    """A type as the file writes it. A class that the file does not describe takes anything."""
    for name, words in _ENUM.findall(written):
        _KNOWN.setdefault(name, _enum(name, words.split(",")))
    for name, keys in _MODEL.findall(written):
        fields: dict[str, Any] = dict.fromkeys(keys.split(","), (Any, None))
        _KNOWN.setdefault(name, create_model(name, __base__=StrictModel, **fields))
    plain = re.sub(r"\{[^}]*\}", "", written)
    for name in set(re.findall(r"[A-Z]\w+", re.sub(r"'[^']*'", "", plain))) - set(_KNOWN):
        if name in _CONFIGS:
            _KNOWN[name] = _model(name, _CONFIGS[name])
    try:
        return eval(plain, {"__builtins__": {}, "bool": bool, "int": int, "float": float, "str": str,
                            "dict": dict, "object": object}, _KNOWN)  # fmt: skip
    except (NameError, SyntaxError):
        return Any


def _default(written: str, annotation: Any, label: str) -> Any:
    chosen = _value(written, annotation)
    return Field(json_schema_extra={"status": label}, **chosen)


def _value(written: str, annotation: Any) -> dict[str, Any]:
    if written == "<required>":
        return {}
    call = re.fullmatch(r"(\w+)\(\)", written)
    if call is not None and call[1] in _KNOWN:
        return {"default_factory": _KNOWN[call[1]]}
    dotted = re.fullmatch(r"(\w+)\.(\w+)", written)
    if dotted is not None and dotted[1] in _KNOWN:
        return {"default": _KNOWN[dotted[1]][dotted[2]]}
    try:
        return {"default": ast.literal_eval(written)}
    except (ValueError, SyntaxError):
        for part in getattr(annotation, "__args__", [annotation]):
            if isinstance(part, type) and issubclass(part, enum.Enum) and written in part.__members__:
                return {"default": part[written]}
        return {"default": None}


def _model(name: str, rows: list[dict[str, Any]], base: type[BaseModel] = StrictModel) -> type[Any]:
    fields: dict[str, Any] = {}
    for row in rows:
        annotation = _resolve(row["type"])
        fields[row["name"]] = (annotation, _default(row["default"], annotation, row.get("status", "unknown")))
    return create_model(name, __base__=base, **fields)


def _variant(described: dict[str, Any]) -> type[Any]:
    rows = []
    for written in described["extra"]:
        name, _, default = written.partition("=")
        try:
            value = ast.literal_eval(default) if default else None
        except (ValueError, SyntaxError):
            value = default
        kind = "Optional[Any]" if value is None else type(value).__name__
        rows.append({"name": name, "type": kind, "default": repr(value), "status": "stable"})
    made = _model(described["cls"], rows, _COMMON)
    made.decoding_type = described["decoding_type"]
    return made


_KNOWN["BuildConfig"] = _model("BuildConfig", INTERFACE["BuildConfig"])
_COMMON: Any = _model("DecodingCommon", _CONFIGS["DecodingBaseConfig"], DecodingBaseConfig)
VARIANTS = {each["decoding_type"]: _variant(each) for each in _CONFIGS["SpeculativeConfig_variants"]}

_BASE = _model("BaseLlmArgs", INTERFACE["BaseLlmArgs"])
TorchLlmArgs = _model("TorchLlmArgs", INTERFACE["TorchLlmArgs"], _BASE)
TrtLlmArgs = _model("TrtLlmArgs", INTERFACE["TrtLlmArgs"], _BASE)


def _request_fields() -> list[Any]:
    fields = []
    for row in INTERFACE["SamplingParams"]:
        fields.append((row["name"], _resolve(row["type"]), dataclasses.field(default=ast.literal_eval(row["default"]))))
    return fields


SamplingParams = dataclasses.make_dataclass("SamplingParams", _request_fields(), kw_only=True)
