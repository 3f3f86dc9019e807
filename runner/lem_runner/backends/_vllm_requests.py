"""One request in vLLM's asynchronous engine, from its prompt to its `Generated`."""

from __future__ import annotations

from typing import Any

from lem_runner.backends import Generated
from lem_runner.results import StopReason

_NS_PER_S = 1_000_000_000


async def follow(llm: Any, name: str, ids: list[int], params: Any, eos: frozenset[int], adapter: Any) -> Generated:
    """Serve one request to its end. Cancelled, it is aborted in the engine.

    The times are those of the engine's own process when the step with the token had ended (its `metrics`; monotonic, so
    of the runner's clock). Tokens of one step, or of several where the event loop is behind, share a time.
    """
    tokens: list[int] = []
    token_ns: list[int] = []
    last: Any = None
    async for output in llm.generate({"type": "token", "prompt_token_ids": ids}, params, name, lora_request=adapter):
        made = output.outputs[0].token_ids
        tokens += made
        token_ns += [round(output.metrics.last_token_ts * _NS_PER_S)] * len(made)
        last = output
    times, ended = last.metrics, last.outputs[0]
    if not tokens:
        return Generated([], None, round(times.queued_ts * _NS_PER_S), None, "error")
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


def _stop_reason(finish: str | None, stop: Any, eos: frozenset[int]) -> StopReason:
    if finish == "length":
        return "length"
    if finish == "stop":
        return "eos" if stop in eos else "stop"
    return "cancelled" if finish == "abort" else "error" if finish == "error" else "stop"
