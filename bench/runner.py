"""What the runner costs beyond the model's own work: the same batches in a bare script and in a runner's window.

Both sides are processes of the engine's interpreter with the same random Llama, prompts and settings: transformers'
`generate` on one thread, vLLM's `LLM` on as many as it takes. The bare script takes no times of tokens, keeps no
records and knows no contract. Pairs in ABBA order, until the 95 % half-width of the loss is at most 0.5 % or the pairs
are used up. The loss is that of tokens/s; passed where its upper end is at most 1 %, failed where its lower end is
above, else not resolved. The interpreters are LEM_PYTHON_PYTORCH and LEM_PYTHON_VLLM, else `.venv-pytorch` and
`.venv-vllm` in the checkout; an engine without one is left out.

    python bench/runner.py [--engine pytorch] [--engine vllm] [--pairs 200] [--out bench/results/runner.md]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bare_scripts import BARE_TRANSFORMERS, BARE_VLLM
from machine import describe_machine

from lem_runner.prompts import Prompt, ids_sha256
from lem_runner.protocol import (
    EVENTS_FILE,
    LEASE_FILE,
    LEASE_PERIOD_S,
    Command,
    Event,
    MeasureSpec,
    ModelRef,
    RunSpec,
    Warmup,
    WorkloadSpec,
)
from lem_runner.results import RequestRecord, requests_file, result_file
from lemctl.judge.statistics import Interval, t_interval

CHECKOUT = Path(__file__).parents[1]
LOSS_LIMIT, HALF_WIDTH_LIMIT = 0.01, 0.005
MIN_PAIRS = 10
PROMPTS, BATCH_SIZE, INPUT_LEN, NEW_TOKENS = 32, 4, 32, 16
EVENT_CEILING_S = 300.0
#: How often the runner's events are looked at, and for how long they are left alone after `go`, in lengths of its last
#: window: twenty looks a second in mid-window take some per cent from an engine that computes on every core, and the
#: bare side has none beside it.
LOOK_S, LEAVE_ALONE = 0.05, 1.3
#: About 20 M parameters: some milliseconds a step on two cores.
SHAPE = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 4096,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Contender:
    """One engine: the bare script, and how the runner is told to do the same."""

    backend: str
    title: str
    bare: str
    engine: dict[str, Any]
    sampling: dict[str, Any]

    @property
    def python(self) -> str | None:
        """Its interpreter, where there is one."""
        found = CHECKOUT / f".venv-{self.backend}" / "bin" / "python"
        return os.environ.get(f"LEM_PYTHON_{self.backend.upper()}") or (str(found) if found.exists() else None)


CONTENDERS = {
    contender.backend: contender
    for contender in (
        Contender(
            "pytorch",
            "transformers `generate`, one thread",
            BARE_TRANSFORMERS,
            {"dtype": "float32", "num_threads": 1},
            {},
        ),
        Contender(
            "vllm",
            "vLLM's `LLM.generate`",
            BARE_VLLM,
            {
                "dtype": "float32",
                "enforce_eager": True,
                "max_num_seqs": BATCH_SIZE,
                "max_model_len": 256,
                "kv_cache_memory_bytes": 1 << 27,
            },
            {"temperature": 0.0},
        ),
    )
}


@dataclass(frozen=True)
class Window:
    """One window of one side; `own_ns` is the time between batches, where it is known."""

    window_ns: int
    tokens: int
    own_ns: int | None = None
    attempt_ns: int | None = None


class BareLoop:
    """The work alone."""

    def __init__(self, contender: Contender, prompts: list[Prompt]) -> None:
        # A session of its own, as the runner has: Linux shares a busy CPU out by session (sched_autogroup_enabled).
        self._process = subprocess.Popen(
            [str(contender.python), "-c", contender.bare],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        ids = [prompt.ids for prompt in prompts]
        work = {"shape": SHAPE, "prompts": ids, "batch_size": BATCH_SIZE, "new_tokens": NEW_TOKENS}
        self._send({**work, "engine": contender.engine})

    def measure(self) -> Window:
        self._send({})
        assert self._process.stdout is not None
        body = json.loads(self._process.stdout.readline())
        return Window(body["window_ns"], body["tokens"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _send(self, body: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(body).encode() + b"\n")
        self._process.stdin.flush()


class Runner:
    """The work as the runner does it, one attempt a window, the engine loaded once."""

    def __init__(self, contender: Contender, folder: Path, spec: RunSpec) -> None:
        self._folder, self._spec = folder, spec
        self._count = 0
        self._read_b = 0
        self._last_window_s = 0.0
        self._process = subprocess.Popen(
            [str(contender.python), "-m", "lem_runner", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / "runner")},
        )

        threading.Thread(target=self._keep_lease, daemon=True).start()

    def _keep_lease(self) -> None:
        while self._process.poll() is None:
            (self._folder / LEASE_FILE).touch()
            time.sleep(LEASE_PERIOD_S)

    def measure(self) -> Window:
        self._count += 1
        attempt = f"a{self._count}"
        sent_ns = time.monotonic_ns()
        self._send(Command("run", attempt, self._spec))
        self._wait(attempt, "loaded")
        self._send(Command("go", attempt))
        time.sleep(LEAVE_ALONE * self._last_window_s)
        said = self._wait(attempt, "result")
        (window,) = json.loads((self._folder / result_file(attempt)).read_bytes())["windows"]
        lines = (self._folder / requests_file(attempt)).read_bytes().splitlines()
        window_ns = window["t_end_ns"] - window["t_begin_ns"]
        self._last_window_s = window_ns / 1e9
        own_ns = window_ns - _busy_ns([RequestRecord.decode(line) for line in lines])
        return Window(window_ns, window["tokens_out"], own_ns, said.t_mono_ns - sent_ns)

    def close(self) -> None:
        self._send(Command("quit"))
        self._process.wait()

    def _send(self, command: Command) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode())
        self._process.stdin.flush()

    def _wait(self, attempt: str, kind: str) -> Event:
        deadline_s = time.monotonic() + EVENT_CEILING_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            for event in self._new_events():
                if event.attempt == attempt and event.type == "error":
                    raise SystemExit(f"the runner failed: {event.data['message']}")
                if event.attempt == attempt and event.type == kind:
                    return event
            time.sleep(LOOK_S)
        raise SystemExit(f"no {kind} of {attempt}: the runner ended, or {EVENT_CEILING_S:g} s have passed")

    def _new_events(self) -> list[Event]:
        """What was added since the last look: reading it all again would be work beside the window."""
        path = self._folder / EVENTS_FILE
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read_b)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read_b += len(whole)
        return [Event.decode(line) for line in whole.splitlines()]


def _busy_ns(records: list[RequestRecord]) -> int:
    """From each batch's submission to its last token, summed over the batches."""
    batches: dict[int, list[RequestRecord]] = {}
    for record in records:
        batches.setdefault(record.batch, []).append(record)
    return sum(max(r.t_end_ns for r in batch) - batch[0].t_submit_ns for batch in batches.values())


