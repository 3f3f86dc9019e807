"""Sets every parameter of the vLLM backend, one at a time, and tells what vLLM's own objects hold then.

`python drive_vllm_parameters.py FOLDER` with a stored model: a line for each group, {name: [value, what was reached, or
what was said]}.
"""

from __future__ import annotations

import enum
import json
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from lem_runner.backends import Decoding, vllm
from lem_runner.backends import _vllm_loading as loading
from lem_runner.backends import _vllm_parameters as parameters
from lem_runner.backends import _vllm_sampling as sampling
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, check
from lem_runner.protocol import ModelRef
from parameter_values import taken

#: Where any value of the type will not do.
VALUES: dict[str, Any] = {
    "compilation_config": {"mode": 0},
    "logit_bias": {"5": -1.0},
    "stop_token_ids": [7],
    "allowed_token_ids": [3, 4],
    "repetition_detection": {"max_pattern_size": 3, "min_count": 2},
}


def engine_value(name: str, value: Any) -> Any:
    """What AsyncEngineArgs hold."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    if name == "adapter":
        # Handed over with every request; what the engine is told is to expect one.
        files = loading.ModelFiles(Path(sys.argv[1]), frozenset(), 9)
        ref = ModelRef("path", "tiny", path=sys.argv[1])
        expects = AsyncEngineArgs(**loading.engine_arguments(ref, files, {name: value})).enable_lora
        return value if expects else "not expected"
    arguments = AsyncEngineArgs(model=sys.argv[1], **parameters.library_values({name: value}))
    return _plain(getattr(arguments, name), value)


def sampling_value(name: str, value: Any) -> Any:
    """What SamplingParams hold."""
    made = sampling.sampling_params(Decoding(4, "natural", {name: value}), frozenset())
    return _plain(getattr(made, name), value)


def _plain(found: Any, value: Any) -> Any:
    """As JSON; of a config object the keys that were set."""
    if is_dataclass(found) and not isinstance(found, type):
        found = asdict(found)
    elif hasattr(found, "__struct_fields__"):
        found = {name: getattr(found, name) for name in found.__struct_fields__}
    if isinstance(found, dict) and isinstance(value, dict):
        return {str(key): _plain(inner, None) for key, inner in found.items() if str(key) in value}
    if isinstance(found, enum.Enum):
        return found.name if isinstance(value, str) else found.value
    return sorted(found) if isinstance(found, set) else found


def try_one(parameter: Parameter, known: dict[str, Parameter]) -> list[Any]:
    """[value, what reached the library] or, for one that cannot be set, [value, the sentence]."""
    value = VALUES.get(parameter.name, 1 if parameter.refused else taken(parameter))
    if parameter.refused:
        try:
            check(known, parameter.group, {parameter.name: value})
        except BadRequestError as error:
            return [value, str(error)]
        return [value, "accepted"]
    check(known, parameter.group, {parameter.name: value})
    return [value, (engine_value if parameter.group == "engine" else sampling_value)(parameter.name, value)]


if __name__ == "__main__":
    loading.prepare_environment()
    for group in ("engine", "sampling"):
        rows = {row.name: row for row in vllm.describe() if row.group == group}
        print("RESULT " + json.dumps({name: try_one(row, rows) for name, row in rows.items()}, default=str))
