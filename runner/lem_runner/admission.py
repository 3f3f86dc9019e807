"""The input of an attempt: is it possible work, and are the prompts those that were asked for."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from lem_runner.failures import BadRequestError
from lem_runner.protocol import ContractError, MeasureSpec, Prompt, WorkloadSpec


def read_prompts(workload: WorkloadSpec) -> list[Prompt]:
    """The first `workload.prompts` prompts of the file; anything wrong with it is a `BadRequestError` that names it."""
    path = Path(workload.prompts_path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadRequestError(f"prompt file {path}: {error.strerror or error}; prepare the prompts first") from error
    found = hashlib.sha256(content).hexdigest()
    if found != workload.prompts_sha256:
        raise BadRequestError(f"prompt file {path}: its sha256 is {found}, asked for was {workload.prompts_sha256}")
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


def check_workload(workload: WorkloadSpec) -> None:
    """Raise `BadRequestError` for numbers that make no work."""
    for name in ("prompts", "max_new_tokens", "batch_size"):
        value = getattr(workload, name)
        if type(value) is not int or value < 1:
            raise BadRequestError(f"workload: {name} is {value!r}, at least 1 is needed")
    if workload.mode != "offline":
        raise BadRequestError(f"workload: mode {workload.mode!r} is unknown; this runner has offline")
    if workload.batching not in ("static", "dynamic"):
        raise BadRequestError(f"workload: batching {workload.batching!r} is neither static nor dynamic")
    if workload.output not in ("fixed", "natural"):
        raise BadRequestError(f"workload: output {workload.output!r} is neither fixed nor natural")


def check_measure(measure: MeasureSpec) -> None:
    """Raise `BadRequestError` for a window or warm-up that cannot be."""
    warmup = measure.warmup
    if warmup.kind not in ("none", "one_batch", "steady"):
        raise BadRequestError(f"warm-up: kind {warmup.kind!r} is none of none, one_batch, steady")
    if measure.window_s is not None and not 0 < measure.window_s < math.inf:
        raise BadRequestError(f"window_s is {measure.window_s!r}, more than 0 is needed")
    if not (0 <= warmup.min_s < math.inf and 0 <= warmup.max_s < math.inf and warmup.cv_limit > 0):
        raise BadRequestError(f"warm-up: min_s {warmup.min_s!r}, max_s {warmup.max_s!r}, cv_limit {warmup.cv_limit!r}")
