"""The engines a runner can hold: one module in this folder each, found by its file name and imported on first use.

To add one, add a file here with `PACKAGES`, `OWNS_CUDA`, `open()` and `describe()`; nothing else in the runner changes.
A name with a leading underscore is no backend.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from lem_runner import processes
from lem_runner.failures import BadRequestError
from lem_runner.parameters import Parameter
from lem_runner.peers import OnLoss
from lem_runner.prompts import Prompt
from lem_runner.protocol import LoadMode, RunSpec
from lem_runner.results import StopReason

#: How long `ConcurrentEngine.generate` waits for a request before it asks again, in seconds.
GENERATE_POLL_S = 1.0


@dataclass(frozen=True)
class Decoding:
    """How the tokens of one attempt are made. `fixed`: exactly `max_new_tokens`; `natural`: until the model ends."""

    max_new_tokens: int
    output: Literal["fixed", "natural"]
    sampling: dict[str, Any]


@dataclass(frozen=True)
class Generated:
    """What became of one prompt. Times are `time.monotonic_ns()`; None where the engine does not tell.

    `tokens` are the new token ids alone, the end token included where one was made; `token_ns` has one time for each.
    `queue_s` and `prefill_s` are the engine's own figures in seconds: submitted until scheduled, scheduled until the
    first token. `cached_tokens` counts the prompt's tokens that a prefix cache served.
    """

    tokens: list[int]
    t_first_ns: int | None
    t_end_ns: int
    token_ns: list[int] | None
    stop: StopReason
    queue_s: float | None = None
    prefill_s: float | None = None
    cached_tokens: int | None = None


class Engine(ABC):
    """A backend with a model loaded. Called from one thread; whatever it raises ends the attempt, not the runner.

    A `ValueError` (`BadRequestError` for one of our own) means that what was asked cannot be done.
    """

    def report_losses_to(self, on_loss: OnLoss) -> None:  # noqa: B027 - optional
        """Called once, before `load`: whom to tell, from any thread, when a process that the engine needs is lost.

        `on_loss` ends this process.
        """

    def ranks_silent_s(self) -> list[float]:
        """Seconds since each further rank of this engine told anything, where it has such; from any thread."""
        return []

    @abstractmethod
    def load(self, spec: RunSpec) -> None:
        """Load `spec.model` with `spec.engine`. Called once."""

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        """Run one batch to its end; results in the order of `prompts`. The same seed gives the same tokens."""

    def admit(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:  # noqa: B027 - optional
        """Raise `ValueError` where this engine cannot do the work of an attempt. Called before anything is measured."""

    def sync(self) -> None:  # noqa: B027 - optional
        """Return when the device has finished everything it was given."""

    def memory(self) -> dict[str, Any]:
        """Bytes now and at the peak since the last `admit`; a device that is not there is None."""
        return {
            "device_used_b": None,
            "device_peak_b": None,
            "host_rss_b": processes.rss_b(),
            "host_peak_rss_b": processes.peak_rss_b(),
        }

    def forget_prompts(self) -> None:  # noqa: B027 - optional
        """Empty the caches of earlier prompts. Called before a window, so that its prompts are new to the engine."""

    def gauges(self) -> dict[str, float | None]:
        """Its own counts since the last call: `kv_cache_usage`, `prefix_cache_hit_rate`, shares of 1.

        Called at both edges of a window, after `sync`: what the second call returns is kept with the result.
        """
        return {}

    def effective(self) -> dict[str, Any]:
        """What the engine really runs with, read back from it. JSON types.

        `reported` in it holds `engine` and `sampling`: the parameters by their own names, each as the loaded engine
        tells it, not as it was given. What the engine does not tell is left out. `prefix_cache`: whether prompts may be
        served from earlier ones.
        """
        return {}

    def close(self) -> None:  # noqa: B027 - optional
        """Give everything back. Called once, also after a failed `load`."""


class ConcurrentEngine(Engine):
    """An engine that takes requests one by one while it works on others, and batches them itself.

    Still called from one thread: what works in the background is the engine's own. Its `Generated` has `t_first_ns` and
    `token_ns`, as they passed: the windows of such loads count tokens by their times.
    """

    def expect(self, one_by_one: bool) -> None:
        """Called before `admit`: whether the attempt hands its requests over one by one, its warm-up too, or in whole
        batches by `generate` alone."""

    @abstractmethod
    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:
        """Hand one request over and return at once. `request` names it, unlike any other in flight."""

    @abstractmethod
    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        """The requests that ended since the last call, with their names; waits at most that long for the first one.

        What the engine raises here ends the attempt. A single request that failed ends with stop `error`.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Drop every request in flight; return when the engine works on none, and tells of none later."""

    @abstractmethod
    def batch_limit(self) -> int:
        """How many requests it works on at the same time, at most."""

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, seed: int) -> list[Generated]:
        """Hand one batch over at once, wait until the last of it has ended; results in the order of `prompts`."""
        for request, prompt in enumerate(prompts):
            self.submit(request, prompt, decoding, seed)
        ended: dict[int, Generated] = {}
        while len(ended) < len(prompts):
            ended.update(self.finished(GENERATE_POLL_S))
        return [ended[request] for request in range(len(prompts))]


class Backend(Protocol):
    """What a module in this folder has."""

    #: Distributions whose versions `hello` reports, the engine itself first.
    PACKAGES: tuple[str, ...]
    #: Who initialises the device: the engine itself, or torch in this process.
    OWNS_CUDA: Literal["engine", "torch"]
    #: The kinds of load it can serve; all but `offline` need a `ConcurrentEngine`.
    LOADS: tuple[LoadMode, ...]

    def open(self) -> Engine:
        """A new engine, nothing loaded."""
        ...

    def describe(self) -> list[Parameter]:
        """Every parameter that can be set, by introspection of the installed engine where there is one."""
        ...


def names() -> list[str]:
    """Names of the backends in this folder, sorted; none is imported."""
    return sorted(module.name for module in _modules())


def load(name: str) -> Backend:
    """Import one backend's module (not yet its engine). `BadRequestError` for a name that is not here."""
    if name not in names():
        raise BadRequestError(f"unknown backend {name!r}: this runner has {', '.join(names())}")
    return cast(Backend, importlib.import_module(f"{__name__}.{name}"))


def check_device_is_untouched(backend: Backend) -> None:
    """Raise `RuntimeError` where torch has initialised CUDA in this process, and the engine wants to do that itself.

    An engine with processes of its own cannot fork them once CUDA is initialised, and what torch holds by then is
    memory that the engine does not get.
    """
    torch = sys.modules.get("torch")
    if backend.OWNS_CUDA == "engine" and torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("CUDA was initialised in this process before the engine that owns it was loaded")


def packages() -> list[str]:
    """The `PACKAGES` of every backend, read from the sources without importing them."""
    found: set[str] = set()
    for module in _modules():
        spec = module.module_finder.find_spec(module.name, None)
        if spec is not None and spec.origin is not None:
            found.update(_declared_packages(Path(spec.origin)))
    return sorted(found)


def _modules() -> list[pkgutil.ModuleInfo]:
    return [module for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def _declared_packages(source: Path) -> tuple[str, ...]:
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id == "PACKAGES" and value is not None:
            return tuple(ast.literal_eval(value))
    return ()
