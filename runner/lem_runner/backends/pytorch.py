"""transformers' `generate` on torch, in offline batches of token ids.

Prompts come as ids and are padded on the left; nothing is tokenised here. torch is imported on `load`, not before.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import Any, Literal

from lem_runner import processes
from lem_runner.backends import Decoding, Engine, Generated
from lem_runner.backends import _transformers_generation as generation
from lem_runner.backends import _transformers_loading as loading
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, resolve
from lem_runner.protocol import LoadMode, Prompt, RunSpec, StopReason

PACKAGES = ("transformers", "torch", "safetensors", "tokenizers", "accelerate", "bitsandbytes")
OWNS_CUDA: Literal["engine", "torch"] = "torch"
LOADS: tuple[LoadMode, ...] = ("offline",)


def open() -> Engine:
    """A new engine, nothing loaded."""
    return TransformersEngine()


def describe() -> list[Parameter]:
    """Our own engine parameters, then every offered field of the installed GenerationConfig."""
    loading.prepare_environment()
    return [*loading.ENGINE_PARAMETERS, *generation.generation_parameters()]


class StepClock:
    """A streamer that only takes the time: one list append for each decoding step of the batch.

    `generate` copies each step's tokens to the host before it calls, which it must do anyway to see whether to stop.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._has_prompt = False
        self.steps_ns: list[int] = []

    def put(self, tokens: Any) -> None:
        """The prompt first, then one tensor a step (more than one token a request where decoding is speculative)."""
        now_ns = time.monotonic_ns()
        if self._has_prompt:
            self.steps_ns.extend([now_ns] * (tokens.numel() // self._batch_size))
        self._has_prompt = True

    def end(self) -> None:
        """Nothing is left to do."""


class TransformersEngine(Engine):
    """See the module."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._device = "cpu"
        self._model: Any = None
        self._tokens = generation.SpecialTokens(0, None, ())
        self._facts: dict[str, Any] = {}
        self._config: Any = None
        self._ignored: dict[str, Any] = {}

    def load(self, spec: RunSpec) -> None:
        """Read or draw the weights and put them on the device."""
        self._settings = resolve(describe(), "engine", spec.engine)
        self._device = loading.set_up_torch(self._settings)
        self._model = loading.load_model(spec.model, self._settings, self._device)
        own = self._model.generation_config
        self._tokens = _special_tokens(own)
        self._ignored = generation.set_by_model(own)
        self._facts = loading.model_facts(self._model)

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Refuse prompts that the model cannot take, before the device is asked: there it would be fatal."""
        longest = max(len(prompt.ids) for prompt in prompts)
        limit = self._facts["max_position_embeddings"]
        if limit is not None and longest + decoding.max_new_tokens > limit:
            raise BadRequestError(
                f"the longest prompt has {longest} tokens, with {decoding.max_new_tokens} new ones that is more than "
                f"the model's {limit} positions"
            )
        largest = max(max(prompt.ids) for prompt in prompts)
        if largest >= self._facts["vocab_size"]:
            raise BadRequestError(f"token id {largest} is not in the model's vocabulary of {self._facts['vocab_size']}")
        self._config = generation.decoding_config(decoding, self._tokens, generation.cache_settings(self._settings))
        self._model.generation_config = generation.model_defaults(self._tokens, decoding.output)
        if self._device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        """One call of `generate`. Token times are None where it takes no streamer (beams)."""
        import torch

        width = max(len(prompt.ids) for prompt in prompts)
        padding = [width - len(prompt.ids) for prompt in prompts]
        rows = [[self._tokens.pad] * pad + prompt.ids for pad, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in padding]
        clock = StepClock(len(prompts)) if (self._config.num_beams or 1) == 1 else None
        if self._config.do_sample:
            torch.manual_seed(seed)
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=torch.tensor(rows, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                generation_config=self._config,
                streamer=clock,
            )
            new_ids: list[list[int]] = made[:, width:].tolist()
        t_end_ns = time.monotonic_ns()
        eos = frozenset(self._tokens.eos) if decoding.output == "natural" else frozenset()
        return [_generated(ids, eos, clock, t_end_ns) for ids in new_ids]

    def sync(self) -> None:
        """Wait for every GPU of this process."""
        if self._device == "cuda":
            import torch

            for index in range(torch.cuda.device_count()):
                torch.cuda.synchronize(index)

    def memory(self) -> dict[str, Any]:
        """Device bytes as torch's allocator counts them, summed over GPUs: the CUDA context is not among them."""
        used_b = peak_b = None
        if self._device == "cuda":
            import torch

            indices = range(torch.cuda.device_count())
            used_b = sum(torch.cuda.memory_allocated(index) for index in indices)
            peak_b = sum(torch.cuda.max_memory_allocated(index) for index in indices)
        return {
            "device_used_b": used_b,
            "device_peak_b": peak_b,
            "host_rss_b": processes.rss_b(),
            "host_peak_rss_b": processes.peak_rss_b(),
        }

    def effective(self) -> dict[str, Any]:
        """What was loaded and, once an attempt is admitted, how it decodes."""
        facts = {"backend": "pytorch", **self._facts, "engine": dict(self._settings)}
        facts["model_generation_ignored"] = self._ignored
        told = {"engine": loading.told(self._facts), "sampling": {}}
        if self._config is not None:
            facts["generation"] = generation.in_force(self._config)
            told = generation.told(facts["generation"], told["engine"])
        return {**facts, "reported": told}

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = None
        gc.collect()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()


def _special_tokens(config: Any) -> generation.SpecialTokens:
    eos = config.eos_token_id
    ends = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
    # A padded position is masked, so any id in the vocabulary will do where the model names none.
    pad = config.pad_token_id if config.pad_token_id is not None else ends[0] if ends else 0
    return generation.SpecialTokens(pad, config.bos_token_id, ends)


def _generated(ids: list[int], eos: frozenset[int], clock: StepClock | None, t_end_ns: int) -> Generated:
    """One row of what `generate` returned, without the padding behind its end token."""
    count = next((place + 1 for place, token in enumerate(ids) if token in eos), len(ids))
    stop: StopReason = "eos" if count and ids[count - 1] in eos else "length"
    # Speculative decoding may stream more steps than it returns, or fewer: then the times belong to no token.
    times = clock.steps_ns if clock is not None and len(clock.steps_ns) == len(ids) else None
    if not times:
        return Generated(ids[:count], None, t_end_ns, None, stop)
    return Generated(ids[:count], times[0], times[count - 1], times[:count], stop)
