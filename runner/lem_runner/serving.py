"""The loop of loads that hand requests over one by one: submit what is due, collect what has ended.

It keeps to absolute moments: an open loop never waits for the engine, and how late a request was handed over (because
a call took long) is in its record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lem_runner.backends import ConcurrentEngine, Decoding, Generated
from lem_runner.load import Ended, Load
from lem_runner.prompts import Prompt
from lem_runner.records import request_record
from lem_runner.results import RequestRecord

#: The longest wait for the engine between two looks at a cancel, in seconds.
POLL_S = 0.05

FAILED_STOPS = ("error", "cancelled")


@dataclass(frozen=True)
class Served:
    """One request as it happened; `t_due_ns` None where it was due when another had ended."""

    prompt: Prompt
    t_due_ns: int | None
    t_submit_ns: int
    made: Generated

    @property
    def ended(self) -> Ended:
        """Its times."""
        return Ended(self.t_due_ns, self.t_submit_ns, self.made.t_first_ns, self.made.t_end_ns)


@dataclass(frozen=True)
class _Pending:
    prompt: Prompt
    t_due_ns: int | None
    t_submit_ns: int


def serve(
    engine: ConcurrentEngine,
    load: Load,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    seed: int,
    on_ended: Callable[[Generated], None],
    stop_if_asked: Callable[[], None],
    monotonic_ns: Callable[[], int] = time.monotonic_ns,
) -> list[Served]:
    """Serve a load to its end; all requests in the order of submission. Prompts come again when all are used.

    `stop_if_asked` raises to end it early; then, as after any error, the engine drops what is in flight.
    """
    pending: dict[int, _Pending] = {}
    served: dict[int, Served] = {}
    count = 0
    try:
        while True:
            stop_if_asked()
            now_ns = monotonic_ns()
            due_ns = load.due_ns(now_ns, len(pending))
            if due_ns is not None and due_ns <= now_ns:
                prompt = prompts[count % len(prompts)]
                pending[count] = _Pending(prompt, due_ns if load.is_scheduled() else None, now_ns)
                engine.submit(count, prompt, decoding, seed + count)
                load.submitted()
                count += 1
                continue
            if due_ns is None and not pending:
                return [served[request] for request in sorted(served)]
            wait_s = POLL_S if due_ns is None else min(POLL_S, (due_ns - now_ns) / 1e9)
            for request, made in engine.finished(wait_s):
                one = pending.pop(request)
                served[request] = Served(one.prompt, one.t_due_ns, one.t_submit_ns, _timed(made))
                load.ended(served[request].ended)
                on_ended(made)
    except BaseException:
        with suppress(Exception):  # what ended the load is told, not what an engine in that state says to this
            engine.abandon()
        raise


def request_records(window: int, served: Sequence[Served]) -> list[RequestRecord]:
    """One record per request, numbered in the order of submission; each is a batch of its own."""
    return [
        request_record(index, window, index, one.prompt, one.t_submit_ns, one.made, one.t_due_ns)
        for index, one in enumerate(served)
    ]


def _timed(made: Generated) -> Generated:
    """As it is; the windows of these loads cannot do without token times."""
    if made.stop not in FAILED_STOPS and (made.t_first_ns is None or len(made.token_ns or ()) != len(made.tokens)):
        raise RuntimeError("the engine does not tell the time of each token, which this load is counted by")
    return made
