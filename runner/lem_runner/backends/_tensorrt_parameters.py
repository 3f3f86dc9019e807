"""TensorRT-LLM's parameters, by introspection: which there are, which a campaign may set, and why not the others.

Its arguments are pydantic models that forbid what they do not know; those of a request are a dataclass. The PyTorch
backend and the engine backend have a class each; what only one of them has exists with that `backend` alone.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union

from lem_runner.parameters import Group, Parameter

#: Ours: which of the two classes named `LLM` is used. The library's own `backend` is deprecated.
BACKEND = Parameter(
    "backend",
    "str",
    "pytorch",
    "engine",
    "pytorch: the model runs on torch; tensorrt: an engine is built from it first",
    choices=("pytorch", "tensorrt"),
)

_MODEL = "the campaign's `model` says it"
_IDS = "the engine is given token ids alone"
_OBJECT = "it takes a Python object, and a campaign file is data"
_PATH = "a campaign file names no path of the host"
_WORKLOAD = "the workload sets the length and the number of outputs"
_OUTPUTS = "it changes what is returned, not what is computed"
_ONE_HOST = "one process on one host runs the engine"
_NETWORK = "an engine has no network"
_OURS = "always set: the times of each request come from it"
_TEXT = "only text models are measured"

NOT_OFFERED: Mapping[str, str] = {
    **dict.fromkeys(("model", "revision", "tokenizer_revision"), _MODEL),
    **dict.fromkeys(
        ("tokenizer", "tokenizer_mode", "custom_tokenizer", "skip_tokenizer_init", "num_postprocess_workers",
         "postprocess_tokenizer_dir", "reasoning_parser", "guided_decoding_backend"), _IDS),
    **dict.fromkeys(("batched_logits_processor", "mpi_session", "checkpoint_loader"), _OBJECT),
    **dict.fromkeys(("workspace",), _PATH),
    **dict.fromkeys(
        ("cache_transceiver_config", "kv_connector_config", "gpus_per_node", "orchestrator_type",
         "ray_worker_extension_cls", "ray_placement_config"), _ONE_HOST),
    **dict.fromkeys(("return_perf_metrics", "perf_metrics_max_requests"), _OURS),
    **dict.fromkeys(("enable_lora", "lora_config", "peft_cache_config"), "adapters need a path with every request"),
    **dict.fromkeys(("enable_prompt_adapter", "max_prompt_adapter_token"), "prompts come as token ids alone"),
    "otlp_traces_endpoint": _NETWORK,
    "mm_encoder_only": _TEXT,
    "env_overrides": "a campaign file sets no environment",
    "decoding_config": "deprecated: set speculative_config",
    "sparse_attention_config": "its keys are no part of the published interface",
    "layer_wise_benchmarks_config": "it measures by itself, inside what is measured here",
}  # fmt: skip
#: Keys inside a mapping, as `NAME.KEY`.
NOT_OFFERED_INSIDE: Mapping[str, str] = {
    **dict.fromkeys(
        ("speculative_config.speculative_model", "speculative_config.output_directory",
         "enable_build_cache.cache_root", "build_config.input_timing_cache", "build_config.output_timing_cache"),
        _PATH),
    **dict.fromkeys(("speculative_config.drafter", "speculative_config.resource_manager"), _OBJECT),
    "build_config.lora_config": "adapters need a path with every request",
    "build_config.dry_run": "without an engine there is nothing to measure",
}  # fmt: skip
NOT_OFFERED_SAMPLING: Mapping[str, str] = {
    **dict.fromkeys(("max_tokens", "min_tokens", "ignore_eos", "n"), _WORKLOAD),
    **dict.fromkeys(("end_id", "pad_id", "stop_token_ids"), "the model sets its special tokens"),
    **dict.fromkeys(
        ("bad", "stop", "include_stop_str_in_output", "detokenize", "add_special_tokens", "truncate_prompt_tokens",
         "skip_special_tokens", "spaces_between_special_tokens", "guided_decoding"), _IDS),
    **dict.fromkeys(
        ("embedding_bias", "logits_processor", "apply_batched_logits_processor", "lookahead_config"), _OBJECT),
    **dict.fromkeys(
        ("logprobs", "prompt_logprobs", "return_context_logits", "return_generation_logits",
         "exclude_input_from_output", "return_encoder_output", "additional_model_outputs"), _OUTPUTS),
    "seed": "set sampling.seed",
    "return_perf_metrics": _OURS,
}  # fmt: skip
_TRUST = "a model's own code is never run"
#: Where the annotation is wider than what is meant.
_CHOICES: Mapping[str, tuple[Any, ...]] = {"load_format": ("auto", "dummy"), "trust_remote_code": (False,)}
_AT_LEAST_1 = (1, None)
_SHARE = (0, 1)
_BOUNDS: Mapping[str, tuple[float | None, float | None]] = {
    **dict.fromkeys(
        ("tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size", "max_batch_size", "max_input_len",
         "max_seq_len", "max_num_tokens", "max_beam_width", "stream_interval", "best_of",
         "kv_cache_config.max_tokens", "kv_cache_config.tokens_per_block"), _AT_LEAST_1),
    **dict.fromkeys(("kv_cache_config.free_gpu_memory_fraction", "top_p", "min_p"), _SHARE),
    "temperature": (0, None),
    "top_k": (0, None),
    "repetition_penalty": (0, None),
}  # fmt: skip
#: The request's dataclass carries no labels; these are those of the published interface.
_UNSETTLED_SAMPLING: Mapping[str, Literal["prototype"]] = {
    "beam_width_array": "prototype",
    "return_perf_metrics": "prototype",
    "additional_model_outputs": "prototype",
}
_LABELS = ("stable", "beta", "prototype", "deprecated")
_NAMES: Mapping[Any, str] = {bool: "bool", int: "int", float: "float", str: "str", dict: "dict", type(None): "None"}


def engine_parameters(torch_args: type, engine_args: type, speculative: type) -> list[Parameter]:
    """Every field of both argument classes, ours first. `speculative` is the parent of the decoding variants."""
    mine, theirs = dict(_members(torch_args)), dict(_members(engine_args))
    rows = [BACKEND]
    for name in dict.fromkeys([*theirs, *mine]):
        if name == BACKEND.name:
            continue
        only: tuple[tuple[str, tuple[Any, ...]], ...] = ()
        if name not in mine or name not in theirs:
            only = ((BACKEND.name, ("pytorch" if name in mine else "tensorrt",)),)
        member = theirs.get(name) or mine[name]
        fields = tuple(_speculative(speculative)) if name == "speculative_config" else None
        rows.append(_row(name, member, "engine", NOT_OFFERED.get(name, ""), only, fields))
    return rows


def sampling_parameters(request: type) -> list[Parameter]:
    """Every field of a request's parameters."""
    rows = []
    for name, member in _members(request):
        only = (("use_beam_search", (True,)),) if name in ("best_of", "beam_width_array") else ()
        row = _row(name, member, "sampling", NOT_OFFERED_SAMPLING.get(name, ""), only, None)
        rows.append(dataclasses.replace(row, stability=_UNSETTLED_SAMPLING.get(name, row.stability)))
    return rows


