from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from lemctl.judge.factors import FACTOR_METRICS, Factors
from lemctl.judge.measured import Absent, Energy, Flops, Measured, Quantity
from lemctl.judge.metric import MetricRegistry, Value
from lemctl.judge.metrics import METRICS, evaluate
from lemctl.judge.speed_metrics import latency_distributions

S = 1_000_000_000


@dataclass(frozen=True)
class Window:
    window: int
    t_begin_ns: int
    t_end_ns: int
    batches: int = 1


@dataclass(frozen=True)
class Request:
    window: int = 0
    prompt_sha256: str = "a"
    tokens_in: int = 10
    tokens_out: int = 5
    t_submit_ns: int = 100 * S
    t_first_ns: int | None = 101 * S
    t_end_ns: int = 105 * S
    token_ns: tuple[int, ...] | None = tuple(t * S for t in range(101, 106))
    stop: str = "length"
    t_due_ns: int | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    cached_tokens: int | None = None


FULL = Measured(
    windows=[Window(0, 100 * S, 110 * S)],
    requests=[Request(), Request(tokens_in=20), Request(window=-1, tokens_out=99), Request(stop="error")],
    energy={
        "gpu": Energy(3000.0, 3.0, "nvml-counter"),
        "gpu_series": Energy(2970.0, 9.0, "nvml-series"),
        "gpu_not_allotted": Energy(400.0, 4.0, "nvml-counter"),
        "cpu": Energy(500.0, 50.0, "codecarbon", "estimated"),
        "ram": Energy(100.0, 1.0, "rapl"),
    },
    baselines={"b0": Quantity(50.0, 0.1), "b1": Quantity(60.0, 0.1), "b2": Quantity(80.0, 0.4)},
    flops=Flops(6e13, "analytic"),
    decode_bytes_per_step=16e9,
    peak_flops_per_s=989e12,
    peak_bytes_per_s=3.35e12,
    peak_memory_bytes=20e9,
    gpu_utilisation=0.97,
    memory_utilisation=0.5,
    sm_clock_mhz=1755.0,
    power_cap_share=0.6,
    temperature_c=61.0,
    kv_cache_use=0.3,
)


def value(name: str, measured: Measured = FULL) -> Value:
    found = evaluate(measured, [name])[name]
    assert isinstance(found, Value), found
    return found


def reason(name: str, measured: Measured) -> str:
    found = evaluate(measured, [name])[name]
    assert isinstance(found, Absent), found
    return found.reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("energy_total", 3000.0),
        ("energy_net", 3000.0 - 800.0),
        ("energy_attributed", 3000.0 - 500.0),
        ("energy_per_output_token", 3000.0 / 15),
        ("energy_per_total_token", 3000.0 / 55),
        ("energy_per_request", 3000.0 / 2),
        ("energy_per_prompt", 3000.0 / 3),
        ("energy_net_per_output_token", 2200.0 / 15),
        ("tokens_per_joule", 15 / 3000.0),
        ("power_mean", 300.0),
        ("energy_kwh", 3000.0 / 3.6e6),
        ("energy_sum_measured", 3100.0),
        ("energy_sum_with_estimates", 3600.0),
        ("energy_gpu_not_allotted", 400.0),
        ("counter_series_difference", 0.01),
        ("output_tokens_per_s", 1.5),
        ("requests_per_s", 0.2),
        ("requests_failed", 1.0),
        ("ttft_p50", 1.0),
        ("itl_p50", 1.0),
        ("tpot_p90", 1.0),
        ("e2e_p90", 5.0),
        ("flops_per_output_token", 4e12),
        ("mfu", 6e12 / 989e12),
        ("mbu", 16e9 / 3.35e12),
        ("peak_memory", 20e9),
    ],
)
def test_figure(name: str, expected: float) -> None:
    assert value(name).value == pytest.approx(expected)


def test_net_energy_carries_the_uncertainty_of_counter_and_baseline() -> None:
    assert value("energy_net").u == pytest.approx((3.0**2 + (10 * 0.4) ** 2) ** 0.5)
    assert value("energy_net_per_output_token").u == pytest.approx(5.0 / 15)


def test_net_energy_below_three_u_stays_signed_and_is_flagged() -> None:
    hidden = replace(FULL, baselines={"b2": Quantity(300.1, 0.4)})
    assert value("energy_net", hidden).value == pytest.approx(-1.0)
    assert value("energy_net", hidden).note == "not resolved"
    assert value("energy_net_per_request", hidden).note == "not resolved"
    assert value("energy_net").note is None


def test_an_estimate_is_never_added_silently() -> None:
    assert value("energy_sum_measured").note == "gpu+ram, without cpu"
    assert value("energy_cpu").note == "codecarbon, estimated"


