"""How requests reach the engine: which keys belong to which mode, what is hashed of them, what they amount to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lem_runner.protocol import CLOSED_FILLINGS, CONTINUOUS_FILLINGS
from lemctl.campaign.messages import SectionError

#: The keys below `workload.load` that a mode reads; in the others they have no effect.
KEYS: Mapping[str, tuple[str, ...]] = {
    "offline": ("batch_size", "batching"),
    "closed": ("concurrency",),
    "poisson": ("rate",),
    "gamma": ("rate", "burstiness"),
    "trace": ("trace",),
}
OPEN_MODES = ("poisson", "gamma", "trace")
_EXAMPLES = {"concurrency": "16", "rate": "4/s", "burstiness": "0.5", "trace": "file:arrivals.txt"}

# The guesses: of the right order for a model of some billion parameters on one GPU; history replaces them.
GUESS_STEP_S = 0.03
GUESS_PREFILL_S = 0.2


def load_spec(load: Mapping[str, Any], prompts: int) -> dict[str, Any]:
    """What is hashed of `workload.load`: the mode's own keys alone. Raises `SectionError`."""
    mode = load["mode"]
    for name in KEYS[mode]:
        if load[name] is None:
            raise SectionError(f"workload.load.{name}", f"`mode: {mode}` needs it, such as {name}: {_EXAMPLES[name]}")
    if mode == "offline":
        return {"mode": mode, "batch_size": _reached(load, "batch_size", prompts), "batching": load["batching"]}
    if mode == "closed":
        return {"mode": mode, "concurrency": _reached(load, "concurrency", prompts)}
    if mode == "trace":
        return {"mode": mode, "trace": load["trace"]}
    shape = {"burstiness": float(load["burstiness"])} if mode == "gamma" else {}
    return {"mode": mode, "rate_per_s": load["rate"], **shape}


def _reached(load: Mapping[str, Any], name: str, prompts: int) -> int:
    value: int = load[name]
    if value > prompts:
        words = {"batch_size": f"a batch of {value}", "concurrency": f"a concurrency of {value}"}[name]
        raise SectionError(f"workload.load.{name}", f"{words} is never reached with {prompts} prompts")
    return value


def meaningless_keys(modes: Collection[str]) -> Iterator[str]:
    """The keys below `workload.load` that none of these modes reads."""
    read = {name for mode in modes for name in KEYS[mode]}
    yield from dict.fromkeys(name for names in KEYS.values() for name in names if name not in read)


def is_one_by_one(load: Mapping[str, Any]) -> bool:
    """Whether a specified load needs an engine that takes requests while it works on others."""
    return bool(load["mode"] != "offline" or load["batching"] == "continuous")


def targets_s(declared: Mapping[str, float | None]) -> dict[str, float]:
    """Of latency targets those that the file names, in s."""
    return {name: limit_s for name, limit_s in declared.items() if limit_s is not None}


def check_load(
    backend: str, served: Collection[str] | None, workload: Mapping[str, Any], measure: Mapping[str, Any]
) -> None:
    """Raise `SectionError` for a specified load that this backend cannot serve or that leaves no window.

    `served`: the modes that the backend's catalogue names; None where there is none to ask.
    """
    load = workload["load"]
    if not is_one_by_one(load):
        return
    mode = load["mode"]
    if served is not None and "closed" not in served:
        key, wanted = ("mode", f"mode {mode}") if mode != "offline" else ("batching", "continuous batching")
        raise SectionError(
            f"workload.load.{key}",
            f"{backend} cannot serve {wanted}: it works on one batch at a time (offline, static or dynamic)",
        )
    if mode == "trace":
        _check_trace(load["trace"], workload["prompts"], measure)
    elif mode not in OPEN_MODES and measure["one_pass"]:
        at_once, fillings = in_flight(workload), CLOSED_FILLINGS if mode == "closed" else CONTINUOUS_FILLINGS
        if workload["prompts"] < fillings * at_once:
            raise SectionError(
                "workload.prompts",
                f"{workload['prompts']} prompts with {at_once} at a time: ramp and drain are cut off, so one pass needs"
                f" at least {fillings * at_once}",
            )


def _check_trace(trace: Mapping[str, Any], prompts: int, measure: Mapping[str, Any]) -> None:
    if measure["one_pass"] and trace["arrivals"] < prompts:
        raise SectionError(
            "workload.prompts",
            f"{prompts} prompts, each sent once, and {trace['arrivals']} arrivals in {trace['name']}",
        )
    if not measure["one_pass"] and trace["span_s"] < measure["window_s"]:
        raise SectionError(
            "workload.load.trace",
            f"{trace['name']} lasts {trace['span_s']:g} s, the window {measure['window_s']:g} s (measure.window)",
        )


def load_words(load: Mapping[str, Any]) -> str:
    """A specified load in words: `poisson arrivals at 4/s`."""
    mode = load["mode"]
    if mode == "trace":
        trace = load["trace"]
        return f"trace {trace['name']}: {trace['arrivals']:,} arrivals in {trace['span_s']:g} s"
    if mode in OPEN_MODES:
        shape = f", burstiness {load['burstiness']:g}" if mode == "gamma" else ""
        return f"{mode} arrivals at {load['rate_per_s']:g}/s{shape}"
    if mode == "closed":
        return f"closed, {load['concurrency']} in flight"
    return f"offline, {load['batching']} batches of {load['batch_size']}"


def rate_per_s(load: Mapping[str, Any]) -> float | None:
    """Mean arrivals a second of a specified load; None for one without arrivals of its own."""
    if load["mode"] == "trace":
        trace = load["trace"]
        return float(trace["arrivals"] / trace["span_s"]) if trace["span_s"] else None
    rate: float | None = load.get("rate_per_s")
    return rate


def request_s(workload: Mapping[str, Any]) -> float:
    """A guess of how long one request, or a batch of them, takes."""
    return GUESS_PREFILL_S + GUESS_STEP_S * float(workload["max_new_tokens"])


def in_flight(workload: Mapping[str, Any]) -> int:
    """How many requests are with the engine at a time; of an open loop, about how many (Little's law)."""
    load = workload["load"]
    rate = rate_per_s(load)
    if rate is not None:
        return max(1, round(rate * request_s(workload)))
    return int(load.get("concurrency") or load.get("batch_size") or 1)
