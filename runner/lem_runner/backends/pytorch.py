"""transformers on torch: `generate` in offline batches of token ids, its continuous batching for requests one by one.

Prompts come as ids and are padded on the left; nothing is tokenised here. torch is imported on `load`, not before.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, NoReturn

from lem_runner import processes
from lem_runner.backends import ConcurrentEngine, Decoding, Engine, Generated
from lem_runner.backends import _transformers_generation as generation
from lem_runner.backends import _transformers_loading as loading
from lem_runner.backends._transformers_batching import PREFIX, Batcher, batching_parameters, request_limit
from lem_runner.backends._transformers_parameters import ENGINE_PARAMETERS
from lem_runner.backends._transformers_ranks import Ranks, join, whole
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter, resolve
from lem_runner.peers import Loss, OnLoss
from lem_runner.prompts import Prompt
from lem_runner.protocol import LOAD_MODES, LoadMode, RunSpec
from lem_runner.results import StopReason

PACKAGES = (
    "transformers",
    "torch",
    "safetensors",
    "tokenizers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "optimum-quanto",
    "gptqmodel",
    "flash-attn",
)
OWNS_CUDA: Literal["engine", "torch"] = "torch"
LOADS: tuple[LoadMode, ...] = LOAD_MODES


def open() -> Engine:
    """A new engine, nothing loaded."""
    return TransformersEngine()


def describe() -> list[Parameter]:
    """Our own engine parameters, then every offered field of the installed library's configurations."""
    loading.prepare_environment()
    return [*ENGINE_PARAMETERS, *batching_parameters(), *generation.generation_parameters()]


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


