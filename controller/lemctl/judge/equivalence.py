"""Did two attempts do the same work? What a comparison needs before it may be made, and what differed where it may not.

The same work: the same prompt tokens, as many output tokens of the same vocabulary, the same stop reasons, the same
precision, the same share of prompts taken from a cache. Equal texts are a proof in float32 with greedy decoding alone;
in a shorter type one engine differs from itself at another batch size, so there the agreement is told and judges
nothing. Tokens are counted from the ids that came back, never by an engine's own word.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from lemctl.judge.work import FAILED_STOPS

#: Outputs kept of an attempt: those of the prompts with the smallest hashes, so that any two attempts keep the same
#: ones, and so many tokens of each.
KEPT_OUTPUTS = 256
KEPT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on two attempts did not do the same work (ours)."""

    mean_tokens: float = 0.01
    """Relative difference of the mean tokens of a request. Windows of a fixed length end at different prompts."""
    stop_share: float = 0.02
    cache_hits: float = 0.01
    agreement: float = 0.98
    """Share of the requests with equal texts, in float32 with greedy decoding."""


class RequestDone(Protocol):
    """What is asked of a request's record."""

    @property
    def prompt_sha256(self) -> str:
        """Hash of the prompt's token ids."""
        ...

    @property
    def tokens_in(self) -> int:
        """Tokens of the prompt."""
        ...

    @property
    def tokens_out(self) -> int:
        """Tokens made."""
        ...

    @property
    def stop(self) -> str:
        """Why it ended."""
        ...

    @property
    def output_sha256(self) -> str | None:
        """Hash of the output's token ids."""
        ...

    @property
    def output_ids(self) -> Sequence[int] | None:
        """The output's token ids."""
        ...

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that a prefix cache served."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What the windows of one attempt did. None: not known.

    `prompts_sha256` is over the token hashes of the distinct prompts that were served, `pool_sha256` that of the
    prepared file they came from, `tokenizer` what its ids belong to. `prefix_cache` is whether one was on, `cache_hits`
    the share of prompt tokens that it served.
    """

    prompts_sha256: str
    pool_sha256: str | None
    tokenizer: str | None
    prompts: int
    requests: int
    tokens_in: int
    tokens_out: int
    stops: dict[str, int]
    dtype: str | None
    cache_hits: float | None
    is_greedy: bool
    prefix_cache: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Work:
        """What `to_json` made."""
        return cls(**body)

    @property
    def proves_by_text(self) -> bool:
        """Whether equal texts are to be expected of any engine."""
        return self.is_greedy and self.dtype == "float32"


class Output(NamedTuple):
    """What one prompt gave: hash of all its token ids, and the first `KEPT_TOKENS` of them."""

    prompt_sha256: str
    sha256: str
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the texts of two attempts agree over the prompts that both kept. `common_tokens` is the mean length of the
    beginning they share, in tokens (at most `KEPT_TOKENS`)."""

    compared: int
    agreed: int
    common_tokens: float

    @property
    def share(self) -> float:
        """Share of the requests whose texts are equal."""
        return self.agreed / self.compared


def work_of(
    requests: Sequence[RequestDone],
    *,
    pool_sha256: str | None,
    tokenizer: str | None,
    effective: Mapping[str, Any],
    gauges: Mapping[str, float | None],
    is_greedy: bool,
) -> Work:
    """What these requests amount to. `effective` and `gauges` are what the engine reports of itself."""
    prompts = sorted({request.prompt_sha256 for request in requests})
    return Work(
        prompts_sha256=hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        pool_sha256=pool_sha256 or None,
        tokenizer=tokenizer,
        prompts=len(prompts),
        requests=len(requests),
        tokens_in=sum(request.tokens_in for request in requests),
        tokens_out=sum(request.tokens_out for request in requests),
        stops=dict(sorted(Counter(request.stop for request in requests).items())),
        dtype=precision_told(effective),
        cache_hits=cache_hits(requests, gauges),
        is_greedy=is_greedy,
        prefix_cache=effective.get("prefix_cache"),
    )


def cache_hits(requests: Sequence[RequestDone], gauges: Mapping[str, float | None]) -> float | None:
    """Share of prompt tokens that a prefix cache served: counted by request, else the engine's own rate, else None."""
    answered = [request for request in requests if request.stop not in FAILED_STOPS]
    counted = [request.cached_tokens for request in answered]
    tokens_in = sum(request.tokens_in for request in answered)
    if tokens_in and all(count is not None for count in counted):
        return sum(count or 0 for count in counted) / tokens_in
    return gauges.get("prefix_cache_hit_rate")


def kept_outputs(requests: Sequence[RequestDone]) -> list[Output]:
    """The outputs to keep, in the order of their prompts' hashes; of a prompt that was repeated, the first."""
    firsts: dict[str, Output] = {}
    for request in requests:
        if request.output_ids is not None and request.output_sha256 is not None:
            ids = request.output_ids[:KEPT_TOKENS]
            firsts.setdefault(request.prompt_sha256, Output(request.prompt_sha256, request.output_sha256, ids))
    return [firsts[prompt] for prompt in sorted(firsts)[:KEPT_OUTPUTS]]


def agreement(first: Sequence[Output], second: Sequence[Output]) -> Agreement | None:
    """How the outputs of two attempts agree; None where they have no prompt in common."""
    others = {output.prompt_sha256: output for output in second}
    pairs = [(output, others[output.prompt_sha256]) for output in first if output.prompt_sha256 in others]
    if not pairs:
        return None
    agreed = sum(one.sha256 == other.sha256 for one, other in pairs)
    return Agreement(len(pairs), agreed, sum(_common(one.ids, other.ids) for one, other in pairs) / len(pairs))


