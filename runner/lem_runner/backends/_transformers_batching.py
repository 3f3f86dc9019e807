"""transformers' continuous batching: requests one by one, their tokens and times as they come.

The library's manager works on a thread of its own; what it holds on the device is made when an attempt is admitted, so
that nothing is allocated in a window. Its clock is `time.perf_counter`, on Linux the same as `time.monotonic`.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lem_runner.backends import Generated
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, TypeName

#: Fields of ContinuousBatchingConfig are offered as engine parameters of this prefix.
PREFIX = "cb_"
_DEPRECATED = "the library has given it up"
#: Fields that cannot be set, and why. What is named nowhere here can be.
NOT_OFFERED: dict[str, str] = {
    **dict.fromkeys(("use_default_compile_configs", "max_cached_graphs", "block_size"), _DEPRECATED),
    **dict.fromkeys(("varlen_compile_config", "decode_compile_config"), "set cb_default_compile_level"),
    **dict.fromkeys(("cpu_group_timeout", "disable_nccl_graph_mixing"), "there is one process"),
    **dict.fromkeys(("per_request_processors", "drop_unsupported_processors"), "all requests are drawn alike"),
    "return_logprobs": "it changes what is returned, not what is computed",
    "seed": "the seed of sampling is the workload's",
    "max_queue_size": "the load decides what waits",
}
#: Ours, where the library would change the work behind a campaign's back.
_OWN_DEFAULTS: dict[str, tuple[Any, str]] = {
    "allow_block_sharing": (False, "prefix caching; the library's default is true"),
    "auto_switch_to_flash": (False, "the attention implementation stays as loaded; the library's default is true"),
}
#: On a CPU the library would take most of the host's memory for the cache: enough for so many requests at a time.
_CPU_REQUESTS, _CPU_BATCH_TOKENS = 64, 512
#: The library's own fallback for requests in one step (continuous_batching/initialization.py).
_GPU_REQUESTS = 1024
_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "page_size": (4, None),
    "num_blocks": (1, None),
    "max_batch_tokens": (1, None),
    "max_memory_percent": (0, 1),
    "max_requests_per_batch": (1, None),
    "max_blocks_per_request": (0, None),
    "default_compile_level": (0, 3),
    "safety_margin": (0, 1),
    "cpu_offload_space": (0, None),
    "cpu_offload_space_safety_threshold": (0, 1),
}
#: How often the use of the cache is looked at while a request is waited for, in seconds.
_LOOK_S = 0.02
_CHOICES = {"scheduler_type": ("fifo", "prefill_first")}
_TYPES: tuple[TypeName, ...] = ("bool", "int", "float", "str")
#: What this way of decoding cannot do, by the field of GenerationConfig and its one possible value.
_MODES: dict[str, Any] = {
    "num_beams": 1,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "use_mtp": None,
    "guidance_scale": None,
    "cache_implementation": None,
    "use_cache": True,
}


def batching_parameters() -> list[Parameter]:
    """Every field of the installed ContinuousBatchingConfig; those that cannot be set with the reason."""
    from transformers import ContinuousBatchingConfig

    return [_parameter(field) for field in dataclasses.fields(ContinuousBatchingConfig)]


def _parameter(field: dataclasses.Field[Any]) -> Parameter:
    default, doc = _OWN_DEFAULTS.get(field.name, (field.default, "continuous batching"))
    minimum, maximum = _BOUNDS.get(field.name, (None, None))
    return Parameter(
        name=PREFIX + field.name,
        type=_type_name(str(field.type)),
        default=default,
        group="engine",
        doc=doc,
        stability="beta",
        choices=_CHOICES.get(field.name),
        minimum=minimum,
        maximum=maximum,
        refused=NOT_OFFERED.get(field.name, ""),
    )


def _type_name(written: str) -> TypeName:
    """Of `int | None` or `<class 'int'>`; `any` where several types are possible."""
    if "tuple" in written:
        return "any"
    return next((kind for kind in _TYPES if kind in written), "any")


def request_limit(settings: Mapping[str, Any], device: str) -> int:
    """Requests in one step at most, as far as it is known before the cache is made."""
    return int(settings[PREFIX + "max_requests_per_batch"] or (_CPU_REQUESTS if device == "cpu" else _GPU_REQUESTS))


class Batcher:
    """One running manager, for one way of decoding. Called from one thread."""

    def __init__(self, model: Any, generation: Any, settings: Mapping[str, Any], longest: int) -> None:
        """`longest`: tokens of the longest request, prompt and output. Raises what the library raises, `MemoryError`
        where the cache does not fit."""
        _check_modes(generation)
        self._generation = copy.deepcopy(generation)
        self._eos: list[int] = list(generation.eos_token_id or ())
        self._manager = _make_manager(model, self._generation, _config(model, settings, longest))
        unable = _unsupported_processors(self._manager)
        if unable:
            self._manager.destroy()
            raise BadRequestError(f"continuous batching has no {', '.join(unable)}: leave that sampling parameter out")
        self._manager.warmup()
        self._hits = _PrefixHits(self._manager.batch_processor.cache)
        self._manager.start()
        self._in_flight: set[int] = set()
        self._peak_use: float | None = None

    @property
    def limit(self) -> int:
        """Requests in one step, at most."""
        return int(self._manager.continuous_batching_config.max_requests_per_batch)

    @property
    def shares_prefixes(self) -> bool:
        """Whether requests may take blocks of earlier ones: not every model's cache can, even where it is allowed."""
        return bool(self._manager.batch_processor.cache.use_prefix_sharing)

    def submit(self, request: int, ids: list[int], max_new_tokens: int, seed: int) -> None:
        """Hand one request over. Sampling is seeded where nothing is in flight: later draws depend on who shares a
        step with whom."""
        import torch

        if not self._in_flight:
            torch.manual_seed(seed)
        self._hits.expect(str(request), len(ids))
        accepted = self._manager.add_request(
            ids,
            request_id=str(request),
            max_new_tokens=max_new_tokens,
            record_timestamps=True,
            eos_token_id=self._eos or -1,
        )
        if accepted is None:
            self._raise_fatal()
            raise RuntimeError("continuous batching takes no more requests")
        self._in_flight.add(request)

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """What ended since the last call; waits at most `timeout_s` for the first."""
        ended = []
        output = self._first_result(time.monotonic() + timeout_s)
        while output is not None:
            if output.is_finished():
                self._raise_fatal()
                request = int(output.request_id)
                self._in_flight.discard(request)
                ended.append((request, _generated(output, self._eos, self._hits.take(output.request_id))))
            output = self._manager.get_result(timeout=0)
        if not ended:
            self._raise_fatal()
        return ended

    def forget_prompts(self) -> None:
        """Empty the cache of blocks kept for sharing. With nothing in flight: what is in flight would lose its own."""
        assert not self._in_flight, "a window begins with nothing in flight"
        if self._manager.continuous_batching_config.allow_block_sharing:
            with self._manager.pause():
                self._manager.batch_processor.cache.reset()

    def gauges(self) -> dict[str, float | None]:
        """The highest share of the cache in use since the last call, as seen whenever a request was waited for."""
        peak, self._peak_use = self._peak_use, None
        return {"kv_cache_usage": peak}

    def in_force(self) -> dict[str, Any]:
        """The library's configuration as it has resolved it."""
        config = self._manager.continuous_batching_config
        names = [field.name for field in dataclasses.fields(config) if field.name not in NOT_OFFERED]
        return {name: getattr(config, name) for name in names}

    def close(self) -> None:
        """Drop what is in flight and give the cache back."""
        self._manager.stop(block=True, hard_stop=True)
        self._manager.destroy()
        self._in_flight.clear()

    def _first_result(self, until_s: float) -> Any:
        """The next output, None when there is none by then; the cache is looked at meanwhile."""
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            output = self._manager.get_result(timeout=min(_LOOK_S, left_s))
            processor = self._manager.batch_processor
            if processor is not None:
                self._peak_use = max(self._peak_use or 0.0, 1.0 - processor.cache.compute_free_capacity())
            if output is not None or left_s <= _LOOK_S:
                return output

    def _raise_fatal(self) -> None:
        error = self._manager.background_thread_status.fatal_error
        if error is not None:
            raise error


