"""What stands in for the engine: it batches requests in an event loop and makes tokens that follow from their prompts.

Greedy: token `n` is `(sum of the prompt + 7 n) % vocabulary`; drawn: by the seed. A model folder's `config.json` may
hold `standin: {fault: ..., step_s: ...}`.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class RequestError(RuntimeError):
    """One request failed; the engine is well."""


def greedy(ids: list[int], count: int, vocabulary: int) -> list[int]:
    return [(sum(ids) + 7 * place) % vocabulary for place in range(count)]


class Result:
    """As `RequestOutput`: an asynchronous iterator whose parts hold all tokens so far."""

    def __init__(self, owner: Engine, ids: list[int], sampling: Any, streaming: bool) -> None:
        # The library makes the queue of a result for the loop that runs when it is asked.
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._owner, self._ids, self._sampling, self._streaming = owner, ids, sampling, streaming
        self._grown = asyncio.Condition()
        self._seen, self._is_done, self._error = 0, False, None
        self._arrival_s = time.monotonic()
        self.outputs = [SimpleNamespace(token_ids=[], finish_reason=None, request_perf_metrics=None)]

    def abort(self) -> None:
        self._task.cancel()

    async def aresult(self) -> Result:
        async for _ in self:
            pass
        return self

    def __aiter__(self) -> Result:
        return self

    async def __anext__(self) -> Result:
        output = self.outputs[0]
        async with self._grown:
            await self._grown.wait_for(lambda: self._is_done or len(output.token_ids) > self._seen)
        if self._error is not None:
            raise self._error
        if self._is_done and self._seen == len(output.token_ids):
            raise StopAsyncIteration
        self._seen = len(output.token_ids)
        return self

    async def _work(self) -> None:
        output, sampling = self.outputs[0], self._sampling
        try:
            async with self._owner.slots:
                scheduled_s = time.monotonic()
                if self._owner.fault == "request" and sum(self._ids) % 2:
                    raise RequestError("the stand-in fails this request")
                if self._owner.fault == "engine":
                    raise RuntimeError("Executor worker died: CUDA runtime error in cudaMallocAsync: out of memory")
                tokens = self._tokens()
                for place in range(len(tokens)):
                    await asyncio.sleep(self._owner.step_s)
                    if place == 0:
                        first_s = time.monotonic()
                    async with self._grown:
                        output.token_ids = tokens[: place + 1]
                        self._grown.notify_all()
            output.finish_reason = "length" if len(tokens) == sampling.max_tokens else "stop"
            if sampling.return_perf_metrics and self._owner.args.return_perf_metrics:
                output.request_perf_metrics = self._metrics(scheduled_s, first_s)
        except asyncio.CancelledError:
            output.finish_reason = "cancelled"
        except Exception as error:  # noqa: BLE001 - raised to whoever reads the result
            self._error = error
        async with self._grown:
            self._is_done = True
            self._grown.notify_all()

    def _tokens(self) -> list[int]:
        sampling, vocabulary = self._sampling, self._owner.vocabulary
        is_greedy = sampling.top_k == 1 or (sampling.temperature is None and sampling.top_p is None)
        count = sampling.max_tokens
        if not sampling.ignore_eos:
            count = 1 + sum(self._ids) % count
        if is_greedy:
            tokens = greedy(self._ids, count, vocabulary)
        else:
            draw = random.Random(f"{sampling.seed}:{self._ids}")
            tokens = [draw.randrange(vocabulary) for _ in range(count)]
        if count < sampling.max_tokens:
            tokens[-1] = sampling.end_id
        return tokens

    def _metrics(self, scheduled_s: float, first_s: float) -> Any:
        """Times are durations since boot, as the library's steady clock gives them."""

        def since_boot(seconds: float) -> datetime.timedelta:
            return datetime.timedelta(seconds=seconds)

        blocks = -(-len(self._ids) // 32)
        keeps = self._owner.args.kv_cache_config.enable_block_reuse
        reused = blocks if keeps and self._owner.has_seen(self._ids) else 0
        return SimpleNamespace(
            timing_metrics=SimpleNamespace(
                arrival_time=since_boot(self._arrival_s),
                first_scheduled_time=since_boot(scheduled_s),
                first_token_time=since_boot(first_s),
                last_token_time=since_boot(time.monotonic()),
            ),
            kv_cache_metrics=SimpleNamespace(num_reused_blocks=reused, num_missed_blocks=blocks - reused),
        )


class Engine:
    """Both classes named `LLM`."""

    args_class: Any = None

    def __init__(self, model: str, tokenizer: Any = None, **given: Any) -> None:
        self.args = self.args_class(model=model, tokenizer=tokenizer, **given)
        config = json.loads((Path(model) / "config.json").read_text())
        standin = config.get("standin", {})
        self.fault, self.step_s = standin.get("fault"), standin.get("step_s", 0.001)
        if self.fault == "load":
            raise RuntimeError("Failed to initialize executor: CUDA out of memory. Tried to allocate 9.00 GiB")
        self.args.dtype = standin.get("runs_with", self.args.dtype)
        self.vocabulary = config["vocab_size"]
        self.slots = asyncio.Semaphore(self.args.max_batch_size or 2048)
        self._seen: set[tuple[int, ...]] = set()

    def has_seen(self, ids: list[int]) -> bool:
        is_known = tuple(ids) in self._seen
        self._seen.add(tuple(ids))
        return is_known

    def generate_async(self, inputs: list[int], sampling_params: Any = None, streaming: bool = False) -> Result:
        if sampling_params.end_id is None:
            raise ValueError("tokenizer is required to reset end_id if it is None")
        return Result(self, inputs, sampling_params, streaming)

    def get_stats(self, timeout: float | None = 2) -> list[str]:
        return [json.dumps({"gpuMemUsage": 123456, "kvCacheStats": {"usedNumBlocks": 5, "maxNumBlocks": 20}})]

    def shutdown(self) -> None:
        (Path(self.args.model) / "shut-down").touch()