def make_spec(folder: Path, contender: Contender) -> tuple[RunSpec, list[Prompt]]:
    """The work of one window, and its prompts."""
    prompts = []
    for index in range(PROMPTS):
        ids = [3 + (index * 131 + place * 17) % 4000 for place in range(INPUT_LEN)]
        prompts.append(Prompt(index, None, ids, ids_sha256(ids)))
    path = folder / "prompts.jsonl"
    path.write_bytes(b"".join(prompt.encode() for prompt in prompts))
    workload = WorkloadSpec(
        prompts_path=str(path),
        prompts_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        prompts=PROMPTS,
        max_new_tokens=NEW_TOKENS,
        output="fixed",
        mode="offline",
        batch_size=BATCH_SIZE,
    )
    model = ModelRef("random", "bench-llama", config=SHAPE)
    measure = MeasureSpec(None, Warmup(kind="none"))
    spec = RunSpec(contender.backend, "bench", model, contender.engine, contender.sampling, workload, measure)
    return spec, prompts


def measure_pairs(bare: BareLoop, runner: Runner, most: int) -> list[tuple[Window, Window]]:
    """ABBA pairs until the interval of the loss is narrow enough."""
    bare.measure()
    runner.measure()
    pairs: list[tuple[Window, Window]] = []
    while len(pairs) < most:
        for is_bare_first in (True, False):
            first, second = (bare.measure, runner.measure) if is_bare_first else (runner.measure, bare.measure)
            a, b = first(), second()
            pairs.append((a, b) if is_bare_first else (b, a))
        if len(pairs) >= MIN_PAIRS and loss_of(pairs).half_width <= HALF_WIDTH_LIMIT:
            break
    return pairs


