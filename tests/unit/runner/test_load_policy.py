"""When requests are due and which part of a load is measured: pure functions, and one loop on a computed clock."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import pytest

from lem_runner.backends import Decoding, Generated
from lem_runner.backends._continuous import StepServer
from lem_runner.failures import BadRequestError
from lem_runner.load import Ended, Open, Steady, arrivals_s, make_load, percentile_95, warmup_size
from lem_runner.prompts import Prompt
from lem_runner.protocol import MeasureSpec, WorkloadSpec
from lem_runner.results import RequestRecord, counted_inside
from lem_runner.serving import Served, serve
from lemctl.simulate.served import ComputedEngine

S = 1_000_000_000
WORK = WorkloadSpec("p", "0", 40, 4, "fixed", "closed", concurrency=4)
DECODING = Decoding(max_new_tokens=4, output="fixed", sampling={})
PROMPTS = [Prompt(index, None, [index + 1] * 10, f"sha-{index}") for index in range(40)]


def open_work(**changes: Any) -> WorkloadSpec:
    return replace(WORK, mode="poisson", concurrency=None, rate_per_s=5.0, **changes)


class StallingEngine(ComputedEngine):
    """`stall_s` is what every submission costs the caller, `change` what is told of each request."""

    def __init__(
        self, server: StepServer, stall_s: float = 0.0, change: Callable[[Generated], Generated] | None = None
    ):
        super().__init__(server, 7 * S)
        self.stall_s, self.change = stall_s, change or (lambda made: made)
        self.dropped = False

    def submit(self, request: int, prompt: Prompt, decoding: Decoding, seed: int) -> None:
        super().submit(request, prompt, decoding, seed)
        self.now_ns += round(self.stall_s * S)

    def finished(self, timeout_s: float) -> list[tuple[int, Generated]]:
        return [(request, self.change(made)) for request, made in super().finished(timeout_s)]

    def abandon(self) -> None:
        self.dropped = True


def engine(decode_s: float = 0.01, limit: int = 8, **options: Any) -> StallingEngine:
    return StallingEngine(StepServer(0.0001, lambda _: decode_s, limit), **options)


def served_by(place: StallingEngine, work: WorkloadSpec, window_s: float | None = None) -> tuple[list[Served], Any]:
    load = make_load(work, MeasureSpec(window_s), place.batch_limit(), [0.0, 0.5, 2.0, 2.0], place.now_ns)
    prompts = PROMPTS[: work.prompts]
    served = serve(place, load, prompts, DECODING, 0, lambda _: None, lambda: None, place.clock_ns)
    return served, load.span([one.ended for one in served])


def most_in_flight(served: list[Served]) -> int:
    changes = [(one.t_submit_ns, 1) for one in served] + [(one.made.t_end_ns, -1) for one in served]
    count = most = 0
    for _, change in sorted(changes):
        count += change
        most = max(most, count)
    return most


@pytest.mark.parametrize(
    ("mode", "burstiness", "cv"), [("poisson", None, 1.0), ("gamma", 4.0, 0.5), ("gamma", 0.25, 2)]
)
def test_drawn_arrivals_have_the_rate_and_the_scatter_asked_for(mode: Any, burstiness: float | None, cv: float) -> None:
    work = replace(open_work(), mode=mode, burstiness=burstiness, rate_per_s=20.0)
    times_s = list(islice(arrivals_s(work, []), 20_000))
    gaps_s = [later - earlier for earlier, later in pairwise(times_s)]
    assert times_s[0] == 0
    assert statistics.fmean(gaps_s) == pytest.approx(1 / 20, rel=0.05)
    assert statistics.stdev(gaps_s) / statistics.fmean(gaps_s) == pytest.approx(cv, rel=0.05)
    assert times_s == list(islice(arrivals_s(work, []), 20_000))
    assert times_s != list(islice(arrivals_s(replace(work, arrival_seed=1), []), 20_000))


def test_arrivals_keep_their_moments_however_slow_the_engine_is() -> None:
    fast, _ = served_by(engine(decode_s=0.01), open_work())
    slow, _ = served_by(engine(decode_s=1.0), open_work())
    assert [one.t_due_ns for one in fast] == [one.t_due_ns for one in slow]
    assert max(one.t_submit_ns - (one.t_due_ns or 0) for one in slow) == 0
    assert most_in_flight(slow) > 20 > 8 > most_in_flight(fast)


def test_a_late_generator_is_on_record_and_does_not_shift_what_follows() -> None:
    work = open_work()
    punctual, _ = served_by(engine(), work)
    late, _ = served_by(engine(stall_s=0.15), work)
    assert [one.t_due_ns for one in late] == [one.t_due_ns for one in punctual]
    lateness_s = [(one.t_submit_ns - (one.t_due_ns or 0)) / S for one in late]
    assert 0.1 < max(lateness_s) < 2.0
    # A burst is late; the quiet after it is not: nothing drifts.
    assert min(lateness_s[20:]) == 0


def test_an_open_loop_is_measured_from_three_p95_after_the_first_arrival_to_the_last() -> None:
    served, span = served_by(engine(), open_work())
    first_ns, last_ns = served[0].t_due_ns, served[-1].t_due_ns
    assert first_ns is not None
    p95_ns = percentile_95(sorted(one.made.t_end_ns - (one.t_due_ns or 0) for one in served))
    assert (span.t_begin_ns, span.t_end_ns) == (first_ns + 3 * p95_ns, last_ns)
    assert span.facts["settled"] is True


def test_a_window_of_open_loop_work_is_as_long_as_asked_for() -> None:
    served, span = served_by(engine(), open_work(), window_s=12.0)
    assert 11.5 * S < span.t_end_ns - span.t_begin_ns < 14 * S
    assert len({one.prompt.sha256 for one in served}) == 40 < len(served)


def test_an_open_loop_that_never_settles_ends_and_says_so() -> None:
    served, span = served_by(engine(decode_s=0.5, limit=1), open_work(), window_s=4.0)
    assert span.facts["settled"] is False
    assert (span.t_end_ns - span.t_begin_ns) / S == pytest.approx(4.0, abs=0.01)
    assert 40 < len(served) < 100


def test_one_pass_that_never_settles_keeps_half_of_the_arrivals() -> None:
    served, span = served_by(engine(decode_s=0.5, limit=1), open_work())
    assert len(served) == 40
    whole_ns = (served[-1].t_due_ns or 0) - (served[0].t_due_ns or 0)
    assert span.t_end_ns - span.t_begin_ns == pytest.approx(whole_ns / 2, abs=2)
    assert span.facts["settled"] is False


def test_a_trace_is_played_as_recorded() -> None:
    work = replace(WORK, mode="trace", concurrency=None, prompts=4)
    place = engine()
    served, _ = served_by(place, work)
    offsets = [((one.t_due_ns or 0) - 7 * S) / S for one in served]
    assert offsets == [0.0, 0.5, 2.0, 2.0]


def test_a_closed_loop_keeps_its_concurrency_and_sends_every_prompt_once() -> None:
    served, span = served_by(engine(), WORK)
    assert most_in_flight(served) == 4
    assert [one.prompt.sha256 for one in served] == [prompt.sha256 for prompt in PROMPTS]
    assert {one.t_due_ns for one in served} == {None}
    firsts = sorted(one.made.t_first_ns or 0 for one in served)
    ends = sorted(one.made.t_end_ns for one in served)
    # Ramp and drain are cut off: four had begun, and four were left.
    assert (span.t_begin_ns, span.t_end_ns) == (firsts[3], ends[36])


def test_a_window_of_continuous_batching_holds_ten_fillings_of_the_engine() -> None:
    work = replace(WORK, mode="offline", concurrency=None, batch_size=16, batching="continuous")
    served, span = served_by(engine(limit=2), work, window_s=0.001)
    inside = [one for one in served if span.t_begin_ns <= one.made.t_end_ns < span.t_end_ns]
    assert span.facts["worked_on"] == 2
    assert 20 <= len(inside) <= 20 + 16
    served, span = served_by(engine(limit=2), work, window_s=3.0)
    assert 3.0 * S <= span.t_end_ns - span.t_begin_ns < 3.5 * S


def test_too_few_requests_leave_no_window() -> None:
    with pytest.raises(BadRequestError, match="nothing between ramp and drain"):
        served_by(engine(), replace(WORK, prompts=5))
    with pytest.raises(BadRequestError, match="1 arrivals make no window"):
        served_by(engine(), replace(open_work(), prompts=1))


@pytest.mark.parametrize("seed", range(5))
def test_sparse_arrivals_settle_too(seed: int) -> None:
    work = replace(open_work(), rate_per_s=0.5, arrival_seed=seed)
    served, span = served_by(engine(decode_s=0.2), work, window_s=30.0)
    assert span.facts["settled"] is True
    assert span.t_end_ns - span.t_begin_ns >= 30 * S
    assert span.t_end_ns == served[-1].t_due_ns


def test_the_end_of_a_load_does_not_come_back_when_late_latencies_are_long() -> None:
    load = Open(0, iter([0.0, 1.0, 9.0, 30.0]), window_ns=5 * S)
    for _ in range(3):
        load.submitted()
    load.ended(Ended(0, 0, S // 10, S // 5))
    assert load.due_ns(9 * S, 1) is None
    load.ended(Ended(S, S, S, 9 * S))
    assert load.due_ns(10 * S, 0) is None


def test_a_cancel_or_an_engine_without_token_times_ends_the_load_and_drops_what_is_in_flight() -> None:
    class StoppedError(Exception): ...

    def stop() -> None:
        raise StoppedError

    place = engine()
    load = Steady(4, 4, 12, 0, 40)
    with pytest.raises(StoppedError):
        serve(place, load, PROMPTS, DECODING, 0, lambda _: None, stop, place.clock_ns)
    assert place.dropped
    untimed = engine(change=lambda made: replace(made, token_ns=None))
    with pytest.raises(RuntimeError, match="time of each token"):
        served_by(untimed, WORK)
    assert untimed.dropped


@pytest.mark.parametrize(
    ("work", "batch_s", "expected"),
    [
        (WORK, [], 4),
        (replace(WORK, mode="offline", batch_size=16, batching="continuous"), [], 8),
        (open_work(), [], 1),
        (open_work(), [0.6], 3),
        (open_work(), [0.6, 60.0], 8),
        (replace(open_work(), prompts=2), [0.6], 2),
    ],
)
def test_the_warm_up_has_as_many_requests_as_the_load_keeps_in_flight(
    work: WorkloadSpec, batch_s: list[float], expected: int
) -> None:
    assert warmup_size(work, 8, 5.0, batch_s) == expected


def test_what_a_window_by_token_times_holds() -> None:
    record = RequestRecord(0, 0, 0, "p", 7, 3, 10, 20, 40, [20, 30, 40], "length")
    assert counted_inside([record], 20, 40) == (0, 7, 2)
    assert counted_inside([record], 21, 41) == (1, 0, 2)
    assert counted_inside([record, replace(record, token_ns=None, t_first_ns=None)], 0, 100) == (2, 7, 3)


def test_a_server_takes_waiting_requests_in_while_there_is_room() -> None:
    server = StepServer(0.1, lambda running: 1.0 + running, 2)
    for request in range(3):
        server.submit(request, 0, 5, [1, 2], "length")
    # Request 0 is alone in its first step: 0.5 s prefill and 2 s; then 1 joins.
    ended = dict(server.advance(100 * S))
    assert [ended[request].queue_s for request in range(3)] == [0.0, 2.5, 6.0]
    assert [ended[request].token_ns for request in range(3)] == [
        [2.5 * S, 6.0 * S],
        [6.0 * S, 9.5 * S],
        [9.5 * S, 11.5 * S],
    ]
    assert ended[2].prefill_s == 3.5
    assert server.step_end_ns is None
