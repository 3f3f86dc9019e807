"""`generate`'s parameters: which are offered, and how one attempt's decoding becomes a GenerationConfig.

The model's own `generation_config.json` is not applied: a campaign says how tokens are drawn, and what it does not say
has the library's documented default. Only the special token ids come from the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lem_runner.backends import Decoding
from lem_runner.parameters import Parameter, TypeName, check

#: Fields of GenerationConfig that cannot be set, and why. What is named nowhere here can be.
_WORKLOAD = "the workload sets the length and the number of outputs"
_OUTPUTS = "it changes what generate returns, not what it computes"
_TOKENIZERS = "it is for two models with different tokenizers, and the engine is given token ids alone"
_HUB_CODE = "this decoding mode needs code from the model hub, which is never run"
NOT_OFFERED: dict[str, str] = {
    **dict.fromkeys(
        ("max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time", "num_return_sequences"), _WORKLOAD
    ),
    **dict.fromkeys(
        ("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
        _OUTPUTS,
    ),
    **dict.fromkeys(("assistant_lookbehind", "target_lookbehind"), _TOKENIZERS),
    "is_assistant": "set the engine parameter assistant_model",
    **dict.fromkeys(
        (
            "low_memory",
            "penalty_alpha",
            "dola_layers",
            "diversity_penalty",
            "num_beam_groups",
            "constraints",
            "force_words_ids",
        ),
        _HUB_CODE,
    ),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), "the model sets its special tokens"),
    **dict.fromkeys(("stop_strings", "token_healing"), "it needs a tokenizer, and the engine is given token ids alone"),
    **dict.fromkeys(
        ("encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "decoder_start_token_id"),
        "it is for encoder-decoder models",
    ),
    "compile_config": "set the engine parameters compile and compile_mode",
    "continuous_batching_config": "set the engine parameters that begin with cb_",
}
#: These are settings of the engine: another cache is another engine.
_CACHE_FIELDS = ("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size")
#: Setting one of these means sampling, unless `do_sample` says otherwise.
_SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
#: Read from the generation_config of whatever drafts tokens, not from the one that `generate` is given.
_ASSISTANT_FIELDS = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")
_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "temperature": (0, None),
    "top_k": (0, None),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "top_h": (0, 1),
    "typical_p": (0, 1),
    "num_beams": (1, None),
    "no_repeat_ngram_size": (0, None),
    "prompt_lookup_num_tokens": (1, None),
    "num_assistant_tokens": (1, None),
    "assistant_confidence_threshold": (0, 1),
    "assistant_ensemble_weight": (0, 1),
    "assistant_early_exit": (1, None),
    "max_cache_len": (1, None),
    "prefill_chunk_size": (1, None),
}
_ABOVE: dict[str, float] = {"repetition_penalty": 0}
_CHOICES: dict[str, tuple[str, ...]] = {
    "cache_implementation": ("dynamic", "static", "offloaded", "offloaded_static", "quantized"),
    "num_assistant_tokens_schedule": ("constant", "heuristic", "heuristic_transient"),
    "speculation_type": ("dflash",),
}
_TYPES: dict[str, TypeName] = {"bool": "bool", "int": "int", "float": "float", "str": "str", "dict": "dict"}
#: Where the docstring says nothing, or names a type that JSON has not.
_UNDOCUMENTED_TYPES: dict[str, TypeName] = {"prefill_chunk_size": "int", "sequence_bias": "any"}
#: `name (`type`, ...):` in the docstring of GenerationConfig; an "or" of types is left to the library.
_DOCUMENTED = re.compile(r"^ {8}(\w+) ?:? ?\(`(\w+)(\[[^`]*)?`(?! or)", re.MULTILINE)


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that a model ends and pads with."""

    pad: int
    bos: int | None
    eos: tuple[int, ...]


def generation_parameters() -> list[Parameter]:
    """Every field of the installed GenerationConfig; those that cannot be set with the reason."""
    from transformers import GenerationConfig

    config = GenerationConfig()
    documented = {name: _type_name(kind) for name, kind, _ in _DOCUMENTED.findall(GenerationConfig.__doc__ or "")}
    defaults = library_defaults()
    return [
        _parameter(name, documented.get(name, "any"), defaults.get(name))
        for name in vars(config)
        if not name.startswith("_") and name != "transformers_version"
    ]


def library_defaults() -> dict[str, Any]:
    """What `generate` uses for a field that nobody set."""
    from transformers import GenerationConfig

    config = GenerationConfig()
    # Since transformers 5 the fields start as None and this table fills them; before, they started with the defaults.
    table: dict[str, Any] = getattr(config, "_get_default_generation_params", dict)()
    return {**vars(config), **table}