@pytest.mark.parametrize("name", list(METRICS))
def test_nothing_measured_gives_a_reason_and_never_zero(name: str) -> None:
    empty = Measured(windows=[], requests=[])
    found = METRICS[name].evaluate(empty)
    if name in {"requests", "requests_failed", "tokens_in", "tokens_out"}:
        assert found == Value(0)  # a count of nothing is zero
    else:
        assert isinstance(found, Absent)
        assert found.reason


@pytest.mark.parametrize("name", list(METRICS))
def test_declared_inputs_are_those_read(name: str) -> None:
    class Watched:
        def __init__(self) -> None:
            self.read: set[str] = set()

        def __getattr__(self, field: str) -> object:
            methods = {"energy_of": "energy", "baseline_of": "baselines"}
            self.read.add(methods.get(field, field))
            return getattr(many, field)

    told = Request(t_due_ns=100 * S, queue_s=0.1, prefill_s=0.1, cached_tokens=1)
    many = replace(FULL, requests=[told] * 1000, targets_s={"e2e": 9.0})
    watched = Watched()
    METRICS[name].function(watched)  # type: ignore[arg-type]
    assert watched.read <= set(METRICS[name].inputs)
    assert set(METRICS[name].inputs) <= {field.name for field in fields(Measured)}


def test_p99_needs_a_thousand_requests() -> None:
    few = replace(FULL, requests=[Request() for _ in range(999)])
    many = replace(FULL, requests=[Request() for _ in range(1000)])
    assert "1,000" in reason("e2e_p99", few)
    assert value("e2e_p99", many).value == 5.0


def test_an_engine_without_token_times_loses_only_what_needs_them() -> None:
    silent = replace(FULL, requests=[Request(token_ns=None, t_first_ns=None)])
    assert "token times" in reason("itl_p50", silent)
    assert "first-token" in reason("ttft_p50", silent)
    assert value("e2e_p50", silent).value == 5.0


def test_open_loop_counts_tokens_by_their_times_and_prompts_by_their_first_token() -> None:
    early = Request(t_first_ns=98 * S, t_end_ns=102 * S, token_ns=tuple(t * S for t in (98, 99, 100, 101, 102)))
    late = Request(tokens_in=20, t_first_ns=108 * S, t_end_ns=112 * S, token_ns=tuple(t * S for t in range(108, 113)))
    measured = replace(FULL, requests=[early, late], counting="by_token_time")
    assert value("tokens_out", measured).value == 3 + 2
    assert value("tokens_in", measured).value == 20
    assert value("requests", measured).value == 1


def test_a_request_that_failed_before_its_first_token_takes_no_figure_from_the_others() -> None:
    answered = Request(t_first_ns=101 * S, t_end_ns=104 * S, token_ns=tuple(t * S for t in (101, 102, 103)))
    lost = Request(t_first_ns=None, token_ns=None, tokens_out=0, stop="error", cached_tokens=None)
    alone = replace(FULL, requests=[answered], counting="by_token_time")
    both = replace(FULL, requests=[answered, lost], counting="by_token_time")
    for name in ("tokens_out", "tokens_in", "output_tokens_per_s"):
        assert value(name, both).value == value(name, alone).value


