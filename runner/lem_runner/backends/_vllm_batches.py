"""Batches through vLLM's synchronous engine, as its `LLM.generate` takes them.

The asynchronous one carries every token of every step through two processes and an event loop: on two cores it makes a
quarter fewer tokens of the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lem_runner.backends import Generated
from lem_runner.backends._vllm_counts import Ledger
from lem_runner.backends._vllm_requests import generated, in_ns


class BatchFront:
    """An LLMEngine, driven step by step on the caller's thread. What the engine raises is raised as it is."""

    def __init__(self, arguments: dict[str, Any], ledger: Ledger) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        # Without its figures it tells no times of a request.
        own = EngineArgs(**{**arguments, "disable_log_stats": False})
        logger = ledger.logger()
        self._llm: Any = LLMEngine.from_engine_args(own, stat_loggers=[logger])
        # With figures it also gets a logger that prints throughputs in mid-window.
        loggers = self._llm.logger_manager
        loggers.stat_loggers = [one for one in loggers.stat_loggers if isinstance(one, logger)]
        self._ledger = ledger
        self._token_ns: dict[str, list[int]] = {}
        self._listen()

    def _listen(self) -> None:
        """Keep the time of each token as the engine's core tells it. Its outputs for us are made at the end alone: one
        for each request and step costs some per cent of the tokens/s of a small model."""
        core = self._llm.engine_core
        take = core.get_output

        def get_output() -> Any:
            outputs = take()
            t_ns = in_ns(outputs.timestamp)
            for one in outputs.outputs:
                self._token_ns[one.request_id] += [t_ns] * len(one.new_token_ids)
            return outputs

        core.get_output = get_output

    @property
    def config(self) -> Any:
        """vLLM's VllmConfig."""
        return self._llm.vllm_config

    def add(self, name: str, ids: list[int], params: Any, adapter: Any) -> str:
        """Hand one request over; the engine's own name for it. `name` is unlike every other in the engine's life."""
        prompt = {"type": "token", "prompt_token_ids": ids}
        given: str = self._llm.add_request(name, prompt, params, lora_request=adapter)
        self._token_ns[given] = []
        return given

    def run(self, names: Sequence[str], given: Sequence[str], eos: frozenset[int]) -> list[Generated]:
        """Step until every request has ended; in the order of `names`, which `add` took and called `given`."""
        last: dict[str, Any] = {}
        while self._llm.has_unfinished_requests():
            for output in self._llm.step():
                if output.finished:
                    last[output.request_id] = output
        return [
            generated(list(last[name].outputs[0].token_ids), self._token_ns.pop(own), last[name], eos)
            for name, own in zip(names, given, strict=True)
        ]

    def drop(self, given: Sequence[str]) -> None:
        """Forget requests that were added and did not run."""
        self._llm.abort_request(list(given), internal=True)
        for own in given:
            self._token_ns.pop(own, None)

    def ask_workers(self, method: str) -> list[Any]:
        """Call a method of `_vllm_worker.WorkerProbe` in every worker."""
        answers: list[Any] = self._llm.collective_rpc(method)
        return answers

    def reset_prefix_cache(self) -> bool:
        """Whether it is empty now."""
        return bool(self._llm.reset_prefix_cache())

    def gauges(self) -> dict[str, float | None]:
        """Since the last call."""
        return self._ledger.take()

    def close(self) -> None:
        """Give everything back."""
        self._llm.engine_core.shutdown()
