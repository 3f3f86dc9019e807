"""vLLM's engine arguments and sampling parameters: which are offered, as what types, and how a value reaches them.

Both tables come from the installed classes. What is named in a `NOT_OFFERED` table cannot be set, for the reason there;
what is named nowhere is offered.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal

from lem_runner.backends import _vllm_bounds as bounds
from lem_runner.parameters import Group, Parameter, TypeName

_MODEL = "the campaign names the model, and what is served of it is text generation"
_IDS = "the engine is given token ids and returns token ids; there is no tokenizer"
_MEDIA = "prompts are token ids: there are no images, sounds or films"
_OWN = "the runner sets it"
_HOST = "a campaign names no host path and no address"
_CODE = "code that does not belong to the engine is never run"
_NODES = "one engine runs on one host"
_TRACING = "it observes the engine, and what observes it is the runner"
_TRAINING = "it is for training with the engine, not for inference"
_TRANSFER = "it needs a second engine to hand work to"
_SLEEP = "an engine that is not used is ended"
_TURNED_AWAY = "a load that turns requests away is not the load that was asked for"

ENGINE_NOT_OFFERED: dict[str, str] = {
    **dict.fromkeys(
        (
            "model", "model_weights", "served_model_name", "hf_config_path", "revision", "code_revision", "runner",
            "convert", "pooler_config", "generation_config", "override_generation_config", "diffusion_config",
        ),
        _MODEL,
    ),
    **dict.fromkeys(
        (
            "tokenizer", "tokenizer_mode", "tokenizer_revision", "skip_tokenizer_init", "enable_prompt_embeds",
            "tokens_only", "structured_outputs_config", "reasoning_parser", "reasoning_config", "renderer_num_workers",
        ),
        _IDS,
    ),
    **dict.fromkeys(
        (
            "limit_mm_per_prompt", "enable_mm_embeds", "interleave_mm_strings", "media_io_kwargs", "skip_mm_profiling",
            "video_pruning_rate", "video_pruning_method", "enable_tower_connector_lora", "default_mm_loras",
            "disable_chunked_mm_input", "ec_transfer_config", "ec_manager_config",
        ),
        _MEDIA,
    ),
    **dict.fromkeys(
        (
            "disable_log_stats", "aggregate_engine_logging", "logging_config", "log_level", "enable_log_requests",
            "use_tqdm_on_load", "device_ids", "shutdown_timeout", "fail_on_environ_validation", "enable_lora",
        ),
        _OWN,
    ),
    **dict.fromkeys(
        (
            "allowed_local_media_path", "allowed_media_domains", "download_dir", "hf_token", "log_config_file",
            "ignore_patterns", "model_loader_extra_config",
        ),
        _HOST,
    ),
    **dict.fromkeys(
        (
            "worker_cls", "worker_extension_cls", "scheduler_cls", "logits_processors", "model_class_overrides",
            "io_processor_plugin", "reasoning_parser_plugin", "additional_config", "hf_overrides",
        ),
        _CODE,
    ),
    **dict.fromkeys(
        (
            "master_addr", "master_port", "nnodes", "node_rank", "data_parallel_rank", "data_parallel_start_rank",
            "data_parallel_size_local", "data_parallel_address", "data_parallel_rpc_port", "data_parallel_hybrid_lb",
            "data_parallel_external_lb", "data_parallel_multi_port_external_lb", "data_parallel_backend",
            "enable_elastic_ep", "elastic_ep_max_dp_size", "enable_fault_tolerance", "fault_tolerance_config",
            "ray_workers_use_nsight",
        ),
        _NODES,
    ),
    **dict.fromkeys(
        (
            "otlp_traces_endpoint", "collect_detailed_traces", "profiler_config", "enable_layerwise_nvtx_tracing",
            "show_hidden_metrics_for_version", "custom_histogram_buckets", "kv_cache_metrics",
            "kv_cache_metrics_sample", "cudagraph_metrics", "enable_mfu_metrics", "enable_logging_iteration_details",
            "enable_mm_processor_stats", "per_request_spec_decode_metrics", "jit_monitor_mode", "jit_monitor_verbose",
        ),
        _TRACING,
    ),
    **dict.fromkeys(
        (
            "weight_transfer_config", "enable_return_routed_experts", "return_sampling_mask", "enable_trace_replay",
            "aux_output_config", "enable_nccl_comm_suspend",
        ),
        _TRAINING,
    ),
    **dict.fromkeys(("kv_transfer_config", "kv_events_config"), _TRANSFER),
    **dict.fromkeys(
        ("enable_sleep_mode", "sleep_mode_offload_cudagraph", "sleep_preserve_parameter_names"), _SLEEP
    ),
    **dict.fromkeys(("max_num_queued_reqs", "max_num_queued_tokens"), _TURNED_AWAY),
    "watermark_config": "it changes the text, not the work",
    "disable_cascade_attn": "it has no effect in this version",
}  # fmt: skip
#: Their arguments begin so.
_MEDIA_PREFIX = "mm_"

_WORKLOAD = "the workload sets the length and the number of outputs"
_RETURNS = "it changes what is returned, not what is computed"
SAMPLING_NOT_OFFERED: dict[str, str] = {
    **dict.fromkeys(("n", "max_tokens", "min_tokens", "ignore_eos"), _WORKLOAD),
    **dict.fromkeys(
        (
            "stop", "include_stop_str_in_output", "bad_words", "structured_outputs", "detokenize",
            "skip_special_tokens", "spaces_between_special_tokens", "output_text_buffer_length",
            "thinking_token_budget",
        ),
        _IDS,
    ),
    **dict.fromkeys(
        (
            "logprobs", "prompt_logprobs", "prompt_logprob_token_ids", "prompt_logprob_start", "logprob_token_ids",
            "flat_logprobs", "output_kind", "stream_interval", "skip_clone", "routed_experts_prompt_start",
        ),
        _RETURNS,
    ),
    "seed": "the campaign's sampling.seed sets it for every engine",
    "extra_args": _CODE,
    "watermarking": "it changes the text, not the work",
    "trace_decode_token_ids": "tokens are to be the model's own",
}  # fmt: skip

#: Ours, or with another default than the library's.
OWN_ENGINE_PARAMETERS = [
    Parameter(
        "enable_prefix_caching",
        "bool",
        False,
        "engine",
        "off unlike in the library, so that no prompt is served from an earlier one; emptied before each window",
    ),
    Parameter(
        "trust_remote_code", "bool", False, "engine", "refused: a model's own code is never run", choices=(False,)
    ),
    Parameter("adapter", "str", None, "engine", "a LoRA adapter in PEFT's format: path:NAME in the model folder"),
]
#: The types that JSON has; a class that is none of them is left to the engine to check.
_JSON_TYPES: dict[type, TypeName] = {
    bool: "bool", int: "int", float: "float", str: "str",
    list: "list", tuple: "list", set: "list", dict: "dict",
}  # fmt: skip
_ITEM_TYPES = {"int", "float", "str"}
_DEPRECATED = ("disable_cascade_attn", "log_config_file")


def engine_parameters() -> list[Parameter]:
    """Ours, then every field of the installed AsyncEngineArgs; those that cannot be set with the reason."""
    own = {parameter.name for parameter in OWN_ENGINE_PARAMETERS}
    fields = [field for field in _engine_fields() if field[0] not in own and not field[0].startswith("_")]
    return OWN_ENGINE_PARAMETERS + [_parameter("engine", *field) for field in fields]


def sampling_parameters() -> list[Parameter]:
    """Every field of the installed SamplingParams; those that cannot be set with the reason."""
    return [_parameter("sampling", *field) for field in _sampling_fields() if not field[0].startswith("_")]


def _refusal(group: Group, name: str) -> str:
    if group == "engine" and name.startswith(_MEDIA_PREFIX):
        return _MEDIA
    return (ENGINE_NOT_OFFERED if group == "engine" else SAMPLING_NOT_OFFERED).get(name, "")


def library_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values as the engine's arguments hold them: a mapping becomes its config class, a name its enum's member."""
    hints = {name: hint for name, hint, _ in _engine_fields()}
    return {name: _library_value(hints[name], value) for name, value in given.items()}