class _PrefixHits:
    """Prompt tokens that each request in flight took from shared blocks.

    The library tells them nowhere, so its search is listened to, which is in its own thread. Where nothing is shared it
    never searches, and the count is 0; where it shares and did not search, nobody knows.
    """

    def __init__(self, cache: Any) -> None:
        self._unheard = None if cache.use_prefix_sharing else 0
        self._search = cache.search_prefix_match
        self._prompt_tokens: dict[str, int] = {}
        self._found: dict[str, int] = {}
        cache.search_prefix_match = self._listen

    def expect(self, request: str, prompt_tokens: int) -> None:
        """Before it is handed over."""
        self._prompt_tokens[request] = prompt_tokens

    def take(self, request: str) -> int | None:
        """What it found; it is forgotten then."""
        self._prompt_tokens.pop(request, None)
        return self._found.pop(request, self._unheard)

    def _listen(self, request: str, ids: list[int]) -> int:
        found: int = self._search(request, ids)
        # One that was evicted searches again, longer by what it has made: those blocks are its own.
        if len(ids) == self._prompt_tokens.get(request):
            self._found[request] = found
        return found


def _make_manager(model: Any, generation: Any, config: Any) -> Any:
    return model.init_continuous_batching(generation_config=generation, continuous_batching_config=config)


