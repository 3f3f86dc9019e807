"""A computed engine behind the daemon's own interface: the contract's events and results, on the simulated clock."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lem_runner.failures import BadRequestError
from lem_runner.protocol import CONTRACT_VERSION, Event, EventType, RunSpec
from lem_runner.results import AttemptResult
from lemctl.cancel import Cancel
from lemctl.clock import SimulatedClock
from lemctl.engines.backends import Backend
from lemctl.engines.events import Finished
from lemctl.engines.executor import Opened, Place
from lemctl.engines.session import OnEvent
from lemctl.engines.watchdogs import Ladder, Limits
from lemctl.errors import FaultKind, RunFailed
from lemctl.simulate.device import SimulatedGpu
from lemctl.simulate.served import Speed, at_once, serve_workload

LOAD_S = 45.0
PROMPT_TOKENS = 48
#: Relative scatter between runs, as repeated cells show it.
RUN_CV = 0.012
#: How often a run meets each kind of trouble, when faults are asked for.
FAULTS: tuple[tuple[FaultKind, float], ...] = (
    ("infra", 0.01),
    ("silent", 0.008),
    ("engine_error", 0.004),
    ("contaminated", 0.004),
    ("oom_gpu", 0.002),
)


@dataclass
class SimulatedExecutor:
    """The place where computed engines run."""

    clock: SimulatedClock
    gpu: SimulatedGpu
    rng: random.Random
    faults: bool
    name: str = "simulate"
    #: Of prompt files that are not the usual ones, by path: tokens of each prompt, and the arrivals of a trace in s.
    inputs: dict[str, tuple[int, Sequence[float]]] = field(default_factory=dict)

    def identity(self, backend: Backend) -> dict[str, Any]:
        """Nothing real to name."""
        return {"executor": self.name, "backend": backend.name}

    def obstacle(self) -> str | None:
        """Computed engines are always there."""
        return None

    def disks(self) -> Sequence[Path]:
        """Nothing is written outside the state folder."""
        return ()

    def path_of(self, host_path: Path) -> str:
        """As it is; nothing is read."""
        return str(host_path)

    def open(self, place: Place, limits: Limits) -> Opened:  # noqa: ARG002
        """A new session; always fresh."""
        return Opened(SimulatedSession(self), None)

    def release(self, lane: str) -> None:
        """Nothing is held."""

    def sweep(self) -> int:
        """Nothing is left behind."""
        return 0


class SimulatedSession:
    """One computed runner; an `EngineSession`."""

    def __init__(self, place: SimulatedExecutor):
        self._place = place
        self._clock = place.clock
        self._gpu = place.gpu
        self._rng = place.rng
        self._spec: RunSpec | None = None
        self._key = ""
        self._seq = 0
        self.ladder = Ladder()

    def greet(self, cancel: Cancel) -> dict[str, Any]:  # noqa: ARG002
        """Its own hello."""
        return {"contract": CONTRACT_VERSION, "simulated": True, "packages": {}}

    def hold_context(self, attempt: str, cancel: Cancel) -> str | None:  # noqa: ARG002
        """There is no driver."""
        return "a simulated GPU has no contexts"

    def load(self, attempt: str, spec: RunSpec, cancel: Cancel, on_event: OnEvent) -> dict[str, Any]:
        """45 s of loading, once per engine."""
        cancel.raise_if_set()
        reused = self._key == spec.engine_key
        self._spec, self._key = spec, spec.engine_key
        if not reused:
            self._gpu.set_load("loading", self._now_s())
            self._tell(on_event, attempt, "loading", {"backend": spec.backend, "engine_key": spec.engine_key})
            self._spend(LOAD_S * self._rng.uniform(0.9, 1.2))
        self._gpu.set_load("idle", self._now_s())
        self._maybe_fail(at_load=True)
        data = {"engine_key": spec.engine_key, "reused": reused, "load_s": 0.0 if reused else LOAD_S, "effective": {}}
        self._tell(on_event, attempt, "loaded", data)
        return data

    def idle(self, cancel: Cancel, seconds: float) -> None:
        """Time passes with the engine loaded."""
        if not cancel.event.is_set():
            self._spend(seconds)

    def go(self, attempt: str, cancel: Cancel, on_event: OnEvent) -> Finished:
        """Warm-up and one window; the records follow from the workload and the seed."""
        cancel.raise_if_set()
        assert self._spec is not None
        spec = self._spec
        tokens_in, trace_s = self._place.inputs.get(spec.workload.prompts_path, (PROMPT_TOKENS, ()))
        speed = Speed.of(spec, self._rng.gauss(1.0, RUN_CV))
        together = at_once(spec.workload, trace_s, speed, tokens_in)
        self._gpu.set_load("work", self._now_s(), self._intensity(together))
        batch_s = speed.batch_s(spec.workload, tokens_in, together)
        warm_s = max(spec.measure.warmup.min_s, 60.0 if spec.measure.warmup.kind == "steady" else batch_s)
        self._spend(warm_s)
        self._maybe_fail(at_load=False)
        self._tell(on_event, attempt, "warm", {"batches": math.ceil(warm_s / batch_s), "duration_s": warm_s})
        begin_ns = self._clock.monotonic_ns()
        self._tell(on_event, attempt, "window_begin", {"window": 0, "t_ns": begin_ns})
        try:
            served = serve_workload(spec, tokens_in, trace_s, speed, begin_ns)
        except BadRequestError as error:
            raise RunFailed("bad_request", str(error)) from error
        self._spend((served.end_ns - begin_ns) / 1e9)
        window = served.window
        self._tell(on_event, attempt, "window_end", {"window": 0, "t_ns": window.t_end_ns, "batches": window.batches})
        self._gpu.set_load("idle", self._now_s())
        result = AttemptResult(
            contract=CONTRACT_VERSION,
            attempt=attempt,
            engine_key=spec.engine_key,
            windows=[window],
            requests=len(served.requests),
            requests_sha256="",
            effective={"simulated": True},
            memory={},
            warmup={"ended": spec.measure.warmup.kind},
            counting=served.counting,
            load=served.load,
        )
        self._tell(on_event, attempt, "result", {"requests": len(served.requests)})
        return Finished(result, served.requests)

    def is_alive(self) -> bool:
        """It dies of nothing between runs."""
        return True

    def end(self, reason: str) -> str:  # noqa: ARG002
        """The GPU is empty again."""
        self._gpu.set_load("empty", self._now_s())
        return "quit"

    def log_offsets(self) -> dict[str, int]:
        """It prints nothing."""
        return {"stdout": 0, "stderr": 0}

    def _intensity(self, together: int) -> float:
        busy = 1 - math.exp(-together / 12)
        return (0.45 + 0.55 * busy) * self._rng.gauss(1.0, RUN_CV)

    def _maybe_fail(self, at_load: bool) -> None:
        if not self._place.faults:
            return
        for kind, share in FAULTS:
            if self._rng.random() < share / 2:
                raise RunFailed(kind, f"simulated {kind} while {'loading' if at_load else 'running'}")

    def _tell(self, on_event: OnEvent, attempt: str, kind: EventType, data: dict[str, Any]) -> None:
        on_event(Event(self._seq, self._clock.monotonic_ns(), attempt, kind, data))
        self._seq += 1

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _spend(self, seconds: float) -> None:
        self._clock.advance(seconds)
        self._gpu.advance(self._now_s())
