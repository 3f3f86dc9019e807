"""The keys of a campaign file: types, defaults, allowed values and meanings. The documentation is generated from here.

What a key's value means together with others is checked elsewhere (`spec.py`). Durations are seconds once read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lemctl.campaign.notation import Cron, Dtype, Duration, Rate, Share, Text, Window
from lemctl.campaign.section import Section
from lemctl.campaign.steering import Breaker, Cycles, Gate, Hours, Notify, Retry, Targets, Timeouts

BACKENDS: tuple[str, ...] = ("pytorch", "vllm", "tensorrt", "replay")

Order = Literal["blocked", "shuffled", "as_written"]
Isolation = Literal["engine", "process", "container"]


Scalar = str | int | float | bool
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class RandomInput(Section):
    """Prompts made of random token ids, for `dataset: random`."""

    input_len: int = Field(ge=1, le=10_000_000, description="Exact length of each prompt, in tokens.")


class Select(Section):
    """Which rows of a data set are prompts, for files and hub data sets."""

    column: Text | None = Field(
        default=None,
        description="Column with the prompt; default the first there is of prompt, text, question, instruction, "
        "problem, query, messages, conversations.",
    )
    split: Text | None = Field(
        default=None, description="Part of a hub data set; default train, else test, else validation."
    )
    where: dict[str, Scalar | list[Scalar]] | None = Field(
        default=None, description="Columns with the value that they must have, or a list of them."
    )
    min_tokens: int | None = Field(default=None, ge=1, description="Leave shorter prompts out.")
    max_tokens: int | None = Field(default=None, ge=1, description="Leave longer prompts out.")


class Lengths(Section):
    """How long prompts are made, in tokens, the template's own included."""

    truncate: int | None = Field(default=None, ge=1, le=10_000_000, description="Cut longer prompts to so many.")
    pad: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Fill shorter prompts up to so many, with their own tokens from the beginning.",
    )
    draw: Text | None = Field(
        default=None,
        description="A length of its own for each prompt, cut or filled to it: `uniform(64, 512)`, `normal(512, 128)`, "
        "`lognormal(256, 0.5)` (median and sigma) or `mix(128: 0.7, 2048: 0.3)` (lengths and weights).",
    )
    keep: Literal["start", "end"] = Field(default="start", description="Which end of a cut prompt stays.")


class Load(Section):
    """How requests reach the engine."""

    mode: Literal["offline", "closed", "poisson", "gamma", "trace"] = Field(
        default="offline",
        description="`offline`: all prompts are there from the start, handed over in batches. `closed`: so many users, "
        "each asks again when answered. `poisson`, `gamma`, `trace`: requests arrive at moments of their own, whether "
        "the engine keeps up or not.",
    )
    batch_size: int = Field(default=1, ge=1, le=1_000_000, description="Requests that the runner submits at once.")
    batching: Literal["static", "dynamic", "continuous"] = Field(
        default="static",
        description="`static`: batches in the order of the prompts. `dynamic`: prompts of similar length together. "
        "`continuous`: a finished request makes room for the next, in engines that batch by themselves.",
    )
    concurrency: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Requests in flight, for `mode: closed`."
    )
    rate: Rate = Field(
        default=None, description="Mean arrivals, such as `4/s` or `90/min`, for `mode: poisson` and `gamma`."
    )
    burstiness: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Shape of the arrivals, for `mode: gamma`: 1 is Poisson, less is burstier, more is smoother.",
    )
    trace: Text | None = Field(
        default=None,
        description="`file:NAME` in a data-set folder, for `mode: trace`: recorded arrivals in seconds (text, CSV, "
        "JSON, JSON Lines).",
    )


class Workload(Section):
    """The work that every backend is given alike."""

    dataset: Text | None = Field(
        default=None,
        description="`file:NAME` in a data-set folder (.txt, .jsonl, .json, .csv, .parquet), `random`, one of alpaca, "
        "gsm8k, mmlu, openorca, ultrafeedback, or any hub data set: `hub:ORG/NAME[@REVISION][:CONFIG]`.",
    )
    random: RandomInput | None = Field(default=None, description="Shape of the prompts, for `dataset: random`.")
    select: Select | None = Field(default=None, description="Which rows are prompts.")
    lengths: Lengths | None = Field(default=None, description="How long prompts are made.")
    prompts: int = Field(default=100, ge=1, le=10_000_000, description="How many prompts are chosen.")
    seed: Seed = Field(default=0, description="Chooses the prompts, and makes them for `dataset: random`.")
    template: Literal["none", "chat"] = Field(
        default="none", description="`chat`: each prompt becomes a user's turn in the model's own chat template."
    )
    max_new_tokens: int = Field(default=128, ge=1, le=1_000_000, description="Output tokens of a request, at most.")
    output: Literal["fixed", "natural"] = Field(
        default="fixed",
        description="`fixed`: every request makes exactly `max_new_tokens`. `natural`: it may end earlier.",
    )
    load: Load = Field(default_factory=Load, description="How requests reach the engine.")
    prefix_cache_hits: Share | None = Field(
        default=None,
        description="Share of the prompt tokens that a prefix cache may serve; above it a result is INVALID. "
        "Default: none.",
    )