def _library_value(hint: Any, value: Any) -> Any:
    for kind in _alternatives(hint):
        if isinstance(kind, enum.EnumMeta) and not isinstance(value, kind):
            return kind[value]
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            from pydantic import TypeAdapter

            return TypeAdapter(kind).validate_python(value)
        if typing.get_origin(kind) is set and isinstance(value, list):
            return set(value)
    return value


def _engine_fields() -> Iterator[tuple[str, Any, Any]]:
    """Name, annotation and default of every field."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    for field in dataclasses.fields(AsyncEngineArgs):
        missing = field.default is dataclasses.MISSING
        factory: Any = field.default_factory
        yield field.name, field.type, factory() if missing else field.default


def _sampling_fields() -> Iterator[tuple[str, Any, Any]]:
    from vllm import SamplingParams

    hints = typing.get_type_hints(SamplingParams)
    blank = SamplingParams()
    for name in SamplingParams.__struct_fields__:
        yield name, hints[name], getattr(blank, name)


def _parameter(group: Group, name: str, hint: Any, default: Any) -> Parameter:
    kinds = _alternatives(hint)
    stated = bounds.engine() if group == "engine" else bounds.SAMPLING
    refused = _refusal(group, name)
    limits: bounds.Bounds = {} if refused else stated.get(name, {})
    kind = " | ".join(dict.fromkeys(map(_json_type, kinds)))
    return Parameter(
        name,
        kind,
        _json_default(default),
        group,
        stability="deprecated" if name in _DEPRECATED else "unknown",
        choices=_choices(kinds),
        refused=refused,
        **limits,
    )


def _alternatives(hint: Any) -> list[Any]:
    """The types of a union that JSON can say, None left out; of an annotated type the type."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(hint)[0])
    if origin in (typing.Union, UnionType):
        parts = [kind for part in typing.get_args(hint) for kind in _alternatives(part)]
        return [kind for kind in parts if _json_type(kind) != "any"] or parts
    return [] if hint is type(None) else [hint]