def test_what_an_open_loop_offered_and_how_late_it_was_handed_over() -> None:
    requests = [Request(t_due_ns=99 * S + n * S, t_submit_ns=99 * S + n * S + S // 4, stop="length") for n in range(5)]
    measured = replace(FULL, requests=requests, counting="by_token_time")
    # The first was due before the window.
    assert value("offered_requests_per_s", measured).value == 0.4
    assert value("arrival_lateness_p90", measured).value == pytest.approx(0.25)
    # Latencies count from the moment when a request was due, not from when the generator came to it.
    assert value("e2e_p50", measured).value == pytest.approx(4.0)
    assert "no arrivals of its own" in reason("offered_requests_per_s", FULL)
    assert "no arrivals of its own" in reason("arrival_lateness_p50", FULL)


def test_goodput_counts_what_kept_every_target() -> None:
    def request(ttft_s: float, e2e_s: float, **changes: Any) -> Request:
        due_ns = 101 * S
        first_ns, end_ns = due_ns + int(ttft_s * S), due_ns + int(e2e_s * S)
        # Handed over late: that must not shorten a latency.
        at = {"t_due_ns": due_ns, "t_submit_ns": due_ns + S // 4, "t_first_ns": first_ns, "t_end_ns": end_ns}
        return Request(**{"tokens_out": 5, **at, **changes})

    requests = [
        request(0.5, 2.5),  # at each limit: kept
        request(0.6, 2.5),  # too late by the moment it was due, in time by the moment it was handed over
        request(0.1, 2.2),  # tpot 0.525
        request(0.5, 2.6),
        request(0.1, 0.2, stop="error"),
        request(0.1, 0.2, stop="error", t_first_ns=None),
        request(0.3, 2.0, tokens_out=1),  # no time per output token to miss
        request(0.1, 30.0),  # ended after the window: not counted
    ]
    measured = replace(FULL, requests=requests, counting="by_token_time")
    targets_s = {"ttft": 0.5, "tpot": 0.5, "e2e": 2.5}
    judged = replace(measured, targets_s=targets_s)
    assert value("goodput", judged) == Value(2 / 10)
    assert value("goodput_share", judged) == Value(2 / 7)
    assert value("goodput_share", replace(measured, targets_s={"e2e": 2.5})).value == 4 / 7
    assert value("goodput_share", replace(measured, targets_s={"ttft": 0.5})).value == 4 / 7
    none_kept = replace(measured, targets_s={"e2e": 0.001})
    assert value("goodput", none_kept).value == value("goodput_share", none_kept).value == 0.0


def test_goodput_is_absent_where_it_is_not_known() -> None:
    assert "declares no latency target" in reason("goodput", FULL)
    assert "declares no latency target" in reason("goodput_share", FULL)
    untold = replace(FULL, requests=[Request(t_first_ns=None)])
    for name in ("ttft", "tpot"):
        assert "no first-token times" in reason("goodput", replace(untold, targets_s={name: 9.0}))
    assert value("goodput_share", replace(untold, targets_s={"e2e": 9.0})).value == 1.0
    idle = replace(FULL, requests=[], targets_s={"e2e": 9.0})
    assert value("goodput", idle).value == 0.0
    assert "no requests" in reason("goodput_share", idle)


def test_requests_in_flight_are_averaged_over_the_window() -> None:
    requests = [Request(t_submit_ns=98 * S, t_end_ns=105 * S), Request(t_submit_ns=108 * S, t_end_ns=120 * S)]
    assert value("in_flight_mean", replace(FULL, requests=requests)).value == pytest.approx((5 + 2) / 10)


def test_what_the_engine_tells_of_queue_prefill_and_cache() -> None:
    told = replace(FULL, requests=[Request(queue_s=0.5, prefill_s=0.25, cached_tokens=n) for n in (0, 5)])
    assert value("queue_p50", told).value == 0.5
    assert value("prefill_p90", told).value == 0.25
    assert value("prefix_cache_hit_rate", told).value == 0.25
    assert "does not tell" in reason("queue_p50", FULL)
    assert "does not tell" in reason("prefix_cache_hit_rate", FULL)


def test_several_windows_add_up() -> None:
    two = replace(
        FULL, windows=[Window(0, 0, 4 * S), Window(1, 6 * S, 10 * S)], requests=[Request(), Request(window=1)]
    )
    assert value("duration", two).value == 8.0
    assert value("tokens_out", two).value == 10


def test_a_name_cannot_be_registered_twice() -> None:
    registry = MetricRegistry()
    registry.metric("s", ("windows",), name="same", meaning="x")(lambda measured: Value(1.0))
    with pytest.raises(ValueError, match="twice"):
        registry.metric("s", ("windows",), name="same", meaning="x")(lambda measured: Value(1.0))


def test_every_metric_has_a_unit_and_one_line_of_meaning() -> None:
    for metric in METRICS.values():
        assert metric.unit
        assert "\n" not in metric.meaning
        assert metric.meaning.endswith(".")


def test_cost_and_co2e_come_from_factors_given_later() -> None:
    energy = Value(3.6e6, 3.6e4)
    factors = Factors(co2e_g_per_kwh=380.0, price_per_kwh=0.3, currency="EUR", pue=1.5, source="grid 2024")
    assert FACTOR_METRICS["co2e"].function(energy, factors) == Value(570.0, pytest.approx(5.7), "grid 2024")
    assert FACTOR_METRICS["cost"].function(energy, factors) == Value(
        pytest.approx(0.45), pytest.approx(0.0045), "grid 2024"
    )
    assert isinstance(FACTOR_METRICS["co2e"].function(energy, Factors()), Absent)


def test_distributions_hold_the_extremes_the_quartiles_and_how_many() -> None:
    requests = [Request(t_end_ns=(101 + n) * S, token_ns=None) for n in range(5)]
    found = latency_distributions(replace(FULL, requests=requests))
    e2e = found["e2e"]
    at = dict(zip(e2e["percent"], e2e["s"], strict=True))
    assert (e2e["n"], at[0], at[25], at[50], at[100]) == (5, 1.0, 2.0, 3.0, 5.0)
    assert "itl" not in found  # no token times were told