def differences(
    first: Work | None, second: Work | None, texts: Agreement | None = None, limits: Limits | None = None
) -> list[str]:
    """What was not the same, as `what: of the first against of the second`; empty: the same work was done."""
    if first is None or second is None:
        return ["work: not recorded, so it cannot be told whether it was the same"]
    chosen = limits or Limits()
    found = list(_differences(first, second, chosen))
    proves = first.proves_by_text and second.proves_by_text
    if texts is not None and proves and texts.share < chosen.agreement:
        wanted = f"at least {chosen.agreement:.0%} must"
        found.append(f"texts: {texts.agreed} of {texts.compared} agree in float32 ({wanted})")
    return found


def _differences(first: Work, second: Work, limits: Limits) -> Iterator[str]:
    if not _same_prompts(first, second, limits):
        yield f"prompts: {_prompts(first)} against {_prompts(second)}"
    if first.tokenizer != second.tokenizer:
        yield "output tokens: counted in different vocabularies"
    if _relative(first.tokens_out, first.requests, second.tokens_out, second.requests) > limits.mean_tokens:
        yield f"output tokens of a request: {_mean(first.tokens_out, first)} against {_mean(second.tokens_out, second)}"
    if any(abs(one - other) > limits.stop_share for one, other in _stop_shares(first, second)):
        yield f"stop reasons: {_stops(first)} against {_stops(second)}"
    if first.dtype != second.dtype:
        yield f"dtype: {first.dtype or 'untold'} against {second.dtype or 'untold'}"
    if _cache_differs(first, second, limits):
        yield f"prompt tokens from a cache: {_share(first)} against {_share(second)}"
    if first.is_greedy != second.is_greedy:
        yield f"decoding: {_decoding(first)} against {_decoding(second)}"


def _same_prompts(first: Work, second: Work, limits: Limits) -> bool:
    """The same prompts, or of one pool prompts of the same mean length: a faster engine gets further in its window."""
    is_as_long = _relative(first.tokens_in, first.requests, second.tokens_in, second.requests) <= limits.mean_tokens
    is_one_pool = first.pool_sha256 is not None and first.pool_sha256 == second.pool_sha256
    return is_as_long and (first.prompts_sha256 == second.prompts_sha256 or is_one_pool)


def _cache_differs(first: Work, second: Work, limits: Limits) -> bool:
    """Whether the shares differ. A cache that was on and not heard may have served any share: it agrees only with
    another such. Of records from before engines told nothing is known: they agree with each other, and with what took
    nothing worth telling.
    """
    one, other = _known_hits(first), _known_hits(second)
    if one is not None and other is not None:
        return abs(one - other) > limits.cache_hits
    if _is_unheard(first) or _is_unheard(second):
        return _is_unheard(first) != _is_unheard(second)
    return any(told is not None and told > limits.cache_hits for told in (one, other))


def _known_hits(work: Work) -> float | None:
    """A cache that was off has served nothing."""
    return 0.0 if work.cache_hits is None and work.prefix_cache is False else work.cache_hits


def _is_unheard(work: Work) -> bool:
    return work.cache_hits is None and work.prefix_cache is True


def _relative(first: int, of_first: int, second: int, of_second: int) -> float:
    """Relative difference of two means; 0 where both have nothing."""
    one, other = first / max(of_first, 1), second / max(of_second, 1)
    return abs(one - other) / max(one, other, 1e-12)


def _stop_shares(first: Work, second: Work) -> Iterator[tuple[float, float]]:
    for stop in sorted({*first.stops, *second.stops}):
        yield first.stops.get(stop, 0) / max(first.requests, 1), second.stops.get(stop, 0) / max(second.requests, 1)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)


def decodes_greedily(sampling: Mapping[str, Any]) -> bool:
    """One token a step, always the likeliest: no sampling under any engine's name, and no beams."""
    draws = sampling.get("do_sample") or sampling.get("temperature")
    return not draws and sampling.get("num_beams", 1) == 1 and not sampling.get("use_beam_search")


def precision_told(effective: Mapping[str, Any]) -> str | None:
    """What the engine computes in, as far as it tells: its dtype, what its weights are quantised to, and a KV cache of
    another type."""
    engine = (effective.get("reported") or {}).get("engine") or {}
    quantised = str(effective.get("quantization") or engine.get("quantization") or "none").lower()
    # The dtype of most weights is that of the computation only where these are not packed.
    told = effective.get("dtype") if quantised == "none" else engine.get("dtype") or effective.get("dtype")
    dtype = str(told or "").removeprefix("torch.")
    cache = str(engine.get("kv_cache_dtype") or "auto").removeprefix("torch.")
    parts = [
        dtype,
        quantised if quantised != "none" else "",
        f"KV cache {cache}" if cache not in ("auto", dtype) else "",
    ]
    return ", ".join(part for part in parts if part) or None


def _prompts(work: Work) -> str:
    return f"{work.prompts} ({work.prompts_sha256[:8]}), {_mean(work.tokens_in, work)} tokens each"


def _mean(tokens: int, work: Work) -> str:
    return f"{tokens / max(work.requests, 1):.4g}"


def _stops(work: Work) -> str:
    return ", ".join(f"{stop} {count / max(work.requests, 1):.0%}" for stop, count in work.stops.items()) or "none"


def _share(work: Work) -> str:
    if work.cache_hits is not None:
        return f"{work.cache_hits:.1%}"
    return {None: "not told", True: "one was on, its hits not told", False: "none was on"}[work.prefix_cache]


def _decoding(work: Work) -> str:
    return "greedy" if work.is_greedy else "sampled"
