"""The portable parameters: what a campaign says once for every engine, and what each engine calls it.

One table, read by both ends: the host translates a campaign's values with it and refuses what an engine lacks, the
backends take the parameters of a request from it, the documentation prints it. Nothing portable is translated anywhere
else. Pure, standard library only.

A cell says which of the engine's own parameters a value sets. `VALUE` is the portable value itself; a mapping gives the
engine's word for each value, and a value that it leaves out sets nothing. `Lacks` refuses what the engine has not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: In a cell: the portable value as it is.
VALUE = object()

Part = Literal["engine", "sampling", "limit", "request"]


@dataclass(frozen=True)
class Lacks:
    """The engine has no such thing. Values in `but` mean its absence, and are fine."""

    reason: str
    but: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Own:
    """The backend does it by itself: there is no parameter to set."""

    how: str


Cell = Mapping[str, Any] | Lacks | Own


_BY_ITSELF = Own("by itself")


@dataclass(frozen=True)
class Row:
    """One portable parameter; `key` is its place in a campaign file.

    `engine` and `sampling` rows are parameters of those groups; a `limit` row is an engine parameter that follows from
    the campaign's largest value; a `request` row is set with every request.
    """

    key: str
    part: Part
    cells: Mapping[str, Cell]
    #: Used where a campaign says nothing; None leaves it to the engine.
    default: Any = None

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    def cell(self, backend: str) -> Cell:
        """The engine's column. A backend without one takes the portable parameters by their own names."""
        return self.cells.get(backend) or ({self.name: VALUE} if self.part in ("engine", "sampling") else _BY_ITSELF)


_NO_MODEL = "there is no model behind replay"
_NO_PARALLEL = "replay runs on no device"
_ALL_NAMED_ALIKE = ("pytorch", "vllm", "tensorrt")


def _alike(name: str, replay: Cell) -> dict[str, Cell]:
    """The same name and the same values in every engine that computes something."""
    return {**{backend: {name: VALUE} for backend in _ALL_NAMED_ALIKE}, "replay": replay}


TABLE: tuple[Row, ...] = (
    Row("engine.dtype", "engine", _alike("dtype", {"dtype": VALUE})),
    Row(
        "engine.max_model_len",
        "engine",
        {
            "pytorch": Lacks("its cache grows with the text; a static one has pytorch.engine.max_cache_len"),
            "vllm": {"max_model_len": VALUE},
            "tensorrt": {"max_seq_len": VALUE},
            "replay": {"max_model_len": VALUE},
        },
    ),
    Row(
        "engine.tensor_parallel",
        "engine",
        {
            "pytorch": {"tensor_parallel": VALUE},
            "vllm": {"tensor_parallel_size": VALUE},
            "tensorrt": {"tensor_parallel_size": VALUE},
            "replay": Lacks(_NO_PARALLEL, but=(1,)),
        },
    ),
    Row(
        "engine.pipeline_parallel",
        "engine",
        {
            "pytorch": {"pipeline_parallel": VALUE},
            "vllm": {"pipeline_parallel_size": VALUE},
            "tensorrt": {"pipeline_parallel_size": VALUE},
            "replay": Lacks(_NO_PARALLEL, but=(1,)),
        },
    ),
    Row(
        "engine.data_parallel",
        "engine",
        {
            "pytorch": {"data_parallel": VALUE},
            "vllm": {"data_parallel_size": VALUE},
            "tensorrt": Lacks("one engine is one replica", but=(1,)),
            "replay": {"data_parallel": VALUE},
        },
    ),
    Row(
        "engine.prefix_caching",
        "engine",
        {
            "pytorch": {"cb_allow_block_sharing": VALUE},
            "vllm": {"enable_prefix_caching": VALUE},
            "tensorrt": {"kv_cache_config.enable_block_reuse": VALUE},
            "replay": Lacks(_NO_MODEL, but=(False,)),
        },
        default=False,
    ),
    Row(
        "workload.load.batch_size",
        "limit",
        {
            "pytorch": Own("a batch is one call of generate"),
            "vllm": {"max_num_seqs": VALUE},
            "tensorrt": {"max_batch_size": VALUE},
            "replay": Own("a batch is one call"),
        },
    ),
    Row(
        "sampling.do_sample",
        "sampling",
        {
            # What is unset restricts nothing: transformers alone would sample from the 50 likeliest tokens.
            "pytorch": {
                "do_sample": VALUE,
                "temperature": {True: 1.0},
                "top_k": {True: 0},
                "top_p": {True: 1.0},
            },
            "vllm": {"temperature": {False: 0.0, True: 1.0}},
            "tensorrt": {"top_k": {False: 1}, "temperature": {True: 1.0}},
            "replay": {"do_sample": VALUE},
        },
    ),
    Row("sampling.temperature", "sampling", _alike("temperature", {"temperature": VALUE})),
    Row("sampling.top_p", "sampling", _alike("top_p", {"top_p": VALUE})),
    Row("sampling.top_k", "sampling", _alike("top_k", {"top_k": VALUE})),
    Row("sampling.min_p", "sampling", _alike("min_p", Lacks(_NO_MODEL))),
    Row("sampling.repetition_penalty", "sampling", _alike("repetition_penalty", Lacks(_NO_MODEL, but=(1.0,)))),
    Row(
        "sampling.seed",
        "request",
        {
            "pytorch": Own("torch.manual_seed before each batch"),
            "vllm": {"seed": VALUE},
            "tensorrt": {"seed": VALUE},
            "replay": Own("draws the tokens"),
        },
    ),
    Row(
        "workload.max_new_tokens",
        "request",
        {
            "pytorch": {"max_new_tokens": VALUE},
            "vllm": {"max_tokens": VALUE},
            "tensorrt": {"max_tokens": VALUE},
            "replay": Own("so many steps"),
        },
    ),
    Row(
        "workload.output",
        "request",
        {
            "pytorch": Own("fixed: without an end token, so that none ends the text"),
            "vllm": {"ignore_eos": {"fixed": True, "natural": False}},
            "tensorrt": {"ignore_eos": {"fixed": True, "natural": False}},
            "replay": Own("natural: a length is drawn"),
        },
    ),
)

