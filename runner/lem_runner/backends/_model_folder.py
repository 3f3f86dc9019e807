"""What engines with readers of their own need of a model: its folder, also of a shape without weights, and its ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lem_runner.failures import BadRequestError
from lem_runner.protocol import ModelRef


def model_folder(ref: ModelRef, scratch: Path) -> Path:
    """The model's folder; of a random model a folder in `scratch` with its config alone."""
    if ref.kind == "random":
        return _shape_folder(ref, scratch)
    if ref.path is None or not (Path(ref.path) / "config.json").is_file():
        raise BadRequestError(f"model {ref.name!r}: {ref.path} holds no config.json; fetch the model first")
    return Path(ref.path)


def end_tokens(folder: Path, config: Mapping[str, Any]) -> list[int]:
    """The ids that end a text. As transformers does: what the model generates with comes before what its shape says."""
    generation = folder / "generation_config.json"
    own = json.loads(generation.read_bytes()) if generation.is_file() else {}
    ends = own.get("eos_token_id", config.get("eos_token_id"))
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _shape_folder(ref: ModelRef, scratch: Path) -> Path:
    """The config as `save_pretrained` would write it: every field, and the architecture's name."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    fields = dict(ref.config or {})
    model_type = fields.pop("model_type", None)
    if not isinstance(model_type, str):
        raise BadRequestError(f"random model {ref.name!r}: its config has no model_type")
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    if architecture is None:
        raise BadRequestError(f"random model {ref.name!r}: no causal language model of type {model_type!r} is known")
    config = AutoConfig.for_model(model_type, **fields)
    config.architectures = [architecture]
    folder = scratch / "model"
    config.save_pretrained(folder)
    return folder
