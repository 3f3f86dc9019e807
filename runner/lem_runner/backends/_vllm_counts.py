"""What vLLM counts of itself at each step, summed between two looks: the use of its KV cache, hits of its prefix cache.

A logger of vLLM's own kind; it is called on the thread that takes the engine's outputs, and so is whoever looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Counts:
    """Sums since the last `take`."""

    kv_cache_usage: float | None = None
    queries: int = 0
    hits: int = 0
    drafted: int = 0
    accepted: int = 0
    preempted: int | None = None

    def add(self, scheduler: Any, iteration: Any) -> None:
        """One step of the engine; either part may be missing."""
        if scheduler is not None:
            self.kv_cache_usage = max(self.kv_cache_usage or 0.0, scheduler.kv_cache_usage)
            self.queries += scheduler.prefix_cache_stats.queries
            self.hits += scheduler.prefix_cache_stats.hits
            speculation = scheduler.spec_decoding_stats
            if speculation is not None:
                self.drafted += speculation.num_draft_tokens
                self.accepted += speculation.num_accepted_tokens
        if iteration is not None:
            self.preempted = (self.preempted or 0) + iteration.num_preempted_reqs

    def gauges(self) -> dict[str, float | None]:
        """As `Engine.gauges` tells them; None where nothing was counted. `kv_cache_usage` is the highest of a step."""
        return {
            "kv_cache_usage": self.kv_cache_usage,
            "prefix_cache_hit_rate": self.hits / self.queries if self.queries else None,
            "draft_acceptance_rate": self.accepted / self.drafted if self.drafted else None,
            "preemptions": None if self.preempted is None else float(self.preempted),
        }


class Ledger:
    """Holds the counts; `logger` is what vLLM is given."""

    def __init__(self) -> None:
        self._now = Counts()

    def take(self) -> dict[str, float | None]:
        """The gauges since the last call; counting begins anew."""
        then, self._now = self._now, Counts()
        return then.gauges()

    def logger(self) -> Any:
        """A factory of the logger of all engines of a data-parallel group. It stands in the place of vLLM's own one for
        Prometheus, which nobody reads here and which costs some per cent of the tokens/s of a small model."""
        from vllm.v1.metrics.loggers import PrometheusStatLogger

        ledger = self

        class StepLogger(PrometheusStatLogger):  # type: ignore[misc]  # vLLM has no types here
            def __init__(self, vllm_config: Any, engine_indexes: Any = None) -> None: ...

            def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
                ledger._now.add(scheduler_stats, iteration_stats)

            def record_sleep_state(self, *_: Any, **__: Any) -> None: ...

            def record_admission_rejection(self, *_: Any) -> None: ...

            def log(self) -> None: ...

            def log_engine_initialized(self) -> None: ...

        return StepLogger
