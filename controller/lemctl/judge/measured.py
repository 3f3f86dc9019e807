"""What one attempt measured, as the metrics read it. Values only: whoever builds it has done all reading and matching.

The request and window records are Protocols that the runner's own records satisfy as they are, so nothing is copied
field by field between the contract and the judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lem_runner.results import Counting

NS_PER_S = 1e9

#: Who or what an energy figure covers. `gpu_not_allotted`: GPUs of the host that this run did not use.
Scope = Literal["gpu", "gpu_series", "gpu_not_allotted", "cpu", "ram"]
SCOPES: tuple[Scope, ...] = ("gpu", "gpu_series", "gpu_not_allotted", "cpu", "ram")
Basis = Literal["measured", "estimated"]
BaselineName = Literal["b0", "b1", "b2"]
FlopsMethod = Literal["counted", "analytic", "2N"]


@dataclass(frozen=True, slots=True)
class Absent:
    """A figure that does not exist, and why. Never stands for 0."""

    reason: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its standard uncertainty (k = 1), both in the unit that the field's name says."""

    value: float
    u: float = 0.0


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy over all windows in J, with the meter that gave it and whether that meter measures or estimates."""

    energy_j: float
    u_j: float
    meter: str
    basis: Basis = "measured"


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations of the counted work in all windows (2 per multiply-add), and where they come from."""

    flops: float
    method: FlopsMethod


class WindowSpan(Protocol):
    """One measured interval; edges are monotonic ns, stamped after device synchronisation."""

    @property
    def window(self) -> int:
        """Number of the window."""
        ...

    @property
    def t_begin_ns(self) -> int:
        """Its beginning."""
        ...

    @property
    def t_end_ns(self) -> int:
        """The end."""
        ...

    @property
    def batches(self) -> int:
        """Batches inside."""
        ...


class ServedRequest(Protocol):
    """One inference request; times are monotonic ns, None where the engine does not tell."""

    @property
    def window(self) -> int:
        """Number of the window."""
        ...

    @property
    def prompt_sha256(self) -> str:
        """Hash of the prompt's token ids."""
        ...

    @property
    def tokens_in(self) -> int:
        """Tokens of the prompt."""
        ...

    @property
    def tokens_out(self) -> int:
        """Tokens made."""
        ...

    @property
    def t_submit_ns(self) -> int:
        """Handed to the engine."""
        ...

    @property
    def t_first_ns(self) -> int | None:
        """Its first token."""
        ...

    @property
    def t_end_ns(self) -> int:
        """The end."""
        ...

    @property
    def token_ns(self) -> Sequence[int] | None:
        """Each token."""
        ...

    @property
    def stop(self) -> str:
        """Why it ended."""
        ...

    @property
    def t_due_ns(self) -> int | None:
        """When it was due, under a load with arrivals."""
        ...

    @property
    def queue_s(self) -> float | None:
        """Seconds in the engine's queue."""
        ...

    @property
    def prefill_s(self) -> float | None:
        """Seconds from the queue's end to the first token."""
        ...

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that a prefix cache served."""
        ...


_NO_METER = Absent("no such meter ran")
_NO_SENSOR = Absent("no sensor gave it")
_NO_FLOPS = Absent("FLOPs were not counted")
_NO_SHAPE = Absent("the model's shape is not known")
_NO_PEAK = Absent("no peak is known for this GPU")
NO_TARGETS = Absent("the campaign declares no latency target (targets.ttft, targets.tpot, targets.e2e)")
_NO_CACHE_USE = Absent("the engine does not tell its KV-cache use")


@dataclass(frozen=True)
class Measured:
    """Everything the metrics of one attempt are computed from.

    `energy` and `baselines` (power in W) may leave keys out: an absent key is an absent figure.
    `decode_bytes_per_step`: weights and KV cache read in one decode step at the batch size used, in bytes.
    `peak_flops_per_s` is that of the precision used, summed over the GPUs of the run, like `peak_bytes_per_s`.
    `targets_s`: latencies that a request must keep, by `ttft`, `tpot` and `e2e`; at least one, if any.
    Utilisations, `power_cap_share` and `kv_cache_use` are shares between 0 and 1.
    """

    windows: Sequence[WindowSpan]
    requests: Sequence[ServedRequest]
    counting: Counting = "whole_requests"
    energy: Mapping[Scope, Energy | Absent] = field(default_factory=dict)
    baselines: Mapping[BaselineName, Quantity | Absent] = field(default_factory=dict)
    flops: Flops | Absent = _NO_FLOPS
    decode_bytes_per_step: float | Absent = _NO_SHAPE
    peak_flops_per_s: float | Absent = _NO_PEAK
    peak_bytes_per_s: float | Absent = _NO_PEAK
    peak_memory_bytes: float | Absent = _NO_SENSOR
    gpu_utilisation: float | Absent = _NO_SENSOR
    memory_utilisation: float | Absent = _NO_SENSOR
    sm_clock_mhz: float | Absent = _NO_SENSOR
    power_cap_share: float | Absent = _NO_SENSOR
    temperature_c: float | Absent = _NO_SENSOR
    kv_cache_use: float | Absent = _NO_CACHE_USE
    targets_s: Mapping[str, float] | Absent = NO_TARGETS

    def energy_of(self, scope: Scope) -> Energy | Absent:
        """The energy of one scope, absent with a reason where no meter covers it."""
        return self.energy.get(scope, _NO_METER)

    def baseline_of(self, name: BaselineName) -> Quantity | Absent:
        """A baseline's power in W, absent with a reason where it was not taken."""
        return self.baselines.get(name, Absent(f"baseline {name.upper()} was not taken"))
