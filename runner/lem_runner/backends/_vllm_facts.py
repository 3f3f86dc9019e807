"""What vLLM says of itself: the shape its workers loaded, and what its configuration was resolved to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def model_facts(workers: Sequence[dict[str, Any]], model_dtype: str) -> dict[str, Any]:
    """The workers' shares together (`WorkerProbe.lem_facts`). `dtype` is that of most weights, where they are known."""
    is_whole = all(worker["parameters"] is not None for worker in workers)
    weights_b: Counter[str] = Counter()
    for worker in workers:
        weights_b.update(worker["weights_b_by_dtype"] or {})
    return {
        "architecture": workers[0]["architecture"],
        "dtype": weights_b.most_common(1)[0][0] if is_whole else model_dtype,
        "weights_b_by_dtype": dict(weights_b) if is_whole else None,
        "weights_b": sum(weights_b.values()) if is_whole else None,
        "parameters": sum(worker["parameters"] for worker in workers) if is_whole else None,
        "attention": workers[0]["attention"],
        "devices": sorted({worker["device"] for worker in workers}),
        "device_name": workers[0]["device_name"],
        "num_threads": workers[0]["num_threads"],
        "workers": len(workers),
    }


def dtype_name(dtype: Any) -> str:
    """`float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def told(config: Any) -> dict[str, Any]:
    """Engine parameters by their own names, as the engine's VllmConfig holds them after the start."""
    model, cache, scheduler = config.model_config, config.cache_config, config.scheduler_config
    parallel, load, compilation = config.parallel_config, config.load_config, config.compilation_config
    speculation, lora = config.speculative_config, config.lora_config
    return {
        "dtype": dtype_name(model.dtype),
        "max_model_len": model.max_model_len,
        "quantization": model.quantization,
        "enforce_eager": model.enforce_eager,
        "seed": model.seed,
        "model_impl": model.model_impl,
        "load_format": str(getattr(load.load_format, "value", load.load_format)),
        "kv_cache_dtype": cache.cache_dtype,
        "block_size": cache.block_size,
        "num_gpu_blocks": cache.num_gpu_blocks,
        "kv_cache_memory_bytes": cache.kv_cache_memory_bytes,
        "gpu_memory_utilization": cache.gpu_memory_utilization,
        "enable_prefix_caching": cache.enable_prefix_caching,
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "enable_chunked_prefill": scheduler.enable_chunked_prefill,
        "async_scheduling": scheduler.async_scheduling,
        "stream_interval": scheduler.stream_interval,
        "scheduling_policy": scheduler.policy,
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "data_parallel_size": parallel.data_parallel_size,
        "distributed_executor_backend": str(parallel.distributed_executor_backend),
        "compilation_mode": getattr(compilation.mode, "name", compilation.mode),
        "cudagraph_mode": getattr(compilation.cudagraph_mode, "name", None),
        "speculative_config": None
        if speculation is None
        else {"method": speculation.method, "num_speculative_tokens": speculation.num_speculative_tokens},
        "max_lora_rank": None if lora is None else lora.max_lora_rank,
    }