BACKENDS: tuple[str, ...] = tuple(TABLE[0].cells)
#: Each of these multiplies the GPUs that an engine spans, and so do an engine's own degrees without a portable key.
_DEGREES = ("engine.tensor_parallel", "engine.pipeline_parallel", "engine.data_parallel")
_OWN_DEGREES: Mapping[str, tuple[str, ...]] = {
    "tensorrt": ("context_parallel_size",),
    "vllm": ("prefill_context_parallel_size",),
}


def lacking(backend: str, part: Part, given: Mapping[str, Any]) -> tuple[str, str] | None:
    """(name, reason) of the first portable value in `given` that the engine cannot honour; None where it can."""
    for row in _rows(part):
        cell, value = row.cell(backend), given.get(row.name)
        if isinstance(cell, Lacks) and value is not None and value not in cell.but:
            return row.name, cell.reason
    return None


def translated(backend: str, part: Part, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` in the engine's own names: portable values first, then what was given by an own name, which wins.

    A value None sets nothing. A dotted name is a key inside a mapping.
    """
    rows = {row.name: row for row in _rows(part)}
    own: dict[str, Any] = {}
    for name, row in rows.items():
        cell, value = row.cell(backend), given.get(name, row.default)
        if isinstance(cell, Mapping) and value is not None:
            for target, word in cell.items():
                _set(own, target, value, word)
    for name, value in given.items():
        if name not in rows:
            own[name] = _laid_over(own.get(name), value)
    return own


def gpus_spanned(backend: str, own: Mapping[str, Any]) -> int:
    """How many GPUs an engine spans with these parameters, which are in its own names."""
    names = [*_OWN_DEGREES.get(backend, ())]
    for row in TABLE:
        cell = row.cell(backend)
        if row.key in _DEGREES and isinstance(cell, Mapping):
            names += cell
    spanned = 1
    for name in names:
        degree = own.get(name)
        spanned *= degree if isinstance(degree, int) else 1
    return spanned


def limits(backend: str, largest_batch: int) -> dict[str, Any]:
    """The engine's own limits where the campaign sets none: its largest batch."""
    return translated(backend, "limit", {"batch_size": largest_batch})


def request(backend: str, max_new_tokens: int, output: str, seed: int) -> dict[str, Any]:
    """The parameters that every request carries."""
    return translated(backend, "request", {"max_new_tokens": max_new_tokens, "output": output, "seed": seed})


def request_seed(seed: int, request: int) -> int:
    """One number for each (seed, request): requests of a batch must not draw alike, nor those of the next batch."""
    return random.Random(f"{seed}:{request}").getrandbits(31)  # noqa: S311 - repeatable, not secret


def _rows(part: Part) -> list[Row]:
    return [row for row in TABLE if row.part == part]


def _set(own: dict[str, Any], target: str, value: Any, word: Any) -> None:
    if isinstance(word, Mapping):
        if value not in word:
            return
        value = word[value]
    head, _, rest = target.partition(".")
    own[head] = {**own.get(head, {}), rest: value} if rest else value


def _laid_over(below: Any, above: Any) -> Any:
    return {**below, **above} if isinstance(below, dict) and isinstance(above, dict) else above