@dataclasses.dataclass(frozen=True)
class _Member:
    """A field as its class declares it."""

    annotation: Any
    default: Any
    label: str


def _members(owner: type) -> Iterator[tuple[str, _Member]]:
    """The public fields of a pydantic model or of a dataclass, in their order."""
    fields = getattr(owner, "model_fields", None)
    if fields is not None:
        for name, field in fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield name, _Member(field.annotation, default, str(extra.get("status", "stable")))
        return
    hints = typing.get_type_hints(owner)
    for each in dataclasses.fields(owner):
        if not each.name.startswith("_"):
            has_default = each.default is not dataclasses.MISSING
            yield each.name, _Member(hints[each.name], each.default if has_default else None, "stable")


def _row(
    name: str,
    member: _Member,
    group: Group,
    refused: str,
    only_with: tuple[tuple[str, tuple[Any, ...]], ...] = (),
    fields: tuple[Parameter, ...] | None = None,
    inside: str = "",
) -> Parameter:
    parts = _alternatives(member.annotation)
    names = [_type_name(part) for part in parts]
    default = _plain(member.default)
    if "float" in names and type(default) is int:
        default = float(default)
    choices = _CHOICES.get(name) or _choices(parts)
    minimum, maximum = _BOUNDS.get(f"{inside}{name}", (None, None))
    if refused:
        # What nobody can set needs no description of its values.
        return Parameter(name, "any", None, group, "", _label(member.label), refused=refused, only_with=only_with)
    if fields is None:
        nested = next((part for part in parts if _is_nested(part)), None)
        fields = () if nested is None else tuple(_fields(name, nested, group))
    elif fields:
        names = ["dict"]
    if "any" in names and not fields:
        names = ["any"]
    kept = [kind for kind in dict.fromkeys(names) if kind != "None" or default is not None]
    return Parameter(
        name, " | ".join(kept), default, group, _TRUST if name == "trust_remote_code" else "", _label(member.label),
        choices, minimum, maximum, fields, only_with,
    )  # fmt: skip


