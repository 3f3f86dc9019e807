"""An engine without a model: a real process in real time whose tokens and durations follow from its parameters.

It stands in where a real engine would cost too much (tests, rehearsals, `fault` for what goes wrong), and its name
says so. The cost model: prefill is paid per prompt token of the batch, decoding per step whatever the batch.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Literal

from lem_runner.backends import Decoding, Engine, Generated
from lem_runner.backends._faults import FAULT_PARAMETERS, Faults
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, resolve
from lem_runner.protocol import LoadMode, Prompt, RunSpec

PACKAGES: tuple[str, ...] = ()
OWNS_CUDA: Literal["engine", "torch"] = "engine"
LOADS: tuple[LoadMode, ...] = ("offline",)

#: The portable keys that every backend takes; here they name an engine or draw other tokens, there are no weights.
_PORTABLE = [
    Parameter("dtype", "str", "auto", "engine", "names an engine", choices=("auto", "float32", "float16", "bfloat16")),
    Parameter("do_sample", "bool", False, "sampling", "the seed draws other tokens"),
    Parameter("top_p", "float", None, "sampling", "changes nothing", minimum=0, maximum=1),
    Parameter("top_k", "int", None, "sampling", "changes nothing", minimum=1),
]
_PARAMETERS = [
    *_PORTABLE,
    Parameter("load_s", "float", 0.0, "engine", "seconds that loading takes", minimum=0),
    Parameter("prefill_ms_per_token", "float", 0.02, "engine", "per prompt token of a batch", minimum=0),
    Parameter("decode_ms_per_token", "float", 1.0, "engine", "per decoding step of a batch", minimum=0),
    Parameter("jitter", "float", 0.0, "engine", "relative standard deviation of each duration", minimum=0, maximum=1),
    Parameter("vocab", "int", 32000, "engine", "token ids are drawn below this", minimum=2),
    Parameter("max_model_len", "int", 131072, "engine", "longest prompt plus output, in tokens", minimum=1),
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


class ReplayEngine(Engine):
    """See the module."""

    def __init__(self) -> None:
        self._set: dict[str, Any] = {}
        self._durations = random.Random(0)  # noqa: S311
        self._faults = Faults({})

    def load(self, spec: RunSpec) -> None:
        """Wait `load_s`."""
        self._set = resolve(_PARAMETERS, "engine", spec.engine)
        self._durations = random.Random(spec.seed)  # noqa: S311
        self._faults = Faults(self._set)
        self._faults.reach("load")
        self._spend(time.monotonic(), self._set["load_s"])

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Refuse what is longer than `max_model_len`."""
        resolve(_PARAMETERS, "sampling", decoding.sampling)
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
                stop="length" if len(tokens) == decoding.max_new_tokens else "eos",
            )
            for tokens in outputs
        ]

    def sync(self) -> None:
        """There is no device; the faults learn from it where the attempt is."""
        self._faults.sync()

    def effective(self) -> dict[str, Any]:
        """The parameters as set; no dtype, for there are no weights."""
        self._faults.reach_result()
        return {"backend": "replay", "device": "none", "engine": dict(self._set)}

    def _tokens(self, prompt: Prompt, decoding: Decoding, seed: int) -> list[int]:
        is_sampled = bool(decoding.sampling.get("do_sample") or decoding.sampling.get("temperature"))
        draw = random.Random(f"{prompt.sha256}:{seed if is_sampled else ''}")  # noqa: S311
        count = decoding.max_new_tokens
        if decoding.output == "natural":
            count = draw.randint(1, count)
        return [draw.randrange(self._set["vocab"]) for _ in range(count)]

    def _spend(self, since_s: float, duration_s: float) -> float:
        """Be busy or asleep until `duration_s` (with jitter) after `since_s`; returns that moment."""
        if self._set["jitter"]:
            duration_s *= max(0.0, self._durations.gauss(1.0, self._set["jitter"]))
        until_s = since_s + duration_s
        if self._set["burn"] == "sleep":
            time.sleep(max(0.0, until_s - time.monotonic()))
        else:
            while time.monotonic() < until_s:
                pass
        return until_s
