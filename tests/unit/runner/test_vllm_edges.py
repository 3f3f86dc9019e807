"""The parts of the vLLM backend that need no vLLM: causes read from its log, requests followed, counts summed."""

from __future__ import annotations

import asyncio
import json
import logging.config
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lem_runner.backends import Decoding, Generated, _vllm_faults, vllm
from lem_runner.backends._vllm_counts import Counts, Ledger
from lem_runner.backends._vllm_facts import model_facts
from lem_runner.backends._vllm_faults import FaultLog, translated
from lem_runner.backends._vllm_requests import follow
from lem_runner.failures import BadRequestError, EngineLostError, failure_of
from lem_runner.prompts import Prompt


class EngineDeadError(Exception):
    """As vLLM names it."""


class VLLMValidationError(Exception):
    """As vLLM names it; not a ValueError."""


DEAD = EngineDeadError("EngineCore encountered an issue. See stack trace (above) for the root cause.")


def written(folder: Path, error: Exception) -> FaultLog:
    """The log of a dead process, as vLLM's own logging writes it with our configuration."""
    log = FaultLog(folder)
    logging.config.dictConfig(json.loads(log.config.read_text()))
    try:
        raise error
    except Exception:
        logging.getLogger("vllm.v1.engine.core").exception("EngineCore encountered a fatal error.")
    finally:
        for handler in logging.getLogger("vllm").handlers[:]:
            handler.close()
            logging.getLogger("vllm").removeHandler(handler)
    return log


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB."), "oom_gpu"),
        (ValueError("No available memory for the cache blocks."), "oom_gpu"),
        (RuntimeError("[enforce fail at alloc] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "oom_host"),
        (ValueError("Head size 12 is not supported"), "bad_request"),
        (VLLMValidationError("top_p must be in (0, 1]"), "bad_request"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "engine_error"),
        (RuntimeError("shape mismatch"), "engine_error"),
    ],
)
def test_the_cause_is_read_from_the_log_of_the_dead(tmp_path: Path, error: Exception, kind: str) -> None:
    lost = written(tmp_path, error).lost(DEAD)
    failure = failure_of(lost, is_loading=False)
    assert failure.kind == kind
    assert str(error) in failure.message
    assert failure.fatal


def test_without_a_log_the_end_itself_is_told(tmp_path: Path) -> None:
    lost = FaultLog(tmp_path).lost(DEAD)
    assert isinstance(lost, EngineLostError)
    assert "EngineCore encountered an issue" in str(lost)


def test_a_process_that_the_kernel_ended_for_memory_is_host_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([4, 5])
    monkeypatch.setattr(_vllm_faults.oom, "oom_kills", lambda: next(counts))
    assert failure_of(FaultLog(tmp_path).lost(DEAD), is_loading=False).kind == "oom_host"


def test_refusals_are_bad_requests_and_nothing_else_is() -> None:
    with pytest.raises(BadRequestError, match="no such thing"), translated():
        raise VLLMValidationError("no such thing\nmore")
    with pytest.raises(KeyError), translated():
        raise KeyError("x")


@pytest.mark.parametrize(
    "text",
    [
        "_C::static_scaled_fp8_quant() expected at most 0 argument(s) but received 4 argument(s). Declaration: ()",
        "'_OpNamespace' '_C' object has no attribute 'static_scaled_fp8_quant'",
    ],
)
def test_a_kernel_that_the_build_lacks_is_a_refusal(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadRequestError, match="no kernel static_scaled_fp8_quant"), translated():
        raise RuntimeError(text)
    lost = written(tmp_path, AttributeError(text)).lost(DEAD)
    assert failure_of(lost, is_loading=False).kind == "bad_request"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 validation error for VllmConfig\n  Value error, no [type=value_error, input_value=X]\n  See", "error, no"),
        ("Failed to find a kernel. Reasons:\nOne: not on a CPU", "Reasons: One: not on a CPU"),
    ],
)
def test_a_refusal_is_told_with_its_reason_and_without_what_was_given(text: str, told: str) -> None:
    with pytest.raises(BadRequestError) as refused, translated():
        raise ValueError(text)
    assert str(refused.value).endswith(told)


def followed(outputs: list[Any], eos: frozenset[int] = frozenset()) -> Generated:
    class Llm:
        async def generate(self, prompt: Any, params: Any, name: str, lora_request: Any) -> AsyncIterator[Any]:
            assert prompt == {"type": "token", "prompt_token_ids": [1, 2]}
            for output in outputs:
                yield output

    return asyncio.run(follow(Llm(), "1", [1, 2], None, eos, None))