def _config(model: Any, settings: Mapping[str, Any], longest: int) -> Any:
    from transformers import ContinuousBatchingConfig

    given = {
        name.removeprefix(PREFIX): value
        for name, value in settings.items()
        if name.startswith(PREFIX) and value is not None
    }
    if model.device.type == "cpu":
        given["max_requests_per_batch"] = request_limit(settings, "cpu")
        given.setdefault("max_batch_tokens", _CPU_BATCH_TOKENS)
        pages = -(-longest // given["page_size"]) + 1
        given.setdefault("num_blocks", given["max_requests_per_batch"] * pages)
    return ContinuousBatchingConfig(**given, drop_unsupported_processors=False)


def _check_modes(generation: Any) -> None:
    for name, only in _MODES.items():
        value = getattr(generation, name, None)
        if value is not None and value != only:
            raise BadRequestError(f"parameter {name!r} is not for continuous batching: set batching static or dynamic")


def _unsupported_processors(manager: Any) -> list[str]:
    """Those that the library marks as not able to; of one it does not know, it keeps and uses it."""
    processors: Sequence[Any] = manager.logit_processor.logits_processor
    return [type(one).__name__ for one in processors if getattr(one, "supports_continuous_batching", None) is False]


def _generated(output: Any, eos: list[int], cached_tokens: int | None) -> Generated:
    if output.error is not None:
        return Generated([], None, time.monotonic_ns(), None, "error")
    tokens = list(output.generated_tokens)
    token_ns = [round(t_s * 1e9) for t_s in output.timestamps or ()]
    begun_s, end_s = output.lifespan
    # One that was evicted from a full cache and begun anew has lost the times of its first tokens.
    has_times = bool(token_ns) and len(token_ns) == len(tokens)
    return Generated(
        tokens=tokens,
        t_first_ns=token_ns[0] if has_times else None,
        t_end_ns=token_ns[-1] if has_times else round(end_s * 1e9),
        token_ns=token_ns if has_times else None,
        stop="eos" if tokens and tokens[-1] in eos else "length",
        queue_s=begun_s - output.created_time,
        prefill_s=token_ns[0] / 1e9 - begun_s if has_times else None,
        cached_tokens=cached_tokens,
    )