def decoding_config(decoding: Decoding, tokens: SpecialTokens, cache: Mapping[str, Any]) -> Any:
    """The GenerationConfig of one attempt, complete but for fields that stay at the library's default.

    `fixed` leaves out the end token, so that it is drawn like any other and ends nothing.
    """
    from transformers import GenerationConfig

    given = dict(decoding.sampling)
    _check(given)
    if given.get("do_sample") is None:
        given["do_sample"] = any(given.get(name) is not None for name in _SAMPLING_FIELDS)
    if given.get("temperature") == 0:
        del given["temperature"]
        given["do_sample"] = False
    eos: Any = list(tokens.eos) if decoding.output == "natural" and tokens.eos else None
    given.update({name: value for name, value in cache.items() if value is not None})
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        pad_token_id=tokens.pad,
        bos_token_id=tokens.bos,
        eos_token_id=eos,
        **{name: value for name, value in given.items() if value is not None},
    )
    config.validate()
    return config


def model_defaults(tokens: SpecialTokens, output: str, config: Any) -> Any:
    """What stands in for the model's own generation_config.json: `generate` fills unset fields from it, and a model
    that drafts tokens reads from it how many. `config` is that of the attempt."""
    from transformers import GenerationConfig

    eos = list(tokens.eos) if output == "natural" and tokens.eos else None
    drafting = {**library_defaults(), **{name: value for name, value in vars(config).items() if value is not None}}
    given = {name: drafting.get(name) for name in _ASSISTANT_FIELDS}
    return GenerationConfig(pad_token_id=tokens.pad, bos_token_id=tokens.bos, eos_token_id=eos, **given)


def drafts(config: Any) -> bool:
    """Whether `generate` guesses several tokens at a time by itself: by the prompt, by its own early layers."""
    return any((config.prompt_lookup_num_tokens, config.assistant_early_exit, config.use_mtp))


def in_force(config: Any) -> dict[str, Any]:
    """Every setting that `generate` will use: those of `config`, else the library's defaults."""
    merged = {**library_defaults(), **{name: value for name, value in vars(config).items() if value is not None}}
    always = ("max_new_tokens", "pad_token_id", "bos_token_id", "eos_token_id")
    return {name: value for name, value in merged.items() if name in always or _is_offered(name)}


def told(in_force: Mapping[str, Any], engine: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is in force by group: `generate` takes settings of the engine too."""
    of_engine = {name: value for name, value in in_force.items() if name in _CACHE_FIELDS}
    of_request = {name: value for name, value in in_force.items() if name not in _CACHE_FIELDS}
    return {"engine": {**engine, **of_engine}, "sampling": of_request}


def set_by_model(own: Any) -> dict[str, Any]:
    """What the model's generation_config.json would have changed, had it been applied."""
    defaults = library_defaults()
    return {
        name: value
        for name, value in vars(own).items()
        if _is_offered(name) and value is not None and value != defaults.get(name)
    }


def cache_settings(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Those engine parameters that `generate` takes."""
    return {name: engine[name] for name in _CACHE_FIELDS if name in engine}


def _is_offered(name: str) -> bool:
    return not name.startswith("_") and name not in NOT_OFFERED and name != "transformers_version"


def _check(given: Mapping[str, Any]) -> None:
    known = {parameter.name: parameter for parameter in generation_parameters() if parameter.group == "sampling"}
    check(known, "sampling", given)


def _parameter(name: str, kind: TypeName, default: Any) -> Parameter:
    minimum, maximum = _BOUNDS.get(name, (None, None))
    doc = ""
    if name in _SAMPLING_FIELDS:
        doc = "setting it means sampling" + (f"; the library's default is then {default}" if default else "")
        default = None
    if name == "do_sample":
        default, doc = None, "unset: true exactly when temperature (0 means greedy), top_k, top_p or the like is set"
    group: Any = "engine" if name in _CACHE_FIELDS else "sampling"
    kind = _UNDOCUMENTED_TYPES.get(name, kind)
    refused = NOT_OFFERED.get(name, "")
    return Parameter(
        name,
        kind,
        default,
        group,
        doc,
        "unknown",
        _CHOICES.get(name),
        minimum,
        maximum,
        refused=refused,
        exclusive_minimum=_ABOVE.get(name),
    )


def _type_name(documented: str) -> TypeName:
    if documented in ("list", "tuple"):
        return "list"
    return _TYPES.get(documented, "any")
