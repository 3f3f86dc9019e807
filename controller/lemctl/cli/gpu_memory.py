"""Before a campaign is queued: whether its models' weights can lie on the GPUs that it may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lemctl.campaign.vram import VramNeed, vram_needed
from lemctl.campaign.vram_fit import is_plain, ranks, share_b, weights_at_least_b
from lemctl.cli.terminal import warn
from lemctl.engines.prepared import is_stored_quantised, model_config, model_path, stored_weights_b
from lemctl.errors import PreflightRefused
from lemctl.lines import size

if TYPE_CHECKING:
    from lemctl.campaign.plan import Experiment, Plan
    from lemctl.measure.readings import GpuFacts
    from lemctl.settings import Settings


#: An experiment, its model's configuration, and what it needs.
Sized = tuple["Experiment", Mapping[str, Any], VramNeed]


def check_memory(plan: Plan, settings: Settings) -> None:
    """Raise `PreflightRefused` for weights that are larger than every GPU they may lie on; warn where the estimate with
    the KV cache is. Models of unknown size, and weights made smaller or kept elsewhere, are left to the engine."""
    from lemctl.daemon.gpu_choice import choose_gpus, gpus_here, used_gpus
    from lemctl.daemon.specs import gpus_of

    sized = _sized(plan, settings)
    if not sized:
        return
    here, why_none = gpus_here()
    chosen = choose_gpus(plan.document["gpus"], here, why_none)
    largest: tuple[int, int, Experiment] | None = None
    for experiment, config, need in sized:
        spec = experiment.spec
        total_b = _largest_total_b(here, used_gpus(spec, chosen))
        if total_b is None:
            continue
        parts = ranks(experiment.backend, spec["engine"])
        _refuse_too_large(experiment, config, need, parts, total_b, settings)
        asked_b = share_b(need, parts, max(1, gpus_of(spec) // parts))
        if asked_b is not None and asked_b > total_b and (largest is None or asked_b > largest[0]):
            largest = asked_b, total_b, experiment
    if largest is not None:
        asked_b, total_b, experiment = largest
        warn(
            f"{experiment.model} on {experiment.backend} may not fit: with its KV cache about {size(asked_b)} a GPU are"
            f" needed, and the largest has {size(total_b)}; `lemctl campaign plan` shows the estimate"
        )


def _sized(plan: Plan, settings: Settings) -> list[Sized]:
    """Of each engine with its model, where the size of the weights is known, the experiment of largest need."""
    configs: dict[int, Mapping[str, Any] | None] = {}
    largest: dict[tuple[str, int, int], Sized | None] = {}
    for experiment in plan.experiments:
        model, engine = experiment.spec["model"], experiment.spec["engine"]
        if id(model) not in configs:
            configs[id(model)] = _plain_config(model, settings)
        config, key = configs[id(model)], (experiment.backend, id(model), id(engine))
        if key not in largest:
            is_known = config is not None and is_plain(experiment.backend, engine, config)
            largest[key] = (experiment, config or {}, VramNeed()) if is_known else None
        known = largest[key]
        if known is not None:
            need = vram_needed(experiment.spec, known[1])
            if (need.total_bytes or 0) > (known[2].total_bytes or 0):
                largest[key] = experiment, known[1], need
    return [known for known in largest.values() if known is not None and known[2].total_bytes is not None]


def _plain_config(model: Mapping[str, Any], settings: Settings) -> Mapping[str, Any] | None:
    """A model's configuration; None where it is not at hand, or its weights are stored quantised beside it."""
    folder = model_path(model, settings)
    return None if folder is not None and is_stored_quantised(folder) else model_config(model, settings)


def _largest_total_b(here: list[GpuFacts], used: tuple[str, ...]) -> int | None:
    """Memory of the largest of these GPUs; None where one does not tell its own, or there is none."""
    totals = [facts.memory_total_b for facts in here if facts.uuid in used]
    known = [total for total in totals if total is not None]
    return max(known) if known and len(known) == len(totals) else None


def _refuse_too_large(
    experiment: Experiment, config: Mapping[str, Any], need: VramNeed, parts: int, total_b: int, settings: Settings
) -> None:
    engine, folder = experiment.spec["engine"], model_path(experiment.spec["model"], settings)
    stored_b = None if folder is None else stored_weights_b(folder)
    if folder is not None and stored_b is None:
        return
    least_b = weights_at_least_b(experiment.backend, engine, config, need, stored_b)
    if least_b is None or least_b <= total_b * parts:
        return
    divided = f", divided by {parts}" if parts > 1 else ""
    raise PreflightRefused(
        f"{experiment.model} on {experiment.backend} cannot fit: its weights alone are at least {size(least_b)}"
        f"{divided}, and no GPU that it may use has more than {size(total_b)}; raise engine.tensor_parallel or"
        " engine.pipeline_parallel with more `gpus`, quantise it, or take a smaller model"
    )
