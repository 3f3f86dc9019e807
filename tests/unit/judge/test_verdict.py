from __future__ import annotations

from dataclasses import replace

import pytest

from lemctl.judge.verdict import Evidence, Limits, judge, worst

CLEAN = Evidence(
    duration_s=60.0,
    min_window_s=60.0,
    counter_ticks=600,
    min_ticks=30,
    counter_series_difference=0.004,
    longest_hole_s=0.11,
    sample_period_s=0.1,
    thermal_throttle_share=0.0,
    power_brake_share=0.0,
    requests=500,
    requests_of_wrong_length=0,
    cache_hit_rate=0.0,
    clock_step_s=0.001,
    suspended_s=0.0,
    baseline_shift=0.01,
)


def test_a_clean_attempt_is_valid() -> None:
    assert judge(CLEAN) == []
    assert worst(judge(CLEAN)) == "VALID"


def test_what_is_not_known_is_no_finding() -> None:
    assert judge(Evidence(duration_s=1.0)) == []


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        ({"counter_reset": True}, "counter_reset", "INVALID"),
        ({"counter_series_difference": -0.051}, "counter_disagrees", "INVALID"),
        ({"counter_series_difference": 0.021}, "counter_disagrees", "SUSPECT"),
        ({"longest_hole_s": 1.01}, "series_hole", "INVALID"),
        ({"longest_hole_s": 0.31}, "series_hole", "SUSPECT"),
        ({"thermal_throttle_share": 0.0011}, "thermal_throttle", "INVALID"),
        ({"thermal_throttle_share": 0.0001}, "thermal_throttle", "SUSPECT"),
        ({"power_brake_share": 0.0001}, "power_brake", "INVALID"),
        ({"foreign_processes": ("4711 python",)}, "foreign_process", "INVALID"),
        ({"requests_failed": 6}, "request_errors", "INVALID"),
        ({"requests_of_wrong_length": 1}, "output_length", "INVALID"),
        ({"cache_hit_rate": 0.01}, "cache_hits", "INVALID"),
        ({"clock_step_s": -0.6}, "clock_step", "INVALID"),
        ({"suspended_s": 3.0}, "suspended", "INVALID"),
        ({"duration_s": 53.9}, "window_short", "INVALID"),
        ({"counter_ticks": 26}, "window_short", "INVALID"),
        ({"gate_capped": True}, "gate_capped", "SUSPECT"),
        ({"warmup_capped": True}, "warmup_capped", "SUSPECT"),
        ({"warmup_moves": ("GPU g: temperature moves by +6.0 C/min",)}, "warmup_not_steady", "SUSPECT"),
        ({"baseline_shift": -0.031}, "baseline_drift", "SUSPECT"),
        ({"saturated": True}, "saturated", "SUSPECT"),
        ({"settled": False}, "load_not_settled", "SUSPECT"),
        ({"headline_estimated": True}, "estimated_meter", "SUSPECT"),
    ],
)
def test_each_fault_gives_its_reason(change: dict[str, object], code: str, severity: str) -> None:
    findings = judge(replace(CLEAN, **change))  # type: ignore[arg-type]
    assert [(finding.code, finding.severity) for finding in findings] == [(code, severity)]
    assert worst(findings) == severity
    assert findings[0].text


@pytest.mark.parametrize(
    "change",
    [
        {"counter_series_difference": 0.02},
        {"longest_hole_s": 0.3},
        {"requests_failed": 5},
        {"duration_s": 54.0},
        {"counter_ticks": 27},
        {"baseline_shift": 0.03},
        {"cache_hit_rate": 0.4, "cache_hit_declared": 0.4},
    ],
)
def test_a_value_on_its_limit_still_passes(change: dict[str, object]) -> None:
    assert judge(replace(CLEAN, **change)) == []  # type: ignore[arg-type]


def test_the_worst_reason_decides() -> None:
    findings = judge(replace(CLEAN, saturated=True, power_brake_share=0.5))
    assert {finding.severity for finding in findings} == {"SUSPECT", "INVALID"}
    assert worst(findings) == "INVALID"


def test_limits_are_settings() -> None:
    assert judge(replace(CLEAN, longest_hole_s=1.5), Limits(hole_invalid_s=2.0, hole_suspect_periods=20)) == []