def _fields(owner: str, nested: type, group: Group) -> Iterator[Parameter]:
    for name, member in _members(nested):
        refused = NOT_OFFERED_INSIDE.get(f"{owner}.{name}", "")
        yield _row(name, member, group, refused, inside=f"{owner}.")


def _speculative(parent: type) -> Iterator[Parameter]:
    """The variants of speculative decoding as one mapping: each key exists with the variants that have it."""
    variants = {kind: variant for variant in _descendants(parent) if (kind := decoding_type(variant)) is not None}
    yield Parameter("decoding_type", "str", None, "engine", "the variant", choices=tuple(variants))
    holders: dict[str, list[str]] = {}
    first: dict[str, _Member] = {}
    for kind, variant in variants.items():
        for name, member in _members(variant):
            if name != "decoding_type":
                holders.setdefault(name, []).append(kind)
                first.setdefault(name, member)
    for name, kinds in holders.items():
        refused = NOT_OFFERED_INSIDE.get(f"speculative_config.{name}", "")
        only = () if len(kinds) == len(variants) else (("decoding_type", tuple(kinds)),)
        yield _row(name, first[name], "engine", refused, only, inside="speculative_config.")


def decoding_type(variant: type) -> str | None:
    """The name by which a variant of speculative decoding is chosen; None for what is no variant itself."""
    field = getattr(variant, "model_fields", {}).get("decoding_type")
    kind = field.default if field is not None else getattr(variant, "decoding_type", None)
    return kind if isinstance(kind, str) else None


def _descendants(parent: type) -> Iterator[type]:
    children: list[type] = type.__subclasses__(parent)
    for child in children:
        yield child
        yield from _descendants(child)


def _alternatives(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for part in typing.get_args(annotation) for inner in _alternatives(part)]
    return [annotation]


def _type_name(part: Any) -> str:
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if origin is Literal:
        return "str"
    if origin is list or part is list:
        inner = _NAMES.get(arguments[0]) if arguments else None
        return f"list[{inner}]" if inner else "list"
    if origin is dict or _is_nested(part):
        return "dict"
    if isinstance(part, type) and (issubclass(part, enum.Enum) or part.__name__ in ("Path", "PosixPath")):
        return "str"
    return _NAMES.get(part, "any")


def _choices(parts: Iterable[Any]) -> tuple[Any, ...] | None:
    """What a closed set of words allows; None where any text will do beside it."""
    words: list[Any] = []
    for part in parts:
        if part is str:
            return None
        if typing.get_origin(part) is Literal:
            words += typing.get_args(part)
        elif isinstance(part, type) and issubclass(part, enum.Enum):
            words += [_plain(member) for member in part]
    return tuple(dict.fromkeys(words)) or None


def _is_nested(part: Any) -> bool:
    return isinstance(part, type) and (hasattr(part, "model_fields") or dataclasses.is_dataclass(part))


def _plain(value: Any) -> Any:
    """A default as JSON; a nested model's is the empty mapping, which means its own defaults."""
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str, dict)):
        return value
    return {} if _is_nested(type(value)) else str(value)


def _label(written: str) -> Any:
    return written if written in _LABELS else "unknown"