def _json_type(kind: Any) -> TypeName:
    if typing.get_origin(kind) is Literal:
        return _json_type(type(typing.get_args(kind)[0]))
    if isinstance(kind, enum.EnumMeta):
        return "str"
    if dataclasses.is_dataclass(kind):
        return "dict"
    plain = typing.get_origin(kind) or kind
    name = next((name for known, name in _JSON_TYPES.items() if plain is known), "any")
    items = {_json_type(item) for item in typing.get_args(kind) if item is not Ellipsis} if name == "list" else set()
    return f"list[{items.pop()}]" if len(items) == 1 and items <= _ITEM_TYPES else name


def _choices(kinds: list[Any]) -> tuple[Any, ...] | None:
    if len(kinds) != 1:
        return None
    if isinstance(kinds[0], enum.EnumMeta):
        return tuple(kinds[0].__members__)
    return typing.get_args(kinds[0]) if typing.get_origin(kinds[0]) is Literal else None


def _json_default(default: Any) -> Any:
    """The default where JSON can say it; a config class or the like is None: the library's own."""
    if isinstance(default, enum.Enum):
        return default.name
    if default is None or isinstance(default, (bool, int, float, str)):
        return default
    if isinstance(default, (list, tuple, set)):
        return sorted(default) if isinstance(default, set) else list(default)
    return dict(default) if type(default) is dict else None
