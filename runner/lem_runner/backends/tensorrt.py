"""TensorRT-LLM through its `LLM` interface: the PyTorch backend, and engines built before they run.

Requests go in as token ids, one by one, and the engine batches them itself; no tokenizer is loaded. Nothing here, nor
in the runner before it, touches CUDA: the library initialises the device in its own processes.

Written against the published interface of the 1.2 line and tested against a stand-in made from it. It has not been run
on a GPU: what the library really does may differ.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lem_runner import portable, processes
from lem_runner.backends import ConcurrentEngine, Decoding, Engine
from lem_runner.backends import _tensorrt_parameters as parameters
from lem_runner.backends._model_folder import end_tokens, model_folder
from lem_runner.backends._tensorrt_device import require_devices
from lem_runner.backends._tensorrt_requests import Requests
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, resolve
from lem_runner.prompts import Prompt
from lem_runner.protocol import LOAD_MODES, LoadMode, RunSpec
from lem_runner.scratch import scratch_folder

PACKAGES: tuple[str, ...] = ("tensorrt_llm", "tensorrt", "torch", "transformers", "nvidia-modelopt")
OWNS_CUDA: Literal["engine", "torch"] = "engine"
LOADS: tuple[LoadMode, ...] = LOAD_MODES

#: The library's own, where neither campaign nor model says otherwise.
DEFAULT_BATCH_LIMIT, DEFAULT_TOKENS_PER_BLOCK = 2048, 32
STATS_TIMEOUT_S = 0.5


def open() -> Engine:
    """A new engine, nothing loaded."""
    return TensorRtEngine()


def describe() -> list[Parameter]:
    """The arguments of both classes named `LLM`, then those of a request."""
    prepare_environment()
    from tensorrt_llm import SamplingParams
    from tensorrt_llm.llmapi.llm_args import DecodingBaseConfig, TorchLlmArgs, TrtLlmArgs

    engine = parameters.engine_parameters(TorchLlmArgs, TrtLlmArgs, DecodingBaseConfig)
    return [*engine, *parameters.sampling_parameters(SamplingParams)]


def prepare_environment() -> None:
    """Before the library is imported: no hub, no telemetry."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Usage reports of the library itself.
    os.environ["TRTLLM_NO_USAGE_STATS"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"


class TensorRtEngine(ConcurrentEngine):
    """See the module."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._known: list[Parameter] = []
        self._model_config: dict[str, Any] = {}
        self._scratch = scratch_folder("tensorrt")
        self._ends: list[int] = []
        self._device_names: list[str] = []
        self._llm: Any = None
        self._requests: Requests | None = None
        self._request: Any = None

    def load(self, spec: RunSpec) -> None:
        """Look at the GPUs, then make the engine: with `backend: tensorrt` that builds it, which can take long."""
        # A missing GPU is said before the library is imported: it cannot be without one.
        found = require_devices(portable.gpus_spanned("tensorrt", spec.engine))
        self._device_names = [device.name for device in found]
        self._known = describe()
        self._settings = resolve(self._known, "engine", spec.engine)
        folder = model_folder(spec.model, self._scratch)
        self._model_config = json.loads((folder / "config.json").read_text("utf-8"))
        self._ends = end_tokens(folder, self._text_config())
        given = {name: value for name, value in spec.engine.items() if name != parameters.BACKEND.name}
        if spec.model.kind == "random":
            given["load_format"] = "dummy"
        self._llm = _make(self._settings["backend"], folder, given)
        per_block = _inside(self._settings, "kv_cache_config", "tokens_per_block") or DEFAULT_TOKENS_PER_BLOCK
        self._requests = Requests(per_block)

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Refuse what the model cannot take, and parameters that the library refuses."""
        text = self._text_config()
        longest = max(len(prompt.ids) for prompt in prompts) + decoding.max_new_tokens
        limit = self._settings.get("max_seq_len") or text.get("max_position_embeddings")
        if limit is not None and longest > limit:
            raise BadRequestError(f"prompt and output of {longest} tokens: the engine takes {limit}")
        largest = max(max(prompt.ids) for prompt in prompts)
        if text.get("vocab_size") is not None and largest >= text["vocab_size"]:
            raise BadRequestError(f"token id {largest} is not in the model's vocabulary of {text['vocab_size']}")
        resolve(self._known, "sampling", decoding.sampling)
        self._request = self._sampling(decoding, seed=0)

    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:
        """One call of `generate_async`, streamed for the times of its tokens. Beams have none."""
        assert self._requests is not None
        sampling = self._sampling(decoding, portable.request_seed(seed, request))
        streams = not sampling.use_beam_search
        llm, ids = self._llm, list(prompt.ids)
        self._requests.submit(
            request, lambda: llm.generate_async(ids, sampling_params=sampling, streaming=streams), streams
        )

    def finished(self, timeout_s: float) -> Any:
        """See `Requests`."""
        assert self._requests is not None
        return self._requests.finished(timeout_s)

    def abandon(self) -> None:
        """See `Requests`."""
        assert self._requests is not None
        self._requests.abandon()

    def batch_limit(self) -> int:
        """What the engine says, else what was asked, else the library's own."""
        told = getattr(self._llm.args, "max_batch_size", None)
        return int(told or self._settings.get("max_batch_size") or DEFAULT_BATCH_LIMIT)

    def memory(self) -> dict[str, Any]:
        """The device's bytes as the engine's statistics tell them, None where it keeps none; it tells no peak."""
        return {
            "device_used_b": self._statistics().get("gpuMemUsage"),
            "device_peak_b": None,
            "host_rss_b": processes.rss_b(),
            "host_peak_rss_b": processes.peak_rss_b(),
        }

    def gauges(self) -> dict[str, float | None]:
        """Cache use from the engine's statistics, the hit rate from the requests since the last call."""
        cache = self._statistics().get("kvCacheStats") or {}
        used, most = cache.get("usedNumBlocks"), cache.get("maxNumBlocks")
        rate = None
        if self._requests is not None:
            rate = self._requests.blocks.hit_rate()
            self._requests.blocks = type(self._requests.blocks)()
        return {"kv_cache_usage": used / most if used is not None and most else None, "prefix_cache_hit_rate": rate}

    def effective(self) -> dict[str, Any]:
        """What the engine's own arguments hold once it is loaded."""
        told = _told(self._llm.args, self._known, "engine") | {"backend": self._settings["backend"]}
        dtype = told.get("dtype") or "auto"
        text = self._text_config()
        return {
            "backend": "tensorrt",
            "dtype": dtype if dtype != "auto" else text.get("dtype") or text.get("torch_dtype"),
            "quantization": _inside(told, "quant_config", "quant_algo") or _checkpoint_quantization(self._model_config),
            "prefix_cache": _inside(told, "kv_cache_config", "enable_block_reuse"),
            "max_position_embeddings": text.get("max_position_embeddings"),
            "vocab_size": text.get("vocab_size"),
            "device_name": self._device_names[0],
            "engine": dict(self._settings),
            "reported": {
                "engine": told,
                "sampling": {} if self._request is None else _told(self._request, self._known, "sampling"),
            },
        }

    def close(self) -> None:
        """End the requests' thread, then the engine and its processes."""
        if self._requests is not None:
            self._requests.close()
        if self._llm is not None:
            self._llm.shutdown()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _text_config(self) -> dict[str, Any]:
        """The part of the model's configuration that is about text."""
        found: dict[str, Any] = self._model_config.get("text_config", self._model_config)
        return found

    def _sampling(self, decoding: Decoding, seed: int) -> Any:
        from tensorrt_llm import SamplingParams

        ends = self._ends
        pad = self._text_config().get("pad_token_id")
        return SamplingParams(
            **portable.request("tensorrt", decoding.max_new_tokens, decoding.output, seed),
            **decoding.sampling,
            # Without a tokenizer the end has to be named; -1 is no token.
            end_id=ends[0] if ends else -1,
            pad_id=pad if pad is not None else ends[0] if ends else 0,
            stop_token_ids=ends[1:] or None if decoding.output == "natural" else None,
            detokenize=False,
            return_perf_metrics=True,
        )

    def _statistics(self) -> Mapping[str, Any]:
        """The newest of the engine's own statistics; empty where it keeps none."""
        if self._llm is None or not (self._settings["backend"] == "tensorrt" or self._llm.args.enable_iter_perf_stats):
            return {}
        told = list(self._llm.get_stats(timeout=STATS_TIMEOUT_S))
        newest = told[-1] if told else {}
        return json.loads(newest) if isinstance(newest, str) else newest


def _make(backend: str, folder: Path, given: dict[str, Any]) -> Any:
    if backend == "tensorrt":
        from tensorrt_llm._tensorrt_engine import LLM
    else:
        from tensorrt_llm import LLM
    if given.get("speculative_config") is not None:
        from tensorrt_llm.llmapi.llm_args import DecodingBaseConfig

        given = {**given, "speculative_config": DecodingBaseConfig.from_dict(dict(given["speculative_config"]))}
    try:
        return LLM(model=str(folder), skip_tokenizer_init=True, return_perf_metrics=True, **given)
    except ValueError as error:
        raise BadRequestError(_complaint(error)) from error


def _complaint(error: ValueError) -> str:
    """The first mistake that the library's models found, by its place; any other error's own words."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return str(error)
    first = errors()[0]
    return f"engine parameter {'.'.join(map(str, first['loc']))!r}: {first['msg']}"


def _checkpoint_quantization(config: Mapping[str, Any]) -> str:
    method = (config.get("quantization_config") or {}).get("quant_method")
    return str(method or "none")


def _inside(values: Mapping[str, Any], name: str, key: str) -> Any:
    inner = values.get(name)
    return inner.get(key) if isinstance(inner, Mapping) else None


def _told(holder: Any, known: Sequence[Parameter], group: str) -> dict[str, Any]:
    """The values of every parameter that can be set, read from the library's own object."""
    rows = [row.name for row in known if row.group == group and not row.refused and hasattr(holder, row.name)]
    return {name: _as_json(getattr(holder, name)) for name in rows}


def _as_json(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else getattr(value, "value", value)
