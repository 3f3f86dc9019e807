"""A server with continuous batching, computed: no clock, no thread, no model. Time is an argument.

Steps follow each other. At a step's begin waiting requests are taken in, first come first served, while there is room;
the step lasts as long as their prompts' prefill and one decoding step take, and gives each request one token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lem_runner.backends import Generated
from lem_runner.results import StopReason


@dataclass
class _Request:
    name: int
    tokens_in: int
    tokens: Sequence[int]
    stop: StopReason
    t_submit_ns: int
    t_admit_ns: int = 0
    token_ns: list[int] = field(default_factory=list)


class StepServer:
    """See the module. `stretch` gives a factor for each step's duration, 1.0 for none."""

    def __init__(
        self,
        prefill_s_per_token: float,
        decode_s: Callable[[int], float],
        batch_limit: int,
        stretch: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.batch_limit = batch_limit
        self._prefill_s_per_token = prefill_s_per_token
        self._decode_s = decode_s
        self._stretch = stretch
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._ended: list[tuple[int, Generated]] = []
        self._step_end_ns: int | None = None

    @property
    def step_end_ns(self) -> int | None:
        """When the present step ends; None while there is no work."""
        return self._step_end_ns

    def submit(self, request: int, t_ns: int, tokens_in: int, tokens: Sequence[int], stop: StopReason) -> None:
        """Queue a request that will make `tokens`; `t_ns` is not before what `advance` has seen."""
        self._run_until(t_ns)
        self._waiting.append(_Request(request, tokens_in, tokens, stop, t_ns))
        if self._step_end_ns is None:
            self._begin_step(t_ns)

    def advance(self, until_ns: int) -> list[tuple[int, Generated]]:
        """What has ended until then and was not told yet."""
        self._run_until(until_ns)
        ended, self._ended = self._ended, []
        return ended

    def drop(self) -> None:
        """Forget everything in flight."""
        self._waiting.clear()
        self._running, self._ended, self._step_end_ns = [], [], None

    def _run_until(self, until_ns: int) -> None:
        while self._step_end_ns is not None and self._step_end_ns <= until_ns:
            self._end_step(self._step_end_ns)

    def _begin_step(self, t_ns: int) -> None:
        step_s = 0.0
        while self._waiting and len(self._running) < self.batch_limit:
            request = self._waiting.popleft()
            request.t_admit_ns = t_ns
            step_s += request.tokens_in * self._prefill_s_per_token
            self._running.append(request)
        step_s += self._decode_s(len(self._running))
        self._step_end_ns = t_ns + max(1, round(step_s * self._stretch() * 1e9))

    def _end_step(self, t_ns: int) -> None:
        for request in self._running:
            request.token_ns.append(t_ns)
        self._ended += [(one.name, _generated(one)) for one in self._running if len(one.token_ns) == len(one.tokens)]
        self._running = [one for one in self._running if len(one.token_ns) < len(one.tokens)]
        self._step_end_ns = None
        if self._running or self._waiting:
            self._begin_step(t_ns)


def _generated(request: _Request) -> Generated:
    return Generated(
        tokens=list(request.tokens),
        t_first_ns=request.token_ns[0],
        t_end_ns=request.token_ns[-1],
        token_ns=request.token_ns,
        stop=request.stop,
        queue_s=(request.t_admit_ns - request.t_submit_ns) / 1e9,
        prefill_s=(request.token_ns[0] - request.t_admit_ns) / 1e9,
    )
