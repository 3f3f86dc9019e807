"""One attempt's decoding as vLLM's SamplingParams.

A campaign says how tokens are drawn, and what it does not say has the library's default; the model's own
`generation_config.json` is not applied, but for the ids that end a text.
"""

from __future__ import annotations

from typing import Any

from lem_runner import portable
from lem_runner.backends import Decoding
from lem_runner.backends import _vllm_parameters as parameters
from lem_runner.failures import BadRequestError
from lem_runner.parameters import check


def sampling_params(decoding: Decoding, eos: frozenset[int], *, is_streamed: bool) -> Any:
    """The SamplingParams of one attempt, without a seed. `is_streamed`: outputs come step by step, else at the end.

    `fixed`: the end token is drawn like any other and ends nothing. `natural`: `eos` ends a text.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    given = {name: value for name, value in decoding.sampling.items() if value is not None}
    check({parameter.name: parameter for parameter in parameters.sampling_parameters()}, "sampling", given)
    is_fixed = decoding.output == "fixed"
    if is_fixed and given.get("stop_token_ids"):
        raise BadRequestError("sampling parameter 'stop_token_ids': `output: fixed` ends at nothing but its length")
    length = portable.request("vllm", decoding.max_new_tokens, decoding.output, 0)
    del length["seed"]  # each request has its own
    return SamplingParams(
        **_library_values(given, frozenset() if is_fixed else eos),
        **length,
        # Not `min_tokens`: until then it forbids the end tokens, and other engines draw them.
        detokenize=False,
        output_kind=RequestOutputKind.DELTA if is_streamed else RequestOutputKind.FINAL_ONLY,
    )


def _library_values(given: dict[str, Any], eos: frozenset[int]) -> dict[str, Any]:
    values = dict(given)
    values["stop_token_ids"] = sorted({*given.get("stop_token_ids", []), *eos})
    if "logit_bias" in values:
        values["logit_bias"] = {int(token): float(bias) for token, bias in values["logit_bias"].items()}
    if "repetition_detection" in values:
        from vllm.sampling_params import RepetitionDetectionParams

        values["repetition_detection"] = RepetitionDetectionParams(**values["repetition_detection"])
    return values


def seeded(params: Any, seed: int, request: int) -> Any:
    """`params` for one request of a batch. Greedy decoding draws nothing, and a seed would only slow it."""
    own = params.clone()
    if params.temperature > 0:
        own.seed = portable.request_seed(seed, request)
    return own


def in_force(params: Any) -> dict[str, Any]:
    """Every parameter by its own name, as the SamplingParams hold it after their own checks."""
    plain = (bool, int, float, str, list, dict, type(None))
    found = {parameter.name: getattr(params, parameter.name) for parameter in parameters.sampling_parameters()}
    return {name: value for name, value in found.items() if isinstance(value, plain) and name != "seed"}
