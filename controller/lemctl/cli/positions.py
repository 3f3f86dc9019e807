"""Before a campaign is queued: whether its prompts, with the tokens to be made, fit into the positions of its models.

What the campaign alone shows is refused where it is planned (`campaign.combinations`); here the model's own
configuration and the prompts that lie prepared are looked at, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lem_runner import portable
from lemctl.campaign.combinations import LENGTH_NAMES
from lemctl.campaign.prompt_lengths import longest_stated, positions_of
from lemctl.engines.prepared import has_model, longest_prepared, model_config, model_path

if TYPE_CHECKING:
    from lemctl.campaign.plan import Experiment, Plan
    from lemctl.settings import Settings

#: Engines that read how many positions a model has, and refuse more.
_KEEP_TO_THE_MODEL = ("pytorch", "vllm", "tensorrt")
_UNSTATED_MEND = "set workload.lengths.truncate or workload.select.max_tokens"


def too_long(plan: Plan, settings: Settings) -> str | None:
    """One line for the first experiment whose longest prompt is known to be too long; None where none is."""
    limits: dict[tuple[str, int, int], tuple[int, str] | None] = {}
    seen: set[tuple[int, int, int]] = set()
    for experiment in plan.experiments:
        spec = experiment.spec
        model, workload = spec["model"], spec["workload"]
        key = (experiment.backend, id(model), id(spec["engine"]))
        if key not in limits:
            limits[key] = _limit(experiment, settings)
        limit = limits[key]
        # Sections are shared by experiments: each combination is looked at once.
        if limit is None or (asked := (limit[0], id(model), id(workload))) in seen:
            continue
        seen.add(asked)
        stated = longest_stated(workload)
        longest = _prepared(model, workload, settings) if stated is None else stated.tokens
        new = workload["max_new_tokens"]
        if longest is not None and longest + new > limit[0]:
            mend = _UNSTATED_MEND if stated is None else f"shorten {stated.key}"
            return (
                f"{experiment.model} on {experiment.backend} cannot take its prompts: the longest has {longest} tokens,"
                f" with {new} new ones that is more than the {limit[0]} positions of {limit[1]}; {mend}"
            )
    return None


def _limit(experiment: Experiment, settings: Settings) -> tuple[int, str] | None:
    """How many positions there are, and whose they are."""
    backend, spec = experiment.backend, experiment.spec
    name = LENGTH_NAMES.get(backend)
    declared = portable.translated(backend, "engine", spec["engine"]).get(name) if name is not None else None
    if type(declared) is int:
        return declared, f"engine.{name}"
    config = model_config(spec["model"], settings) if backend in _KEEP_TO_THE_MODEL else None
    positions = None if config is None else positions_of(config)
    return None if positions is None else (positions, "the model")


def _prepared(model: Mapping[str, Any], workload: Mapping[str, Any], settings: Settings) -> int | None:
    """Tokens of the longest prompt where the prompts lie prepared."""
    return longest_prepared(model, workload, settings) if has_model(model_path(model, settings)) else None
