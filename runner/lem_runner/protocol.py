"""The contract between the controller and a runner: both sides import this file and nothing of each other.

Down (stdin, JSON lines): ``run`` -> ``go``, ``cancel``, ``context``, ``quit``. Up (files in the session folder):
``events.jsonl``, ``<attempt>.requests.jsonl``, ``<attempt>.result.json``. Standard library only, Python 3.10 to 3.13.

It is deliberately not a transport: who opens the pipes and folders is the business of each end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CONTRACT_VERSION = 1

EXIT_OK = 0
#: The controller is gone: stdin reached its end, or the lease went stale.
EXIT_ORPHANED = 70
#: The session folder could not be written (EX_IOERR of sysexits.h): no bye, no result.
EXIT_IO = 74

#: The controller touches the lease this often; a runner whose lease is older than the limit ends itself.
LEASE_PERIOD_S = 5.0
LEASE_LIMIT_S = 60.0
#: An `alive` event at least this often while anything is under way.
ALIVE_PERIOD_S = 5.0

#: Names the session folder in the environment of a local runner and of all that it starts.
SESSION_VARIABLE = "LEM_SESSION_DIR"

EVENTS_FILE = "events.jsonl"
LEASE_FILE = "lease"
PID_FILE = "runner.pid"
STDOUT_FILE = "stdout.log"
STDERR_FILE = "stderr.log"

EventType = Literal[
    "hello", "context", "loading", "loaded", "warm", "window_begin", "window_end", "alive", "result", "error", "bye"
]
EVENT_TYPES: tuple[EventType, ...] = (
    "hello",
    "context",
    "loading",
    "loaded",
    "warm",
    "window_begin",
    "window_end",
    "alive",
    "result",
    "error",
    "bye",
)
#: What a runner is doing, carried by `alive`. Counters must advance in `warmup` and `window` only.
Phase = Literal["idle", "loading", "waiting", "warmup", "window", "writing"]
#: The kinds of failure a runner can know of. The controller knows more.
RunnerFaultKind = Literal["oom_gpu", "oom_host", "engine_error", "bad_request"]
#: How requests reach the engine: batch after batch, so many at a time, at drawn moments, or at recorded ones.
LoadMode = Literal["offline", "closed", "poisson", "gamma", "trace"]
LOAD_MODES: tuple[LoadMode, ...] = ("offline", "closed", "poisson", "gamma", "trace")
#: Requests that a window needs, in fillings of what is in flight. An engine's own batching: ramp and drain must not
#: weigh. Closed: one filling for the ramp, one for the drain, one between.
CONTINUOUS_FILLINGS, CLOSED_FILLINGS = 10, 3
#: An open-loop window begins so many 95th percentiles of latency after the first arrival.
SETTLE_P95 = 3.0
Verb = Literal["run", "go", "cancel", "context", "quit"]


class ContractError(ValueError):
    """A message that does not follow the contract; says which field, and what was found."""


@dataclass(frozen=True)
class ModelRef:
    """What to load: a folder with a model, or a shape whose weights are drawn at random from `seed`."""

    kind: Literal["path", "random"]
    name: str
    path: str | None = None
    config: dict[str, Any] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Warmup:
    """`steady`: until the latency CV over the last 5 batches is below `cv_limit`, at least `min_s`, at most `max_s`.

    `await_device`: and until the controller, which sees temperature and clocks, has made the attempt's `steady_file`.
    """

    kind: Literal["none", "one_batch", "steady"] = "one_batch"
    min_s: float = 0.0
    max_s: float = 180.0
    cv_limit: float = 0.05
    await_device: bool = False


@dataclass(frozen=True)
class WorkloadSpec:
    """The work of one run. `prompts_path` is a prepared prompt file as the runner sees it (in its own file system).

    `offline`: batches of `batch_size`; with `continuous` so many in flight, as `closed` keeps `concurrency`. `poisson`
    and `gamma`: arrivals drawn from `arrival_seed` at `rate_per_s`, `gamma` with the shape `burstiness` (1 is Poisson,
    less is burstier). `trace`: arrivals from the prepared file `trace_path`, seconds after the first, one a line.
    """

    prompts_path: str
    prompts_sha256: str
    prompts: int
    max_new_tokens: int
    output: Literal["fixed", "natural"]
    mode: LoadMode
    batch_size: int = 1
    batching: Literal["static", "dynamic", "continuous"] = "static"
    concurrency: int | None = None
    rate_per_s: float | None = None
    burstiness: float | None = None
    trace_path: str | None = None
    trace_sha256: str | None = None
    arrival_seed: int = 0


@dataclass(frozen=True)
class MeasureSpec:
    """How long to measure: whole batches for at least `window_s`, or every prompt exactly once when it is None."""

    window_s: float | None = None
    warmup: Warmup = field(default_factory=Warmup)


@dataclass(frozen=True)
class Replica:
    """One of several runners that share an attempt: of the batches of its schedule, every `of`-th from `index` on."""

    index: int
    of: int


@dataclass(frozen=True)
class RunSpec:
    """Everything a runner needs for one attempt. `engine_key` equal to the loaded one means: no loading.

    `replica` is set by a runner for those below it; such a one waits with its window until it is told to begin.
    """

    backend: str
    engine_key: str
    model: ModelRef
    engine: dict[str, Any]
    sampling: dict[str, Any]
    workload: WorkloadSpec
    measure: MeasureSpec
    seed: int = 0
    replica: Replica | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSpec:
        """Parse what `to_json` made; an unknown or missing field is a `ContractError`."""
        try:
            parts = dict(data)
            measure = dict(parts.pop("measure"))
            warmup = Warmup(**measure.pop("warmup"))
            replica = parts.pop("replica", None)
            return cls(
                model=ModelRef(**parts.pop("model")),
                workload=WorkloadSpec(**parts.pop("workload")),
                measure=MeasureSpec(warmup=warmup, **measure),
                replica=None if replica is None else Replica(**replica),
                **parts,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"run spec: {error}") from error


@dataclass(frozen=True)
class Command:
    """One line on stdin. `attempt` is empty only for `quit`; `spec` is there only for `run`."""

    verb: Verb
    attempt: str = ""
    spec: RunSpec | None = None

    def encode(self) -> bytes:
        """One JSON line."""
        body: dict[str, Any] = {"v": CONTRACT_VERSION, "verb": self.verb, "attempt": self.attempt}
        if self.spec is not None:
            body["spec"] = self.spec.to_json()
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Command:
        """Parse one line; raises `ContractError` for anything else than a command of this version."""
        body = json_object(line)
        if body.get("v") != CONTRACT_VERSION:
            raise ContractError(f"command of contract {body.get('v')!r}, this runner speaks {CONTRACT_VERSION}")
        verb = body.get("verb")
        if verb not in ("run", "go", "cancel", "context", "quit"):
            raise ContractError(f"unknown verb {verb!r}")
        attempt = body.get("attempt", "")
        if not isinstance(attempt, str) or (verb != "quit" and not is_safe_name(attempt)):
            raise ContractError(f"{verb}: attempt {attempt!r} is no name")
        spec = RunSpec.from_json(body["spec"]) if verb == "run" and isinstance(body.get("spec"), dict) else None
        if verb == "run" and spec is None:
            raise ContractError("run: no spec")
        return cls(verb, attempt, spec)


@dataclass(frozen=True)
class Event:
    """One line of `events.jsonl`. `seq` counts from 0 without a gap; `t_mono_ns` is `time.monotonic_ns()`.

    Data by type (all JSON):
      hello         {contract, runner_hash, python, pid, boot_id, backends: [name], packages: {name: version}}
      context       {held, reason|None}                a device context is held until the next `run`, or why not
      loading       {backend, engine_key}
      loaded        {engine_key, reused, load_s, effective: {...}, memory: {device_used_b|None, host_rss_b}}
      warm          {batches, duration_s, ended: "none"|"one_batch"|"steady"|"capped", batch_s: [...]}
      window_begin  {window, t_ns}                     t_ns: taken after device synchronisation
      window_end    {window, t_ns, batches, requests, tokens_in, tokens_out}
      alive         {phase, batches, tokens_out}       counters since the start of the attempt; an engine of several
                    replicas: and replicas: [{phase, batches, tokens_out, silent_s}], of each what it last told, and
                    seconds since it told anything; one of several ranks: and ranks: [{silent_s}], without the
                    first one, which tells this
      result        {file, sha256, requests_file, requests_sha256, requests}
      error         {kind, message, traceback, fatal}  fatal: the engine is unusable, the session ends
      bye           {reason}
    """

    seq: int
    t_mono_ns: int
    attempt: str
    type: EventType
    data: dict[str, Any]

    def encode(self) -> bytes:
        """One JSON line."""
        body = {
            "v": CONTRACT_VERSION,
            "seq": self.seq,
            "t_mono_ns": self.t_mono_ns,
            "attempt": self.attempt,
            "type": self.type,
            "data": self.data,
        }
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Event:
        """Parse one line; raises `ContractError`."""
        body = json_object(line)
        if body.get("v") != CONTRACT_VERSION:
            raise ContractError(f"event of contract {body.get('v')!r}, this controller speaks {CONTRACT_VERSION}")
        seq, t_mono_ns, attempt, kind, data = (body.get(k) for k in ("seq", "t_mono_ns", "attempt", "type", "data"))
        if type(seq) is not int or type(t_mono_ns) is not int or not isinstance(attempt, str):
            raise ContractError("event without seq, t_mono_ns or attempt")
        if kind not in EVENT_TYPES or not isinstance(data, dict):
            raise ContractError(f"event of unknown type {kind!r}")
        return cls(seq, t_mono_ns, attempt, kind, data)


def steady_file(attempt: str) -> str:
    """Made by the controller in the session folder when the device has stopped warming up."""
    return f"{attempt}.steady"


def begin_file(attempt: str) -> str:
    """Made in a replica's folder when all are warm; holds the moment, monotonic ns, at which the windows begin."""
    return f"{attempt}.begin"


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def is_safe_name(name: str) -> bool:
    """True for a name that can be a file name anywhere: letters, digits, dot, dash, underscore, not leading dot."""
    return 0 < len(name) <= 128 and name[0] != "." and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)


def json_object(line: bytes) -> dict[str, Any]:
    """One line that must hold a JSON object; raises `ContractError`."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"no JSON: {error}") from error
    if not isinstance(body, dict):
        raise ContractError("no JSON object")
    return body
