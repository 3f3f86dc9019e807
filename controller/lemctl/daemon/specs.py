"""From an experiment's specification to the runner's: where things lie as the runner sees them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lem_runner.protocol import MeasureSpec, ModelRef, RunSpec, Warmup, WorkloadSpec


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


def run_spec(
    spec: dict[str, Any], located: Located, path_of: Callable[[Path], str], engine_key: str, watched: bool = False
) -> RunSpec:
    """The command that makes the runner do this experiment once.

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
        engine=spec["engine"],
        # The seed is the runner's own: it seeds every engine alike, whatever the engine calls it.
        sampling={name: value for name, value in spec["sampling"].items() if name != "seed"},
        workload=WorkloadSpec(
            prompts_path=path_of(located.prompts),
            prompts_sha256=located.prompts_sha256,
            prompts=workload["prompts"],
            max_new_tokens=workload["max_new_tokens"],
            output=workload["output"],
            mode=load["mode"],
            batch_size=load["batch_size"],
            batching=load["batching"],
        ),
        measure=MeasureSpec(window_s=measure["window_s"], warmup=_warmup(measure["warmup"], watched)),
        seed=spec["sampling"].get("seed", 0),
    )


def _warmup(warmup: dict[str, Any], watched: bool) -> Warmup:
    return Warmup(**warmup, await_device=watched and warmup["kind"] == "steady")
