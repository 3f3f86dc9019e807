"""Which of this host's GPUs a campaign gets: asked by `start` before anything is queued, and by the daemon."""

from __future__ import annotations

from collections.abc import Sequence

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
