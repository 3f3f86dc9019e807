"""Requests one by one through vLLM's asynchronous engine, which works in a process of its own.

Here is the thread of its event loop, which keeps what becomes of each request.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine
from typing import Any

from lem_runner.backends import Generated
from lem_runner.backends._vllm_counts import Ledger
from lem_runner.results import StopReason

#: How long the engine may take to answer a question between two steps, in seconds; a step of a large prefill is long.
CALL_TIMEOUT_S = 300.0
#: How long its processes have to end by themselves, in seconds.
SHUTDOWN_TIMEOUT_S = 2.0
_NS_PER_S = 1_000_000_000


class RequestFront:
    """An AsyncLLM and its event loop. What the engine raises is raised as it is."""

    def __init__(self, arguments: dict[str, Any], ledger: Ledger) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._ledger = ledger
        self._loop = asyncio.new_event_loop()
        self._ended: queue.SimpleQueue[tuple[int, Generated | Exception]] = queue.SimpleQueue()
        self._following: dict[int, asyncio.Task[None]] = {}
        self._llm: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), stat_loggers=[ledger.logger()])
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()

    @property
    def config(self) -> Any:
        """vLLM's VllmConfig."""
        return self._llm.vllm_config

    @property
    def death(self) -> Exception | None:
        """What tells that the engine's process is gone; None while it is there."""
        return self._llm.dead_error if self._llm.errored else None

    def submit(self, request: int, name: str, ids: list[int], params: Any, eos: frozenset[int], adapter: Any) -> None:
        """To the event loop, which hands it to the engine's process; that takes it up between two steps. `name` is
        unlike every other in the engine's life."""
        self._loop.call_soon_threadsafe(self._follow, request, name, ids, params, eos, adapter)

    def _follow(self, request: int, name: str, ids: list[int], params: Any, eos: frozenset[int], adapter: Any) -> None:
        """On the event loop: keep what becomes of one request, and put it where `finished` looks."""

        async def run() -> None:
            try:
                ended: Generated | Exception = await follow(self._llm, name, ids, params, eos, adapter)
            except Exception as error:  # noqa: BLE001 - judged by whoever asks, on the caller's thread
                ended = error
            del self._following[request]
            self._ended.put((request, ended))

        self._following[request] = self._loop.create_task(run())

    def finished(self, timeout_s: float) -> list[tuple[int, Generated | Exception]]:
        """What ended since the last call; waits at most that long for the first."""
        found: list[tuple[int, Generated | Exception]] = []
        try:
            found.append(self._ended.get(timeout=timeout_s))
            while True:
                found.append(self._ended.get_nowait())
        except queue.Empty:
            return found

    def abandon(self) -> None:
        """Cancel what is in flight; the engine answers the next question when it has dropped it."""
        self._call(self._cancel_all())
        self.ask_workers("lem_synchronize")
        while not self._ended.empty():
            self._ended.get_nowait()

    async def _cancel_all(self) -> None:
        tasks = list(self._following.values())
        for task in tasks:
            task.cancel()
        # A cancelled request is aborted in the engine by its own task.
        await asyncio.gather(*tasks, return_exceptions=True)
        self._following.clear()

    def ask_workers(self, method: str) -> list[Any]:
        """Call a method of `_vllm_worker.WorkerProbe` in every worker, between two steps."""
        answers: list[Any] = self._call(self._llm.collective_rpc(method))
        return answers

    def reset_prefix_cache(self) -> bool:
        """Whether it is empty now: blocks of requests in flight stay."""
        return bool(self._call(self._llm.reset_prefix_cache()))

    def gauges(self) -> dict[str, float | None]:
        """Counted on the event loop, so taken there."""

        async def take() -> dict[str, float | None]:
            return self._ledger.take()

        found: dict[str, float | None] = self._call(take())
        return found

    def close(self) -> None:
        """End the engine's processes and the event loop."""
        self._llm.shutdown(timeout=SHUTDOWN_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)


async def follow(llm: Any, name: str, ids: list[int], params: Any, eos: frozenset[int], adapter: Any) -> Generated:
    """Serve one request to its end. Cancelled, it is aborted in the engine."""
    tokens: list[int] = []
    token_ns: list[int] = []
    last: Any = None
    async for output in llm.generate({"type": "token", "prompt_token_ids": ids}, params, name, lora_request=adapter):
        made = output.outputs[0].token_ids
        tokens += made
        # Of several steps, where the event loop is behind, they share a time.
        token_ns += [in_ns(output.metrics.last_token_ts)] * len(made)
        last = output
    return generated(tokens, token_ns, last, eos)


def generated(tokens: list[int], token_ns: list[int], last: Any, eos: frozenset[int]) -> Generated:
    """What became of a request whose last output is `last`.

    The times are those of the engine's own process when the step with the token had ended (its `metrics`; monotonic, so
    of the runner's clock). Tokens of one step share a time.
    """
    times, ended = last.metrics, last.outputs[0]
    if not tokens:
        return Generated([], None, in_ns(times.queued_ts), None, "error")
    return Generated(
        tokens=tokens,
        t_first_ns=token_ns[0],
        t_end_ns=token_ns[-1],
        token_ns=token_ns,
        stop=_stop_reason(ended.finish_reason, ended.stop_reason, eos),
        queue_s=times.scheduled_ts - times.queued_ts,
        prefill_s=times.first_token_ts - times.scheduled_ts,
        cached_tokens=last.num_cached_tokens,
    )


def in_ns(t_s: float) -> int:
    """Of a time in seconds."""
    return round(t_s * _NS_PER_S)


def _stop_reason(finish: str | None, stop: Any, eos: frozenset[int]) -> StopReason:
    if finish == "length":
        return "length"
    if finish == "stop":
        return "eos" if stop in eos else "stop"
    return "cancelled" if finish == "abort" else "error" if finish == "error" else "stop"
