"""From a model and engine parameters to vLLM's engine arguments, and what must hold in the process before it starts.

torch is not imported here: the engine's own process is the one that initialises the device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lem_runner.backends import _vllm_parameters as parameters
from lem_runner.backends._model_folder import end_tokens, model_folder
from lem_runner.failures import BadRequestError
from lem_runner.parameters import check
from lem_runner.protocol import ModelRef

#: What runs inside the engine's workers, by its import path.
WORKER_EXTENSION = "lem_runner.backends._vllm_worker.WorkerProbe"
#: Engine parameters that make more than one worker.
_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "prefill_context_parallel_size")


@dataclass(frozen=True)
class ModelFiles:
    """The folder that the engine reads, the ids that end a text, and the size of the vocabulary."""

    folder: Path
    eos: frozenset[int]
    vocab_size: int


def prepare_environment(log_config: Path | None = None) -> None:
    """Before vLLM is imported: no hub, no telemetry, nothing drawn on the log; errors are kept as `log_config` says."""
    os.environ.update(
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        TOKENIZERS_PARALLELISM="false",
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        VLLM_LOGGING_COLOR="0",
    )
    if log_config is not None:
        os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(log_config)


def prepare_cpu(settings: Mapping[str, Any]) -> None:
    """On a CPU: a cache that it can read, and one process for the engine where one worker will do.

    vLLM puts the only worker of a CPU engine into a process of its own, which waits in a busy loop for its work: on two
    cores that costs a third of the tokens/s. Its switch for an engine in the caller's process also turns that off.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    _check_cpu_cache(settings.get("kv_cache_dtype", "auto"), settings.get("dtype"))
    if all(settings.get(name, 1) == 1 for name in _PARALLEL):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def _check_cpu_cache(wanted: str, dtype: str | None) -> None:
    """Refuse a KV cache of a type that the attention of a CPU cannot read. On a GPU vLLM chooses an attention that can;
    on a CPU it goes on with the only one, which takes the bytes for something else."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    known: list[str] = CPUAttentionBackend.supported_kv_cache_dtypes
    # That of the model, by its name, is what `auto` means.
    if wanted not in (*known, dtype):
        raise BadRequestError(
            f"engine parameter 'kv_cache_dtype': found {wanted!r}; it can be {', '.join(known)} on a CPU"
        )


def read_model(ref: ModelRef, scratch: Path) -> ModelFiles:
    """The model's folder; of a random model a folder in `scratch` with its config alone."""
    folder = model_folder(ref, scratch)
    from transformers import AutoConfig

    text = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    eos = frozenset(end_tokens(folder, text.to_dict()))
    return ModelFiles(folder, eos, text.vocab_size)


def check_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was set, over our own defaults; a wrong name or value is a `BadRequestError`."""
    known = {parameter.name: parameter for parameter in parameters.engine_parameters()}
    check(known, "engine", given)
    return {**{parameter.name: parameter.default for parameter in parameters.OWN_ENGINE_PARAMETERS}, **given}


def engine_arguments(ref: ModelRef, files: ModelFiles, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of EngineArgs and AsyncEngineArgs: what was set, and what the runner sets itself."""
    chosen = {name: value for name, value in settings.items() if value is not None and name != "adapter"}
    if ref.kind == "random":
        if chosen.get("load_format", "dummy") not in ("dummy", "auto"):
            raise BadRequestError("engine parameter 'load_format': a random model has no stored weights, only `dummy`")
        chosen["load_format"] = "dummy"
    # A draft model lies where the model does; methods without one name none.
    if "spec_model" in chosen:
        chosen["spec_model"] = str(folder_of(chosen["spec_model"], "spec_model"))
    speculation = chosen.get("speculative_config", {})
    if "model" in speculation:
        chosen["speculative_config"] = {
            **speculation,
            "model": str(folder_of(speculation["model"], "speculative_config")),
        }
    return {
        **parameters.library_values(chosen),
        "model": str(files.folder),
        "enable_lora": settings.get("adapter") is not None,
        "skip_tokenizer_init": True,
        # What the model's own generation_config.json says is not applied, as with every engine; see `SamplingParams`.
        "generation_config": "vllm",
        # Its own loggers are left out: a logger of ours is given to it, which makes it keep the figures we read.
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "worker_extension_cls": WORKER_EXTENSION,
    }


def folder_of(path: str, parameter: str) -> Path:
    """The folder that an engine parameter names, as the runner sees it; a name on a hub is none."""
    folder = Path(path)
    if not folder.is_dir():
        raise BadRequestError(
            f"engine parameter {parameter!r}: no folder {folder}; write path:NAME in the model folder"
        )
    return folder
