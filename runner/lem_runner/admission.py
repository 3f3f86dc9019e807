"""The input of an attempt: is it possible work, and are the prompts those that were asked for."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from lem_runner import load
from lem_runner.backends import ConcurrentEngine, Engine
from lem_runner.failures import BadRequestError
from lem_runner.prompts import Prompt
from lem_runner.protocol import LOAD_MODES, ContractError, MeasureSpec, WorkloadSpec


def read_prompts(workload: WorkloadSpec) -> list[Prompt]:
    """The first `workload.prompts` prompts of the file; anything wrong with it is a `BadRequestError` that names it."""
    path = Path(workload.prompts_path)
    content = _read_checked("prompt file", path, workload.prompts_sha256, "prepare the prompts first")
    lines = content.splitlines()[: workload.prompts]
    if len(lines) < workload.prompts:
        raise BadRequestError(f"prompt file {path}: {len(lines)} prompts, asked for were {workload.prompts}")
    try:
        prompts = [Prompt.decode(line) for line in lines]
    except ContractError as error:
        raise BadRequestError(f"prompt file {path}: {error}") from error
    for prompt in prompts:
        if not prompt.ids:
            raise BadRequestError(f"prompt file {path}: prompt {prompt.index} has no tokens")
    return prompts


def read_trace(workload: WorkloadSpec) -> list[float]:
    """Recorded arrivals in seconds after the first; none for another load. A `BadRequestError` names what is wrong."""
    if workload.mode != "trace":
        return []
    if workload.trace_path is None:
        raise BadRequestError("workload: mode trace without a trace_path")
    path = Path(workload.trace_path)
    content = _read_checked("trace", path, workload.trace_sha256, "prepare it first")
    try:
        return [float(line) for line in content.split()]
    except ValueError as error:
        raise BadRequestError(f"trace {path}: {error}") from error


def _read_checked(what: str, path: Path, sha256: str | None, advice: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadRequestError(f"{what} {path}: {error.strerror or error}; {advice}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BadRequestError(f"{what} {path}: its sha256 is {found}, asked for was {sha256}")
    return content


def check_workload(workload: WorkloadSpec) -> None:
    """Raise `BadRequestError` for numbers that make no work."""
    for name in ("prompts", "max_new_tokens", "batch_size"):
        value = getattr(workload, name)
        if type(value) is not int or value < 1:
            raise BadRequestError(f"workload: {name} is {value!r}, at least 1 is needed")
    if workload.mode not in LOAD_MODES:
        raise BadRequestError(f"workload: mode {workload.mode!r} is unknown; this runner has {', '.join(LOAD_MODES)}")
    if workload.batching not in ("static", "dynamic", "continuous"):
        raise BadRequestError(f"workload: batching {workload.batching!r} is none of static, dynamic, continuous")
    if workload.output not in ("fixed", "natural"):
        raise BadRequestError(f"workload: output {workload.output!r} is neither fixed nor natural")
    _check_load(workload)


def _check_load(workload: WorkloadSpec) -> None:
    concurrency = workload.concurrency
    if workload.mode == "closed" and (type(concurrency) is not int or not 1 <= concurrency <= workload.prompts):
        raise BadRequestError(f"workload: concurrency {concurrency!r} with {workload.prompts} prompts")
    numbers = {"poisson": ("rate_per_s",), "gamma": ("rate_per_s", "burstiness")}.get(workload.mode, ())
    for name in numbers:
        value = getattr(workload, name)
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise BadRequestError(f"workload: {name} is {value!r}, more than 0 is needed")


def check_engine(workload: WorkloadSpec, measure: MeasureSpec, engine: Engine) -> None:
    """Raise `BadRequestError` where this engine cannot serve this load, or not long enough to measure it."""
    if not load.is_one_by_one(workload):
        return
    if not isinstance(engine, ConcurrentEngine):
        wanted = workload.mode if workload.mode != "offline" else "continuous batching"
        raise BadRequestError(f"workload: {wanted} needs an engine that takes requests while it works on others")
    if workload.mode in load.OPEN_MODES or measure.window_s is not None:
        return
    target = min(load.in_flight_of(workload), engine.batch_limit())
    least = load.fillings_of(workload) * target
    if workload.prompts < least:
        raise BadRequestError(
            f"workload: {workload.prompts} prompts with {target} at a time; ramp and drain are cut off, so one pass "
            f"needs at least {least}"
        )


def check_measure(measure: MeasureSpec) -> None:
    """Raise `BadRequestError` for a window or warm-up that cannot be."""
    warmup = measure.warmup
    if warmup.kind not in ("none", "one_batch", "steady"):
        raise BadRequestError(f"warm-up: kind {warmup.kind!r} is none of none, one_batch, steady")
    if measure.window_s is not None and not 0 < measure.window_s < math.inf:
        raise BadRequestError(f"window_s is {measure.window_s!r}, more than 0 is needed")
    if not (0 <= warmup.min_s < math.inf and 0 <= warmup.max_s < math.inf and warmup.cv_limit > 0):
        raise BadRequestError(f"warm-up: min_s {warmup.min_s!r}, max_s {warmup.max_s!r}, cv_limit {warmup.cv_limit!r}")
