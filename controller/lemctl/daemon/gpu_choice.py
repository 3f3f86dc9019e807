"""Which of this host's GPUs a campaign gets: asked by `start` before anything is queued, and by the daemon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lemctl.daemon.specs import gpus_of
from lemctl.engines.backends import BACKENDS
from lemctl.errors import PreflightRefused
from lemctl.measure.inventory import find_gpus
from lemctl.measure.readings import GpuFacts, NvmlUnavailableError


def gpus_here() -> tuple[list[GpuFacts], str | None]:
    """This host's GPUs, and where there is none, why."""
    try:
        found = find_gpus()
    except NvmlUnavailableError as error:
        return [], f"no GPU sensors: {error}"
    return found, None if found else "this host has no GPU"


def choose_gpus(wanted: Sequence[int | str] | None, here: Sequence[GpuFacts], why_none: str | None) -> tuple[str, ...]:
    """UUIDs of the GPUs that a campaign names by index or UUID; by default the first one, or none.

    Raises `PreflightRefused` for one that is not here.
    """
    known = [facts.uuid for facts in here]
    if wanted is None:
        return tuple(known[:1])
    by_index = {facts.index: facts.uuid for facts in here}
    chosen = tuple(by_index.get(name, str(name)) if isinstance(name, int) else name for name in wanted)
    if absent := [name for name in chosen if name not in known]:
        why = why_none or f"this host has {', '.join(known)}"
        raise PreflightRefused(f"GPU {', '.join(absent)} is not here ({why}); change `gpus` in the campaign file")
    return chosen


def used_gpus(spec: Mapping[str, Any], chosen: Sequence[str]) -> tuple[str, ...]:
    """Those of a campaign's GPUs that one experiment runs on: as many as its parallel degrees span, from the first on.

    The others are idle meanwhile, and their energy is a line of its own. A device map spreads one engine over all.
    """
    if spec["engine"].get("device_map") is not None:
        return tuple(chosen)
    return tuple(chosen[: gpus_of(spec)])


def must_know_gpus(specs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any experiment cannot do without a GPU, or spans more than one where there are any."""
    return any(BACKENDS[spec["backend"]].needs_gpu or gpus_of(spec) > 1 for spec in specs)


def refuse_too_few(specs: Iterable[Mapping[str, Any]], gpus: Sequence[str], why_none: str | None) -> None:
    """Raise `PreflightRefused` for the first experiment that the chosen GPUs cannot serve.

    Without a GPU the engines that can do without run on the CPU, their ranks beside each other.
    """
    for spec in specs:
        backend, wanted = BACKENDS[spec["backend"]], gpus_of(spec)
        if backend.needs_gpu and not gpus:
            raise PreflightRefused(f"{backend.name} needs an NVIDIA GPU ({why_none or 'the campaign names none'})")
        if gpus and wanted > len(gpus):
            raise PreflightRefused(
                f"the parallel degrees of an experiment on {backend.name} need {wanted} GPUs, the campaign has "
                f"{len(gpus)}; name them in `gpus`"
            )