class TransformersEngine(ConcurrentEngine):
    """See the module."""

    def __init__(self, *, is_first: bool = True) -> None:
        """`is_first`: of the ranks that share the model, the one that the runner calls."""
        self._is_first = is_first
        self._on_loss: OnLoss = _not_told
        self._ranks = Ranks(1, _not_told)
        self._settings: dict[str, Any] = {}
        self._device = "cpu"
        self._model: Any = None
        self._assistant: Any = None
        self._tokens = generation.SpecialTokens(0, None, ())
        self._facts: dict[str, Any] = {}
        self._config: Any = None
        self._ignored: dict[str, Any] = {}
        self._is_one_by_one = False
        self._batcher: Batcher | None = None

    def report_losses_to(self, on_loss: OnLoss) -> None:
        """Of the other ranks."""
        self._on_loss = on_loss

    def ranks_silent_s(self) -> list[float]:
        """Of the other ranks."""
        return self._ranks.silent_s()

    def load(self, spec: RunSpec) -> None:
        """Read or draw the weights and put them on the device, each rank its part."""
        self._settings = resolve(describe(), "engine", spec.engine)
        loading.check_ranks(self._settings)
        if self._is_first:
            self._ranks = Ranks(loading.ranks(self._settings), self._on_loss)
        with self._ranks.together("load", spec.to_json()) as others:
            self._load(spec)
        if others:
            self._facts = whole(self._facts, others, self._settings["tensor_parallel"])

    def _load(self, spec: RunSpec) -> None:
        self._device = loading.set_up_torch(self._settings)
        join(self._device)
        self._model = loading.load_model(spec.model, self._settings, self._device)
        self._assistant = loading.load_assistant(self._settings, self._device, self._model)
        own = self._model.generation_config
        self._tokens = _special_tokens(own)
        self._ignored = generation.set_by_model(own)
        self._facts = loading.model_facts(self._model)

    def expect(self, one_by_one: bool) -> None:
        """Whether this attempt goes through continuous batching or through `generate`."""
        self._is_one_by_one = one_by_one

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Refuse prompts that the model cannot take, before the device is asked: there it would be fatal."""
        longest = max(len(prompt.ids) for prompt in prompts) + decoding.max_new_tokens
        limit = self._facts["max_position_embeddings"]
        if limit is not None and longest > limit:
            raise BadRequestError(
                f"the longest prompt has {longest - decoding.max_new_tokens} tokens, with {decoding.max_new_tokens} "
                f"new ones that is more than the model's {limit} positions"
            )
        largest = max(max(prompt.ids) for prompt in prompts)
        if largest >= self._facts["vocab_size"]:
            raise BadRequestError(f"token id {largest} is not in the model's vocabulary of {self._facts['vocab_size']}")
        with self._ranks.together("admit", [prompt.ids for prompt in prompts], asdict(decoding)):
            self._admit(longest, decoding)

    def _admit(self, longest: int, decoding: Decoding) -> None:
        self._config = generation.decoding_config(decoding, self._tokens, generation.cache_settings(self._settings))
        if self._assistant is not None and (self._config.num_beams or 1) > 1:
            raise BadRequestError("engine parameter 'assistant_model': beams cannot be drafted; set num_beams to 1")
        self._model.generation_config = generation.model_defaults(self._tokens, decoding.output, self._config)
        if self._assistant is not None:
            self._assistant.generation_config = generation.model_defaults(self._tokens, decoding.output, self._config)
        self._close_batcher()
        if self._is_one_by_one:
            self._open_batcher(longest)
        if self._device == "cuda":
            import torch

            for index in self._gpus():
                torch.cuda.reset_peak_memory_stats(index)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        """One call of `generate`, or the same requests handed over one by one. Token times are None for beams."""
        if self._is_one_by_one:
            return super().generate(prompts, decoding, seed)
        if len(prompts) > 1 and (self._assistant is not None or generation.drafts(self._config)):
            raise BadRequestError(
                f"assisted decoding and prompt lookup take one request at a time: batch_size is {len(prompts)}, set it "
                "to 1"
            )
        if self._settings["pipeline_parallel"] > 1 and len({len(prompt.ids) for prompt in prompts}) > 1:
            # Tried with transformers 5.19.0: its pipeline gives other tokens for a padded batch than one process does.
            raise BadRequestError("pipeline_parallel: the prompts of one batch must be of one length")
        with self._ranks.together("generate", [prompt.ids for prompt in prompts], asdict(decoding), seed):
            return self._generate(prompts, decoding, seed)

    def _generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        import torch

        width = max(len(prompt.ids) for prompt in prompts)
        padding = [width - len(prompt.ids) for prompt in prompts]
        rows = [[self._tokens.pad] * pad + prompt.ids for pad, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in padding]
        clock = StepClock(len(prompts)) if (self._config.num_beams or 1) == 1 else None
        if self._config.do_sample:
            torch.manual_seed(seed)
        drafting = {} if self._assistant is None else {"assistant_model": self._assistant}
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=torch.tensor(rows, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                generation_config=self._config,
                streamer=clock,
                **drafting,
            )
            new_ids: list[list[int]] = made[:, width:].tolist()
        t_end_ns = time.monotonic_ns()
        eos = frozenset(self._tokens.eos) if decoding.output == "natural" else frozenset()
        return [_generated(ids, eos, clock, t_end_ns) for ids in new_ids]

    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:
        """To the manager's thread."""
        assert self._batcher is not None, "expect and admit come first"
        self._batcher.submit(request, prompt.ids, decoding.max_new_tokens, seed)

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """From the manager's thread."""
        assert self._batcher is not None, "expect and admit come first"
        return self._batcher.finished(timeout_s)

    def abandon(self) -> None:
        """The manager goes, and with it what it was working on; the next attempt makes another."""
        self._close_batcher()

    def batch_limit(self) -> int:
        """Of one step."""
        return request_limit(self._settings, self._device) if self._batcher is None else self._batcher.limit

    def forget_prompts(self) -> None:
        """Only continuous batching keeps anything of them."""
        if self._batcher is not None:
            self._batcher.forget_prompts()

    def gauges(self) -> dict[str, float | None]:
        """How full the cache of continuous batching was."""
        return {} if self._batcher is None else self._batcher.gauges()

    def sync(self) -> None:
        """Wait for every GPU that holds a part of the model."""
        if self._device == "cuda":
            import torch

            for index in self._gpus():
                torch.cuda.synchronize(index)

    def memory(self) -> dict[str, Any]:
        """Device bytes as torch's allocator counts them, summed over GPUs and ranks (no CUDA context is among them);
        the host's over all processes."""
        with self._ranks.together("memory") as others:
            own = self._memory()
        # The host's figures hold the other ranks already: they are children of this process.
        on_device = ("device_used_b", "device_peak_b")
        return {**own, **{name: _sum([own[name], *(other[name] for other in others)]) for name in on_device}}

    def _memory(self) -> dict[str, Any]:
        used_b = peak_b = None
        if self._device == "cuda":
            import torch

            indices = self._gpus()
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
        facts["prefix_cache"] = self._batcher is not None and self._batcher.shares_prefixes
        told = {"engine": loading.told(self._facts), "sampling": {}}
        if self._config is not None:
            facts["generation"] = generation.in_force(self._config)
            told = generation.told(facts["generation"], told["engine"])
        if self._batcher is not None:
            facts["continuous_batching"] = batching = self._batcher.in_force()
            told["engine"] |= {f"{PREFIX}{name}": value for name, value in batching.items()}
        return {**facts, "reported": told}

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._close_batcher()
        self._ranks.close()
        self._model = self._assistant = None
        gc.collect()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _gpus(self) -> list[int]:
        """Indices of those that hold a part of the model; others are not touched, which would put a context there.

        Of several ranks, each looks after its own.
        """
        if self._ranks.world > 1:
            return [0]
        places = (name.partition(":") for name in self._facts.get("devices", ()))
        return sorted(int(index or 0) for kind, _, index in places if kind == "cuda")

    def _open_batcher(self, longest: int) -> None:
        if self._assistant is not None:
            raise BadRequestError("engine parameter 'assistant_model' is not for continuous batching")
        if self._ranks.world > 1:
            raise BadRequestError(
                "continuous batching runs in one process here: between requests its ranks would spin in a collective, "
                "and the idle power would not be idle; set tensor_parallel and pipeline_parallel to 1"
            )
        self._batcher = Batcher(self._model, self._config, self._settings, longest)

    def _close_batcher(self) -> None:
        batcher, self._batcher = self._batcher, None
        if batcher is not None:
            batcher.close()


def _not_told(loss: Loss) -> NoReturn:
    raise RuntimeError(f"{loss.name} is lost")


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


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
    # `generate` begins with an empty cache each time.
    if not times:
        return Generated(ids[:count], None, t_end_ns, None, stop, cached_tokens=0)
    return Generated(ids[:count], times[0], times[count - 1], times[:count], stop, cached_tokens=0)
