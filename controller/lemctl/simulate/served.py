"""What a computed engine makes of a workload: batches in closed form, other loads by the runner's own loop over a clock
that jumps from step to step."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lem_runner.backends import ConcurrentEngine, Decoding, Generated
from lem_runner.backends._continuous import StepServer
from lem_runner.load import is_one_by_one, make_load, mean_rate_per_s
from lem_runner.prompts import Prompt, ids_sha256
from lem_runner.protocol import RunSpec, WorkloadSpec
from lem_runner.results import Counting, RequestRecord, StopReason, WindowRecord, counted_inside
from lem_runner.serving import request_records, serve

#: Requests that a computed engine works on together.
BATCH_LIMIT = 256
#: Seconds for one decoding step at batch 1, and how much each further request adds, by backend.
_STEP = {"pytorch": (0.024, 0.03), "vllm": (0.011, 0.012), "tensorrt": (0.009, 0.010)}
_PREFILL_S_PER_TOKEN = 0.0001


@dataclass(frozen=True)
class Speed:
    """How long a computed engine takes."""

    step_s: float
    more: float

    @classmethod
    def of(cls, spec: RunSpec, scatter: float) -> Speed:
        """Engines differ by their parameters too: a fixed factor that follows from their name."""
        step_s, more = _STEP.get(spec.backend, _STEP["pytorch"])
        tilt = int(hashlib.sha256(spec.engine_key.encode()).hexdigest()[:4], 16) / 0xFFFF
        return cls(step_s * (0.9 + 0.2 * tilt) * scatter, more)

    def decode_s(self, batch: int) -> float:
        """One step of so many requests."""
        return self.step_s * (1 + self.more * batch)

    def batch_s(self, work: WorkloadSpec, tokens_in: int, batch: int) -> float:
        """So many requests from their submission to their end."""
        return work.max_new_tokens * self.decode_s(batch) + tokens_in * batch * _PREFILL_S_PER_TOKEN


@dataclass(frozen=True)
class Served:
    """What came of a workload, as the runner would tell it; `end_ns` is when the last request ended."""

    window: WindowRecord
    requests: list[RequestRecord]
    end_ns: int
    counting: Counting = "whole_requests"
    load: dict[str, Any] = field(default_factory=dict)


def at_once(work: WorkloadSpec, trace_s: Sequence[float], speed: Speed, tokens_in: int) -> int:
    """How many requests are with the engine at a time, about."""
    if work.mode in ("poisson", "gamma", "trace"):
        arriving = mean_rate_per_s(work, trace_s) * speed.batch_s(work, tokens_in, 1)
        return max(1, min(BATCH_LIMIT, round(arriving)))
    return work.concurrency or work.batch_size


def serve_workload(spec: RunSpec, tokens_in: int, trace_s: Sequence[float], speed: Speed, begin_ns: int) -> Served:
    """Every request from `begin_ns` on, with prompts of `tokens_in` tokens. `BadRequestError` for a load that leaves
    no window."""
    if is_one_by_one(spec.workload):
        return _serve_load(spec, tokens_in, trace_s, speed, begin_ns)
    return _serve_batches(spec, tokens_in, speed, begin_ns)


def _serve_batches(spec: RunSpec, tokens_in: int, speed: Speed, begin_ns: int) -> Served:
    work, batch_s = spec.workload, speed.batch_s(spec.workload, tokens_in, spec.workload.batch_size)
    whole = work.prompts / work.batch_size if spec.measure.window_s is None else spec.measure.window_s / batch_s
    batches = math.ceil(whole)
    records = [r for b in range(batches) for r in _batch(work, tokens_in, b, begin_ns, batch_s)]
    end_ns = begin_ns + round(batches * batch_s * 1e9)
    sums = (len(records), sum(r.tokens_in for r in records), sum(r.tokens_out for r in records))
    return Served(WindowRecord(0, begin_ns, end_ns, batches, *sums), records, end_ns)


def _batch(work: WorkloadSpec, tokens_in: int, batch: int, begin_ns: int, batch_s: float) -> list[RequestRecord]:
    submit_ns = begin_ns + round(batch * batch_s * 1e9)
    end_ns = begin_ns + round((batch + 1) * batch_s * 1e9)
    first_ns = submit_ns + round((end_ns - submit_ns) / work.max_new_tokens)
    rows = []
    for n in range(work.batch_size):
        index = (batch * work.batch_size + n) % work.prompts
        tokens, stop = _output(work.output, index, work.max_new_tokens)
        rows.append(
            RequestRecord(
                index, 0, batch, ids_sha256([index]), tokens_in, tokens, submit_ns, first_ns, end_ns, None, stop
            )
        )
    return rows


def _serve_load(spec: RunSpec, tokens_in: int, trace_s: Sequence[float], speed: Speed, begin_ns: int) -> Served:
    work = spec.workload
    engine = ComputedEngine(StepServer(_PREFILL_S_PER_TOKEN, speed.decode_s, BATCH_LIMIT), begin_ns)
    load = make_load(work, spec.measure, BATCH_LIMIT, trace_s, begin_ns)
    prompts = [Prompt(index, None, [index] * tokens_in, ids_sha256([index])) for index in range(work.prompts)]
    decoding = Decoding(work.max_new_tokens, work.output, spec.sampling)
    served = serve(engine, load, prompts, decoding, spec.seed, lambda _: None, lambda: None, engine.clock_ns)
    span = load.span([one.ended for one in served])
    requests = request_records(0, served)
    ended, tokens, tokens_out = counted_inside(requests, span.t_begin_ns, span.t_end_ns)
    window = WindowRecord(0, span.t_begin_ns, span.t_end_ns, ended, ended, tokens, tokens_out)
    return Served(window, requests, engine.now_ns, "by_token_time", span.facts)


def _output(output: str, index: int, most: int) -> tuple[int, StopReason]:
    """Tokens and stop reason. A prompt's natural length is its own, whichever engine serves it."""
    count = most if output == "fixed" else random.Random(index).randint(1, most)  # noqa: S311 - repeatable
    return count, "length" if count == most else "eos"


@dataclass
class ComputedEngine(ConcurrentEngine):
    """A step server whose time passes only while it is waited for. `now_ns` is its clock."""

    server: StepServer
    now_ns: int

    def clock_ns(self) -> int:
        """Monotonic ns."""
        return self.now_ns

    def load(self, spec: RunSpec) -> None:
        """There is nothing to load."""

    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:  # noqa: ARG002
        """Queue it now."""
        count, stop = _output(decoding.output, prompt.index, decoding.max_new_tokens)
        self.server.submit(request, self.now_ns, len(prompt.ids), [prompt.index] * count, stop)

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """Jump from step to step until a request has ended or the time is over."""
        until_ns = self.now_ns + max(1, round(timeout_s * 1e9))
        while not (ended := self.server.advance(self.now_ns)) and self.now_ns < until_ns:
            self.now_ns = min(until_ns, self.server.step_end_ns or until_ns)
        return ended

    def abandon(self) -> None:
        """Forget what is in flight."""
        self.server.drop()

    def batch_limit(self) -> int:
        """The server's."""
        return self.server.batch_limit
