"""An engine without a model: a real process in real time whose tokens and durations follow from its parameters.

It stands in where a real engine would cost too much (tests, rehearsals, `fault` for what goes wrong), and its name
says so. The cost model: prefill is paid per prompt token of the batch, decoding per step whatever the batch. Requests
that come one by one are batched continuously (`_continuous`), at the same cost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Literal

from lem_runner.backends import ConcurrentEngine, Decoding, Engine, Generated
from lem_runner.backends._continuous import StepServer
from lem_runner.backends._faults import FAULT_PARAMETERS, Faults
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, resolve
from lem_runner.prompts import Prompt
from lem_runner.protocol import LOAD_MODES, LoadMode, RunSpec
from lem_runner.results import StopReason

PACKAGES: tuple[str, ...] = ()
OWNS_CUDA: Literal["engine", "torch"] = "engine"
LOADS: tuple[LoadMode, ...] = LOAD_MODES

#: The portable keys that every backend takes; here they name an engine or draw other tokens, there are no weights.
_PORTABLE = [
    Parameter("dtype", "str", "auto", "engine", "names an engine", choices=("auto", "float32", "float16", "bfloat16")),
    Parameter("do_sample", "bool", False, "sampling", "the seed draws other tokens"),
    Parameter("top_p", "float", None, "sampling", "changes nothing", minimum=0, maximum=1),
    Parameter("top_k", "int", None, "sampling", "changes nothing", minimum=1),
]
_PARAMETERS = [
    *_PORTABLE,
    Parameter("data_parallel", "int", 1, "engine", "whole replicas, each a process", minimum=1),
    Parameter("load_s", "float", 0.0, "engine", "seconds that loading takes", minimum=0),
    Parameter("prefill_ms_per_token", "float", 0.02, "engine", "per prompt token of a batch", minimum=0),
    Parameter("decode_ms_per_token", "float", 1.0, "engine", "per decoding step of a batch", minimum=0),
    Parameter("jitter", "float", 0.0, "engine", "relative standard deviation of each duration", minimum=0, maximum=1),
    Parameter("vocab", "int", 32000, "engine", "token ids are drawn below this", minimum=2),
    Parameter("max_model_len", "int", 131072, "engine", "longest prompt plus output, in tokens", minimum=1),
    Parameter("max_num_seqs", "int", 256, "engine", "requests worked on together, one by one", minimum=1),
    Parameter("burn", "str", "sleep", "engine", "busy keeps one core at work", choices=("sleep", "busy")),
    *FAULT_PARAMETERS,
    Parameter("temperature", "float", 0.0, "sampling", "0: the seed changes nothing", minimum=0, maximum=10),
]


def open() -> Engine:
    """A new engine, nothing loaded."""
    return ReplayEngine()


def describe() -> list[Parameter]:
    """Everything that can be set."""
    return list(_PARAMETERS)


class ReplayEngine(ConcurrentEngine):
    """See the module."""

    def __init__(self) -> None:
        self._set: dict[str, Any] = {}
        self._sampling: dict[str, Any] = {}
        self._durations = random.Random(0)  # noqa: S311
        self._faults = Faults({})
        self._server = StepServer(0.0, lambda _: 0.0, 1)

    def load(self, spec: RunSpec) -> None:
        """Wait `load_s`."""
        self._set = resolve(_PARAMETERS, "engine", spec.engine)
        self._durations = random.Random(spec.seed)  # noqa: S311
        self._faults = Faults(self._set)
        decode_s = self._set["decode_ms_per_token"] / 1e3
        self._server = StepServer(
            self._set["prefill_ms_per_token"] / 1e3, lambda _: decode_s, self._set["max_num_seqs"], self._stretch
        )
        self._faults.reach("load")
        self._spend(time.monotonic(), self._set["load_s"])

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Refuse what is longer than `max_model_len`."""
        self._sampling = resolve(_PARAMETERS, "sampling", decoding.sampling)
        longest = max(len(prompt.ids) for prompt in prompts) + decoding.max_new_tokens
        if longest > self._set["max_model_len"]:
            raise BadRequestError(
                f"prompt and output of {longest} tokens: max_model_len is {self._set['max_model_len']}"
            )
        self._faults.begin_attempt()

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        """Spend the time of one batch; each token's time is the end of its step."""
        self._faults.reach_batch()
        outputs = [self._tokens(prompt, decoding, seed) for prompt in prompts]
        deadline_s = time.monotonic()
        steps_ns: list[int] = []
        step_s = sum(len(prompt.ids) for prompt in prompts) * self._set["prefill_ms_per_token"] / 1e3
        for _ in range(max(map(len, outputs))):
            step_s += self._set["decode_ms_per_token"] / 1e3
            deadline_s = self._spend(deadline_s, step_s)
            steps_ns.append(time.monotonic_ns())
            step_s = 0.0
        return [
            Generated(
                tokens=tokens,
                t_first_ns=steps_ns[0],
                t_end_ns=steps_ns[len(tokens) - 1],
                token_ns=steps_ns[: len(tokens)],
                stop=_stop(tokens, decoding),
            )
            for tokens in outputs
        ]

    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:
        """Queue one request; to the faults it is a batch."""
        self._faults.reach_batch()
        tokens = self._tokens(prompt, decoding, seed)
        self._server.submit(request, time.monotonic_ns(), len(prompt.ids), tokens, _stop(tokens, decoding))

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """Work, step by step, until a request has ended or the time is over."""
        until_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        while not (ended := self._server.advance(time.monotonic_ns())) and time.monotonic_ns() < until_ns:
            step_end_ns = self._server.step_end_ns
            self._wait(min(until_ns, until_ns if step_end_ns is None else step_end_ns) / 1e9)
        return ended

    def abandon(self) -> None:
        """Forget what is in flight."""
        self._server.drop()

    def batch_limit(self) -> int:
        """As set: `max_num_seqs`."""
        limit: int = self._set["max_num_seqs"]
        return limit

    def sync(self) -> None:
        """There is no device; the faults learn from it where the attempt is."""
        self._faults.sync()

    def effective(self) -> dict[str, Any]:
        """The parameters as set; no dtype, for there are no weights."""
        self._faults.reach_result()
        return {
            "backend": "replay",
            "device": "none",
            "engine": dict(self._set),
            "reported": {"engine": dict(self._set), "sampling": dict(self._sampling)},
        }

    def _tokens(self, prompt: Prompt, decoding: Decoding, seed: int) -> list[int]:
        is_sampled = bool(decoding.sampling.get("do_sample") or decoding.sampling.get("temperature"))
        draw = random.Random(f"{prompt.sha256}:{seed if is_sampled else ''}")  # noqa: S311
        count = decoding.max_new_tokens
        if decoding.output == "natural":
            count = draw.randint(1, count)
        return [draw.randrange(self._set["vocab"]) for _ in range(count)]

    def _spend(self, since_s: float, duration_s: float) -> float:
        """Be busy or asleep until `duration_s` (with jitter) after `since_s`; returns that moment."""
        until_s = since_s + duration_s * self._stretch()
        self._wait(until_s)
        return until_s

    def _stretch(self) -> float:
        return max(0.0, self._durations.gauss(1.0, self._set["jitter"])) if self._set["jitter"] else 1.0

    def _wait(self, until_s: float) -> None:
        if self._set["burn"] == "sleep":
            time.sleep(max(0.0, until_s - time.monotonic()))
        else:
            while time.monotonic() < until_s:
                pass


def _stop(tokens: Sequence[int], decoding: Decoding) -> StopReason:
    return "length" if len(tokens) == decoding.max_new_tokens else "eos"