def loss_of(pairs: list[tuple[Window, Window]]) -> Interval:
    """The share of tokens/s that is lost in the runner: 1 - exp(mean log ratio), with its interval."""
    interval = t_interval([math.log(bare.window_ns / runner.window_ns) for bare, runner in pairs])
    assert interval is not None
    return Interval(1 - math.exp(interval.high), 1 - math.exp(interval.low))


def verdict_of(loss: Interval) -> str:
    if loss.high <= LOSS_LIMIT:
        return "pass"
    return "FAIL" if loss.low > LOSS_LIMIT else "not resolved"


def compete(contender: Contender, most: int) -> list[tuple[Window, Window]]:
    """Both sides of one engine, started and ended."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        spec, prompts = make_spec(folder, contender)
        session = folder / "session"
        session.mkdir()
        bare, runner = BareLoop(contender, prompts), Runner(contender, session, spec)
        pairs = measure_pairs(bare, runner, most)
        bare.close()
        runner.close()
    if {window.tokens for pair in pairs for window in pair} != {PROMPTS * NEW_TOKENS}:
        raise SystemExit("the two sides did not do the same work")
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--engine", action="append", choices=sorted(CONTENDERS), help="default: all that are here")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "bench" / "results" / "runner.md")
    arguments = parser.parse_args()
    chosen = [CONTENDERS[name] for name in arguments.engine or CONTENDERS]
    here = [contender for contender in chosen if contender.python is not None]
    if not here or (arguments.engine and len(here) < len(chosen)):
        raise SystemExit("no engine interpreter: set LEM_PYTHON_PYTORCH and LEM_PYTHON_VLLM or run `make engine-venv`")
    found = {contender.title: compete(contender, arguments.pairs) for contender in here}
    text = report(found)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)
    return 1 if any(verdict_of(loss_of(pairs)) == "FAIL" for pairs in found.values()) else 0


def report(found: dict[str, list[tuple[Window, Window]]]) -> str:
    """What is kept: a table for each engine."""
    work = (
        f"A random Llama of about 20 M parameters, float32, greedy; {PROMPTS} prompts of {INPUT_LEN} tokens in batches "
        f"of {BATCH_SIZE}, {NEW_TOKENS} new tokens each. Pairs in ABBA order."
    )
    head = ["# The runner against a bare script", "", describe_machine(), "", work, ""]
    return "\n".join([*head, *(line for title, pairs in found.items() for line in section(title, pairs))])


def section(title: str, pairs: list[tuple[Window, Window]]) -> list[str]:
    """The table of one engine."""
    loss = loss_of(pairs)
    tokens = PROMPTS * NEW_TOKENS
    bare_s = statistics.median(bare.window_ns for bare, _ in pairs) / 1e9
    runner_s = statistics.median(runner.window_ns for _, runner in pairs) / 1e9
    own = statistics.median((runner.own_ns or 0) / runner.window_ns for _, runner in pairs)
    beside_s = statistics.median((runner.attempt_ns or 0) - runner.window_ns for _, runner in pairs) / 1e9
    return [
        f"## {title}",
        "",
        "| figure | value |",
        "|---|---|",
        f"| pairs | {len(pairs)} |",
        f"| tokens/s, bare script (median) | {tokens / bare_s:.0f} |",
        f"| tokens/s, runner's window (median) | {tokens / runner_s:.0f} |",
        f"| loss of tokens/s, 95 % interval | {loss.low:.2%} to {loss.high:.2%} |",
        f"| time in the window outside of submission to last token (median) | {own:.2%} |",
        f"| an attempt beside its window, engine reused, prompts read and result on disk (median) "
        f"| {beside_s * 1e3:.0f} ms |",
        "",
        f"Limit: the loss at most {LOSS_LIMIT:.0%}: {verdict_of(loss)}.",
        "",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
