"""From an experiment's specification to the runner's: where things lie as the runner sees them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lem_runner import portable
from lem_runner.protocol import MeasureSpec, ModelRef, RunSpec, Warmup, WorkloadSpec
from lemctl.engines.folders import with_folders


class Located(Protocol):
    """Where the model and the prepared prompts of an experiment lie on this host."""

    @property
    def model_path(self) -> Path | None:
        """Folder of the model; None for a random one."""
        ...

    @property
    def prompts(self) -> Path:
        """The prepared prompt file."""
        ...

    @property
    def prompts_sha256(self) -> str:
        """Hash of that file."""
        ...

    @property
    def tokenizer(self) -> str | None:
        """What its token ids belong to (`lem_runner.prompts.tokenizer_identity`)."""
        ...

    @property
    def trace(self) -> Path | None:
        """The prepared arrivals of a trace; None for another load."""
        ...

    @property
    def trace_sha256(self) -> str | None:
        """Hash of that file."""
        ...

    @property
    def sources(self) -> Mapping[str, Any]:
        """Which commits the model and the data set are of, or why none is known."""
        ...


@dataclass(frozen=True)
class Resolved:
    """What is handed to the engine, in its own names."""

    engine: dict[str, Any]
    sampling: dict[str, Any]


def resolved(spec: Mapping[str, Any], document: Mapping[str, Any]) -> Resolved:
    """The experiment's parameters in its engine's names, with the limits that follow from the campaign `document`."""
    backend = spec["backend"]
    largest: int | None = document.get("largest_batch", {}).get(backend)
    limits = portable.limits(backend, largest) if largest else {}
    return Resolved(
        {**limits, **portable.translated(backend, "engine", spec["engine"])},
        # The seed is the runner's own: it seeds every engine alike, whatever the engine calls it.
        portable.translated(
            backend, "sampling", {name: value for name, value in spec["sampling"].items() if name != "seed"}
        ),
    )


def configuration(spec: Mapping[str, Any], parameters: Resolved) -> dict[str, Any]:
    """What an attempt keeps of its parameters: as the campaign says them, and as they are handed to the engine."""
    return {
        "declared": {"engine": spec["engine"], "sampling": spec["sampling"]},
        "resolved": {"engine": parameters.engine, "sampling": parameters.sampling},
        "reported": None,
    }


def reported(effective: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters that the engine says it runs with, in its own names; None where it tells of none."""
    found = effective.get("reported")
    return dict(found) if isinstance(found, Mapping) else None


def gpus_of(spec: Mapping[str, Any]) -> int:
    """How many GPUs the parallel degrees of an experiment span, whatever its engine calls them."""
    backend = spec["backend"]
    return portable.gpus_spanned(backend, portable.translated(backend, "engine", spec["engine"]))


def run_spec(
    spec: dict[str, Any],
    parameters: Resolved,
    located: Located,
    path_of: Callable[[Path], str],
    engine_key: str,
    watched: bool = False,
    folder_of: Callable[[str], Path] = Path,
) -> RunSpec:
    """The command that makes the runner do this experiment once.

    `folder_of` finds what a parameter names as `path:NAME` in the model folder: an adapter, a drafting model.

    `watched`: sensors see the device, so that a steady warm-up ends no sooner than they say.
    """
    model, workload, measure = spec["model"], spec["workload"], spec["measure"]
    load = workload["load"]
    return RunSpec(
        backend=spec["backend"],
        engine_key=engine_key,
        model=ModelRef(
            kind="random" if located.model_path is None else "path",
            name=model["name"] or "random",
            path=None if located.model_path is None else path_of(located.model_path),
            config=model["config"],
        ),
        engine=with_folders(parameters.engine, lambda name: path_of(folder_of(name))),
        sampling=parameters.sampling,
        workload=WorkloadSpec(
            prompts_path=path_of(located.prompts),
            prompts_sha256=located.prompts_sha256,
            prompts=workload["prompts"],
            max_new_tokens=workload["max_new_tokens"],
            output=workload["output"],
            **_load(load, located, path_of),
            # Drawn by the seed that chose the prompts: the same arrivals for every engine and in every cycle.
            arrival_seed=workload["seed"],
        ),
        measure=MeasureSpec(window_s=measure["window_s"], warmup=_warmup(measure["warmup"], watched)),
        seed=spec["sampling"].get("seed", 0),
    )


def _load(load: dict[str, Any], located: Located, path_of: Callable[[Path], str]) -> dict[str, Any]:
    """The load's fields of a `WorkloadSpec`; a trace is where the host has prepared it."""
    fields = {name: value for name, value in load.items() if name != "trace"}
    if "trace" in load:
        assert located.trace is not None
        fields |= {"trace_path": path_of(located.trace), "trace_sha256": located.trace_sha256}
    return fields


def _warmup(warmup: dict[str, Any], watched: bool) -> Warmup:
    return Warmup(**warmup, await_device=watched and warmup["kind"] == "steady")
