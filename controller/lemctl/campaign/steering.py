"""The keys that say how a campaign goes on: what a run waits for and how long, when to repeat, when to stop, when runs
may start, who is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from lemctl.campaign.hours import DAYS
from lemctl.campaign.notation import (
    MOST_WINDOWS,
    Days,
    Duration,
    Limit,
    Share,
    Text,
    TimeOfDay,
    Zone,
    one_window_or_some,
)
from lemctl.campaign.section import Section

GateKind = Literal["cool", "steady", "fixed"]


class Gate(Section):
    """What a run waits for before it is measured."""

    kind: GateKind = Field(
        default="cool",
        description="`cool`: until the GPU is back at its idle state. `steady`: no cooling. `fixed`: a fixed pause.",
    )
    max: Duration = Field(default=300.0, description="Longest wait of `cool`; then the run starts and is marked warm.")
    gap: Duration = Field(default=60.0, description="The pause of `fixed`, and of `cool` where there are no sensors.")


class Targets(Section):
    """Latencies that a request must keep to count as goodput. Judged afterwards: experiments keep their names."""

    ttft: Limit | None = Field(
        default=None, description="Longest time to the first output token, from when it was due."
    )
    tpot: Limit | None = Field(default=None, description="Longest mean time for each output token after the first.")
    e2e: Limit | None = Field(default=None, description="Longest time to the last output token, from when it was due.")


class Retry(Section):
    """Runs that failed for no fault of the experiment are tried again."""

    max: int = Field(default=2, ge=0, le=100, description="Further attempts of a run.")


class Timeouts(Section):
    """Limits of an attempt; reached, it is ended and recorded as such."""

    hello: Limit = Field(default=60.0, description="From the start of the runner to its first word.")
    start: Limit = Field(default=1800.0, description="From the run's order to the model loaded.")
    silence: Limit = Field(default=60.0, description="Without any sign of life from the runner or a replica.")
    progress: Limit = Field(default=900.0, description="Without a batch or token done while there is work.")
    warmup: Limit = Field(default=1800.0, description="The warm-up.")
    window: Limit = Field(default=7200.0, description="A window.")
    writing: Limit = Field(default=600.0, description="From the end of the last window to the result.")
    run: Limit = Field(default=7200.0, description="From the go to the result.")
    memory: Limit = Field(default=30.0, description="From an engine's end until the memory of its GPUs is free.")
    total: Limit = Field(default=21600.0, description="The whole attempt, gate and baselines included.")


class Breaker(Section):
    """Stops a campaign that only fails."""

    consecutive: int = Field(
        default=3, ge=1, le=1000, description="Runs in a row with the same failure after which the campaign pauses."
    )
    probe: Duration = Field(
        default=1800.0,
        description="After so long one run is tried; its success lets the campaign go on. 0: only when a person "
        "resumes it.",
    )


class Until(Section):
    """The precision at which repeating ends."""

    metric: Text = Field(default="energy_per_output_token", description="Name of the metric.")
    half_width: Share = Field(description="Relative half-width of its 95 % interval, such as `2%`.")


class CyclesUntil(Section):
    """Repeat until precise enough. Looked at only when a block (one cycle of every experiment) has ended."""

    until: Until = Field(description="When an experiment needs no more cycles.")
    min: int = Field(default=5, ge=2, le=10_000, description="At least so many.")
    max: int = Field(default=40, ge=2, le=10_000, description="At most so many.")


class HoursWindow(Section):
    """When runs may start. A run begins only if it is expected to end before the close; one that runs is left alone."""

    from_: TimeOfDay = Field(alias="from", description="Opening, on the wall clock of `tz`.")
    to: TimeOfDay = Field(description="Close. At or before `from`: on the next day.")
    days: Days = Field(
        default_factory=lambda: list(DAYS),
        validate_default=True,
        description="Days on which a window opens: a list, or a span such as `mon-fri`.",
    )
    tz: Zone | None = Field(
        default=None,
        description="IANA time zone such as `Europe/Berlin`. Default: the host's. One zone for all windows of a list.",
    )


def _form_of_hours(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<window>"


#: The tags are marks of ours that no key can be; messages leave them out.
Hours = Annotated[
    Annotated[HoursWindow, Tag("<window>")]
    | Annotated[list[HoursWindow], Field(min_length=1, max_length=MOST_WINDOWS), Tag("<list>")],
    Discriminator(_form_of_hours),
    BeforeValidator(one_window_or_some),
]


Told = Literal["finished", "breaker", "gpu_lost", "disk_low", "digest"]


class Notify(Section):
    """Who is told, and of what."""

    urls_from: str = Field(
        pattern=r"^LEM_NOTIFY[A-Z0-9_]{0,40}$",
        description="Where the addresses stand: the environment variable of this name, or the file of this name in "
        "the folder `notify` of the state folder. Begins with LEM_NOTIFY.",
    )
    on: list[Told] = Field(
        default=["finished", "breaker", "gpu_lost", "disk_low"],
        min_length=1,
        description="What is told: `finished` its end, also one by `on_failure`; `breaker` a pause that only a person "
        "ends or that follows failures; `digest` a summary once a day. By default everything but that.",
    )


def _cycles(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number, or a mapping with `until`")
    if not 1 <= value <= 10_000:
        raise ValueError("must be from 1 to 10000")
    return value


def _kind_of_cycles(value: Any) -> str:
    return "<until>" if isinstance(value, dict | CyclesUntil) else "<number>"


#: The tags are marks of ours that no key can be; messages leave them out.
Cycles = Annotated[
    Annotated[int, BeforeValidator(_cycles), Tag("<number>")] | Annotated[CyclesUntil, Tag("<until>")],
    Discriminator(_kind_of_cycles),
]
