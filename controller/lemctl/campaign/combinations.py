"""What an engine's parameters rule out of the work that it is given, where the campaign alone shows it. Pure.

The runner refuses the same when the work reaches it, one run after the other; here it is one line before the night.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from lem_runner import portable
from lemctl.campaign.load import is_one_by_one
from lemctl.campaign.messages import SectionError
from lemctl.campaign.prompt_lengths import longest_stated

Workload = Mapping[str, Any]
#: From the parameter's name, its value and a specified workload to what is wrong with them; None: nothing.
Refusal = Callable[[str, Any, Workload], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One parameter that rules something out. `names`: what each engine that has the rule calls it."""

    part: Literal["engine", "sampling"]
    name: str
    names: Mapping[str, str]
    binds: Callable[[Any], bool]
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Restriction:
    """A rule that an engine with its parameters is under. `key`: the parameter's, without the scope of a backend."""

    key: str
    refusal: Callable[[Workload], str | None]


#: What each engine that has it calls the parameter for the most tokens of a prompt with its output.
LENGTH_NAMES = {"vllm": "max_model_len", "tensorrt": "max_seq_len", "replay": "max_model_len"}


def _shares_out(value: Any) -> bool:
    return isinstance(value, int) and value > 1


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _replicas(name: str, count: int, workload: Workload) -> str | None:
    """See `lem_runner.replicas`."""
    load = workload["load"]
    if is_one_by_one(load):
        return (
            f"replicas serve offline batches, static or dynamic, and cannot serve {_words(load)}; set {name} to 1 or "
            "the load to such batches"
        )
    batches = -(-workload["prompts"] // load["batch_size"])
    if batches >= count:
        return None
    return (
        f"{workload['prompts']} prompts in batches of {load['batch_size']} are {batches}, fewer than {count} replicas; "
        f"at least {(count - 1) * load['batch_size'] + 1} prompts are needed"
    )


def _ranks(name: str, count: int, workload: Workload) -> str | None:
    """See `lem_runner.backends.pytorch`: the ranks would spin between requests."""
    load = workload["load"]
    if not is_one_by_one(load):
        return None
    return f"{_words(load)} is served by one process, not by {count}; set {name} to 1, or the load to offline batches"


def _drafting(name: str, _value: Any, workload: Workload) -> str | None:
    """See `lem_runner.backends.pytorch`: tokens are drafted for one request at a time."""
    load = workload["load"]
    if is_one_by_one(load):
        return f"tokens are not drafted under {_words(load)}; leave {name} out, or set the load to batches of 1"
    if load["batch_size"] == 1:
        return None
    return (
        f"tokens are drafted for one request at a time, not for batches of {load['batch_size']}; set "
        "workload.load.batch_size to 1"
    )


def _length(name: str, limit: int, workload: Workload) -> str | None:
    """Of lengths that the campaign does not set the longest is known when the prompts are prepared."""
    longest, new = longest_stated(workload), workload["max_new_tokens"]
    if longest is None or longest.tokens + new <= limit:
        return None
    return (
        f"prompts of {longest.tokens} tokens and {new} new ones are {longest.tokens + new}, more than {limit}; "
        f"raise {name} or shorten {longest.key}"
    )


def _words(load: Mapping[str, Any]) -> str:
    return f"mode {load['mode']}" if load["mode"] != "offline" else "continuous batching"


def _of_pytorch(name: str) -> dict[str, str]:
    return {"pytorch": name}


RULES: tuple[Rule, ...] = (
    Rule("engine", "data_parallel", {"pytorch": "data_parallel", "replay": "data_parallel"}, _shares_out, _replicas),
    Rule("engine", "tensor_parallel", _of_pytorch("tensor_parallel"), _shares_out, _ranks),
    Rule("engine", "pipeline_parallel", _of_pytorch("pipeline_parallel"), _shares_out, _ranks),
    Rule("engine", "assistant_model", _of_pytorch("assistant_model"), bool, _drafting),
    *(
        Rule("sampling", name, _of_pytorch(name), bool, _drafting)
        for name in ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")
    ),
    Rule(
        "engine",
        "max_model_len",
        LENGTH_NAMES,
        _is_length,
        _length,
    ),
)


def restrictions(backend: str, engine: Mapping[str, Any], sampling: Mapping[str, Any]) -> tuple[Restriction, ...]:
    """The rules that these parameters, as specified, come under; of most engines none."""
    given = {"engine": engine, "sampling": sampling}
    own = {part: portable.translated(backend, part, given[part]) for part in ("engine", "sampling")}
    found = []
    for rule in RULES:
        name = rule.names.get(backend)
        if name is not None and rule.binds(value := own[rule.part].get(name)):
            said = name if name in given[rule.part] else rule.name
            found.append(Restriction(f"{rule.part}.{said}", partial(rule.refusal, f"{rule.part}.{said}", value)))
    return tuple(found)


def check_combination(backend: str, under: Sequence[Restriction], workload: Workload) -> None:
    """Raise `SectionError` for the first of the restrictions that this specified workload does not keep."""
    for each in under:
        if (reason := each.refusal(workload)) is not None:
            raise SectionError(each.key, f"{backend} cannot do this: {reason}")
