"""Requests in flight: TensorRT-LLM's asynchronous results, gathered by an event loop in a thread of its own.

The library ties a result to the event loop in which it was asked for, so everything about requests happens in that
thread; what ended is handed over by a queue.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lem_runner.backends import Generated
from lem_runner.results import StopReason

STOP_TIMEOUT_S = 30.0
_STOPS: dict[str, StopReason] = {"length": "length", "stop": "eos", "cancelled": "cancelled", "timeout": "cancelled"}


@dataclass
class KvBlocks:
    """Blocks of the prompt's cache since they were last asked for."""

    reused: int = 0
    missed: int = 0

    def hit_rate(self) -> float | None:
        """Share of blocks found in the cache; None where no request told."""
        looked_up = self.reused + self.missed
        return self.reused / looked_up if looked_up else None


class Requests:
    """The requests of one engine. Called from the runner's thread alone."""

    def __init__(self, tokens_per_block: int) -> None:
        self.blocks = KvBlocks()
        self._tokens_per_block = tokens_per_block
        self._loop = asyncio.new_event_loop()
        self._ended: queue.SimpleQueue[tuple[int, Generated] | BaseException] = queue.SimpleQueue()
        self._in_flight: dict[asyncio.Task[None], Any] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="tensorrt-requests", daemon=True)
        self._thread.start()

    def submit(self, request: int, ask: Callable[[], Any], streams: bool) -> None:
        """`ask` hands the request to the library, in the thread of the loop, and returns its result object."""
        self._loop.call_soon_threadsafe(self._begin, request, ask, streams)

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """What ended since the last call; raises what the library raised."""
        found: list[tuple[int, Generated]] = []
        try:
            found.append(self._taken(self._ended.get(timeout=timeout_s)))
            while True:
                found.append(self._taken(self._ended.get_nowait()))
        except queue.Empty:
            return found

    def abandon(self) -> None:
        """Abort what is in flight, wait for it to end, forget it."""
        asyncio.run_coroutine_threadsafe(self._abort_all(), self._loop).result(STOP_TIMEOUT_S)
        while not self._ended.empty():
            self._ended.get_nowait()

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_TIMEOUT_S)

    @staticmethod
    def _taken(item: tuple[int, Generated] | BaseException) -> tuple[int, Generated]:
        if isinstance(item, BaseException):
            raise item
        return item

    def _begin(self, request: int, ask: Callable[[], Any], streams: bool) -> None:
        try:
            result = ask()
        except Exception as error:  # noqa: BLE001 - raised again in the runner's thread
            self._ended.put(error)
            return
        task = self._loop.create_task(self._follow(request, result, streams))
        self._in_flight[task] = result
        task.add_done_callback(lambda done: self._in_flight.pop(done, None))

    async def _follow(self, request: int, result: Any, streams: bool) -> None:
        token_ns: list[int] = []
        try:
            if streams:
                async for part in result:
                    now_ns = time.monotonic_ns()
                    token_ns.extend([now_ns] * (len(part.outputs[0].token_ids) - len(token_ns)))
            else:
                await result.aresult()
            self._ended.put((request, self._generated(result.outputs[0], token_ns if streams else None)))
        except Exception as error:  # noqa: BLE001 - raised again in the runner's thread
            # The library's own word for one request that failed while the engine is well.
            if type(error).__name__ == "RequestError":
                self._ended.put((request, Generated([], None, time.monotonic_ns(), None, "error")))
            else:
                self._ended.put(error)

    async def _abort_all(self) -> None:
        for result in self._in_flight.values():
            result.abort()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _generated(self, output: Any, token_ns: list[int] | None) -> Generated:
        tokens = list(output.token_ids)
        t_end_ns = token_ns[-1] if token_ns else time.monotonic_ns()
        timing, blocks = _metrics(output)
        cached = None
        if blocks is not None:
            self.blocks.reused += blocks.num_reused_blocks
            self.blocks.missed += blocks.num_missed_blocks
            cached = blocks.num_reused_blocks * self._tokens_per_block
        return Generated(
            tokens,
            token_ns[0] if token_ns else None,
            t_end_ns,
            token_ns if token_ns and len(token_ns) == len(tokens) else None,
            _STOPS.get(output.finish_reason or "", "error"),
            queue_s=_between(timing, "arrival_time", "first_scheduled_time"),
            prefill_s=_between(timing, "first_scheduled_time", "first_token_time"),
            cached_tokens=cached,
        )


def _metrics(output: Any) -> tuple[Any, Any]:
    metrics = getattr(output, "request_perf_metrics", None)
    return getattr(metrics, "timing_metrics", None), getattr(metrics, "kv_cache_metrics", None)


def _between(timing: Any, begin: str, end: str) -> float | None:
    """Seconds between two of the library's times (`timedelta` since boot); None where it did not take both."""
    times = getattr(timing, begin, None), getattr(timing, end, None)
    if times[0] is None or times[1] is None:
        return None
    seconds: float = (times[1] - times[0]).total_seconds()
    return seconds if seconds >= 0 else None