def output(ids: list[int], last_s: float, finish: str | None = None, stop: int | None = None) -> Any:
    times = SimpleNamespace(queued_ts=10.0, scheduled_ts=10.5, first_token_ts=11.0, last_token_ts=last_s)
    made = SimpleNamespace(token_ids=ids, finish_reason=finish, stop_reason=stop)
    return SimpleNamespace(outputs=[made], metrics=times, num_cached_tokens=1)


def test_a_request_has_the_engines_times_one_for_each_token() -> None:
    made = followed([output([7], 11.0), output([8, 9], 11.25), output([4], 11.5, "stop", 4)], frozenset({4}))
    assert made.tokens == [7, 8, 9, 4]
    assert made.token_ns == [11_000_000_000, 11_250_000_000, 11_250_000_000, 11_500_000_000]
    assert (made.t_first_ns, made.t_end_ns) == (11_000_000_000, 11_500_000_000)
    assert (made.queue_s, made.prefill_s, made.cached_tokens, made.stop) == (0.5, 0.5, 1, "eos")


@pytest.mark.parametrize(
    ("finish", "stop", "reason"),
    [("length", None, "length"), ("stop", 5, "stop"), ("abort", None, "cancelled"), ("error", None, "error")],
)
def test_each_end_has_its_name(finish: str, stop: int | None, reason: str) -> None:
    assert followed([output([7], 11.0, finish, stop)], frozenset({4})).stop == reason


def test_a_request_without_a_token_is_an_error() -> None:
    assert followed([output([], 0.0, "error")]).stop == "error"


class Breaking:
    """Stands for the synchronous engine: one step, which fails."""

    def __init__(self, refused: int | None = None, error: Exception | None = None) -> None:
        self.refused, self.error, self.dropped = refused, error, list[str]()

    def add(self, name: str, ids: list[int], params: Any, adapter: Any) -> str:
        if ids[0] == self.refused:
            raise VLLMValidationError("prompt is not to be had\nmore")
        return f"{name}-own"

    def run(self, names: list[str], given: list[str], eos: frozenset[int]) -> list[Generated]:
        assert self.error is not None
        raise self.error

    def drop(self, given: list[str]) -> None:
        self.dropped += given


def batch_of(front: Breaking) -> Any:
    engine: Any = vllm.open()
    engine._batches = front
    engine._params = SimpleNamespace(clone=lambda: SimpleNamespace(), temperature=0)
    prompts = [Prompt(place, None, [place], "") for place in range(3)]
    try:
        return engine.generate(prompts, Decoding(4, "fixed", {}), 0)
    finally:
        engine._batches = None
        engine.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB."), "oom_gpu"),
        (DEAD, "engine_error"),
        (ValueError("shapes do not match"), "bad_request"),
    ],
)
def test_a_step_that_fails_has_ended_the_engine(error: Exception, kind: str) -> None:
    with pytest.raises(EngineLostError) as lost:
        batch_of(Breaking(error=error))
    failure = failure_of(lost.value, is_loading=False)
    assert (failure.kind, failure.fatal) == (kind, True)


def test_a_refused_prompt_takes_the_batch_with_it_and_leaves_the_engine_able() -> None:
    front = Breaking(refused=2)
    with pytest.raises(BadRequestError, match="prompt is not to be had"):
        batch_of(front)
    assert front.dropped == ["1-own", "2-own"]


def step(usage: float, queries: int = 0, hits: int = 0) -> Any:
    cache = SimpleNamespace(queries=queries, hits=hits)
    return SimpleNamespace(kv_cache_usage=usage, prefix_cache_stats=cache, spec_decoding_stats=None)


def test_counts_are_those_since_the_last_look() -> None:
    ledger = Ledger()
    for one in (step(0.2, 10, 0), step(0.5, 30, 10), step(0.1)):
        ledger._now.add(one, SimpleNamespace(num_preempted_reqs=1))
    first = ledger.take()
    assert first["kv_cache_usage"] == 0.5
    assert first["prefix_cache_hit_rate"] == 0.25
    assert first["preemptions"] == 3
    assert ledger.take() == Counts().gauges()
    assert Counts().gauges()["kv_cache_usage"] is None


def test_the_weights_of_workers_add_up_and_are_absent_where_one_does_not_tell() -> None:
    worker = {"architecture": "A", "attention": ["X"], "device": "cuda:0", "device_name": "G", "num_threads": 1}
    known = {**worker, "weights_b_by_dtype": {"float16": 20, "float32": 8}, "parameters": 12}
    facts = model_facts([known, {**known, "device": "cuda:1"}], "bfloat16")
    assert (facts["weights_b"], facts["parameters"], facts["dtype"]) == (56, 24, "float16")
    assert facts["devices"] == ["cuda:0", "cuda:1"]
    unknown = {**worker, "weights_b_by_dtype": None, "parameters": None}
    assert model_facts([unknown], "float32")["weights_b"] is None
    assert model_facts([unknown], "float32")["dtype"] == "float32"