class Engine(Section):
    """Engine parameters that mean the same in every backend. Others are scoped: `pytorch.engine.NAME`."""

    dtype: Dtype = Field(
        default="auto", description="Precision of weights and activations. `auto`: as the model was saved."
    )
    max_model_len: int | None = Field(
        default=None, ge=1, description="Longest prompt plus output in tokens. Unset: the engine's own."
    )
    tensor_parallel: int | None = Field(default=None, ge=1, description="GPUs that share each layer.")
    pipeline_parallel: int | None = Field(default=None, ge=1, description="GPUs that each hold some layers.")
    data_parallel: int | None = Field(
        default=None, ge=1, description="Replicas of the engine, each on GPUs of its own."
    )
    prefix_caching: bool = Field(
        default=False, description="Keep the cache of a prompt's beginning for later requests that begin alike."
    )


class Sampling(Section):
    """Sampling parameters that mean the same in every backend. Others are scoped: `pytorch.sampling.NAME`."""

    do_sample: bool = Field(default=False, description="false: greedy decoding.")
    temperature: float | None = Field(default=None, gt=0, le=100, description="With `do_sample: true` only.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="With `do_sample: true` only.")
    top_k: int | None = Field(default=None, ge=1, description="With `do_sample: true` only.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="With `do_sample: true` only.")
    repetition_penalty: float | None = Field(default=None, gt=0, le=100, description="1 changes nothing.")
    seed: Seed = Field(default=0, description="Seed of the engine's random numbers.")


class Warmup(Section):
    """What runs before the window, on the same work."""

    kind: Literal["none", "one_batch", "steady"] = Field(
        default="steady", description="`steady`: until latency, temperature and clock are steady."
    )
    min: Duration = Field(default=0.0, description="At least, for `steady`.")
    max: Duration = Field(default=180.0, description="At most, for `steady`; reached, the result is marked.")


class Measure(Section):
    """The least that is measured."""

    window: Window = Field(
        default=60.0, description="Shortest window, whole batches; `one_pass`: every prompt exactly once."
    )
    baseline: Duration = Field(default=30.0, description="Loaded-idle baseline before and after. 0: none.")
    warmup: Warmup = Field(default_factory=Warmup, description="What runs before the window.")


class Scoped(Section):
    """Parameters for one backend only, checked against that backend's catalogue."""

    engine: dict[str, Any] = Field(default_factory=dict, description="Parameters of the engine.")
    sampling: dict[str, Any] = Field(default_factory=dict, description="Parameters of each request.")


class Campaign(Section):
    """A campaign file."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Letters, digits, dot, dash, underscore; at most 64."
    )
    description: str = Field(default="", max_length=2000, description="For the reader.")
    preset: str | None = Field(default=None, description="A set of defaults: see `lemctl config presets`.")
    model: str | dict[str, Any] | None = Field(
        default=None,
        description="`hf:ORG/NAME[@REVISION]`, `path:NAME` in the model folder, or `{random: {CONFIG}}`: a shape "
        "without its weights. Required, here or in `sweep`.",
    )
    backend: str | None = Field(default=None, description="The engine. Required, here or in `sweep`.")
    workload: Workload = Field(default_factory=Workload, description="The work.")
    engine: Engine = Field(default_factory=Engine, description="Engine parameters for every backend.")
    sampling: Sampling = Field(default_factory=Sampling, description="Sampling parameters for every backend.")
    measure: Measure = Field(default_factory=Measure, description="The least that is measured.")
    targets: Targets | None = Field(default=None, description="What `goodput` asks for; not for batches.")
    sweep: dict[str, Any] = Field(default_factory=dict, description="Dotted keys with the values to try; see below.")
    exclude: list[dict[str, Any]] = Field(default_factory=list, description="Cells of the sweep to leave out.")
    include: list[dict[str, Any]] = Field(default_factory=list, description="Experiments beside the sweep.")
    cycles: Cycles = Field(default=5, description="Repeats of every experiment.")
    order: Order = Field(
        default="blocked",
        description="`blocked`: a block is one cycle of every experiment; engines in seeded order within it, "
        "experiments shuffled within an engine. `shuffled`: all runs at random. `as_written`: cycle by cycle.",
    )
    seed: Seed = Field(default=0, description="Seed of the order.")
    reload_each_block: bool = Field(
        default=False, description="Load the engine anew where a cycle begins, though it stays the same."
    )
    isolation: Isolation = Field(
        default="engine",
        description="What consecutive runs of one engine share: the session, only the container, or nothing.",
    )
    gate: Gate = Field(default_factory=Gate, description="What a run waits for.")
    hours: Hours | None = Field(
        default=None,
        description="When runs may start: a window, or a list of windows, of which those that overlap or touch are "
        "one.",
    )
    schedule: Cron | None = Field(
        default=None,
        description="Cron expression of five fields, in the zone of `hours`: the campaign begins then, and again each "
        "time that it has ended before.",
    )
    retry: Retry = Field(default_factory=Retry, description="Further attempts.")
    timeouts: Timeouts = Field(default_factory=Timeouts, description="Limits of an attempt.")
    breaker: Breaker = Field(default_factory=Breaker, description="Stops a campaign that only fails.")
    gpus: list[Annotated[int, Field(ge=0)] | Text] | None = Field(
        default=None, description="Indices or UUIDs of the GPUs that a run uses. Default: the first one, or the CPU."
    )
    notify: Notify | None = Field(default=None, description="Who is told, and of what.")
    on_failure: Literal["continue", "pause", "abort"] = Field(
        default="continue",
        description="What a run that failed for good does to the campaign: nothing beyond its `breaker`, pause it, or "
        "cancel what is left.",
    )
