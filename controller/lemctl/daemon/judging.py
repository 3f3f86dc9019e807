"""From a finished attempt to the rows that are stored: metrics, findings, windows, verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lemctl.campaign.load import OPEN_MODES, is_one_by_one
from lemctl.daemon.counting import Work, count_work, whole_work, work_between
from lemctl.daemon.instruments import BaselineRecord, GateRecord, Watched, baseline_quantity
from lemctl.daemon.specs import Located
from lemctl.engines.events import Finished
from lemctl.judge.configuration import compared, suspicions
from lemctl.judge.equivalence import cache_hits, decodes_greedily, kept_outputs, work_of
from lemctl.judge.load import is_saturated
from lemctl.judge.measured import NO_TARGETS, Absent, Energy, Measured
from lemctl.judge.metrics import METRICS, evaluate
from lemctl.judge.speed_metrics import latency_distributions
from lemctl.judge.verdict import Evidence, Verdict, judge, worst
from lemctl.judge.work import is_inside
from lemctl.store.moves import FindingRow, MetricRow, WindowRow
from lemctl.store.works import WorkRow

#: A window of a minute or more must hold so many ticks of the energy counter.
MIN_TICKS, LONG_WINDOW_S = 30, 60.0


@dataclass(frozen=True)
class Judged:
    """What the store gets."""

    verdict: Verdict
    windows: list[WindowRow]
    metrics: list[MetricRow]
    findings: list[FindingRow]
    latency: dict[str, dict[str, Any]]
    """The distributions of the latencies, by name."""
    work: WorkRow


def judge_attempt(
    spec: dict[str, Any],
    located: Located,
    config: Mapping[str, Any] | None,
    finished: Finished,
    gate: GateRecord,
    baselines: Sequence[BaselineRecord],
    watched: Watched,
    host: Mapping[str, Any],
    configuration: Mapping[str, Any],
    targets_s: Mapping[str, float] | None,
) -> Judged:
    """Every metric and every finding of one attempt. `spec` is the experiment's, `config` its model's, if at hand.

    `configuration` is what was resolved and what the engine reports.
    `targets_s` are the campaign's latencies that goodput asks for, None where it declares none.
    `host` is evidence that no meter of the window gives: steps of the clock, suspends, a shift of B0.
    """
    result = finished.result
    work = count_work(config, result.effective, _counted_work(spec, finished))
    measured = Measured(
        windows=result.windows,
        requests=finished.requests,
        counting=result.counting,
        energy=watched.energy,
        baselines={name: baseline_quantity(list(baselines), name) for name in ("b0", "b1", "b2")},
        **{  # type: ignore[arg-type]  # names are those of METRICS' inputs
            "targets_s": _targets_s(spec, targets_s),
            "peak_memory_bytes": _peak_memory(result.memory),
            **_cache_use(result.gauges),
            **work,
            **watched.quantities,
        },
    )
    differences = compared(configuration["resolved"], configuration["reported"])
    findings = judge(_evidence(spec, finished, gate, watched, host)) + suspicions(differences)
    rows = [
        MetricRow(name, None, METRICS[name].unit, reason=figure.reason)
        if isinstance(figure, Absent)
        else MetricRow(name, figure.value, METRICS[name].unit, figure.u)
        for name, figure in evaluate(measured).items()
    ]
    return Judged(
        worst(findings),
        [
            WindowRow(w.window, w.t_begin_ns, w.t_end_ns, w.batches, w.requests, w.tokens_in, w.tokens_out)
            for w in result.windows
        ],
        rows,
        [FindingRow(f.code, f.severity, f.text) for f in findings]
        + [FindingRow("configuration", "INFO", d.text) for d in differences if not d.is_grave]
        + [FindingRow("note", "INFO", note) for note in result.notes],
        latency_distributions(measured),
        _work(spec, located, finished, measured),
    )


def _work(spec: dict[str, Any], located: Located, finished: Finished, measured: Measured) -> WorkRow:
    """What the windows did, for comparisons; the outputs only where they are to be the same again."""
    by_time = measured.counting == "by_token_time"
    counted = [r for r in finished.requests if not by_time or is_inside(r.t_end_ns, measured)]
    is_greedy = decodes_greedily(spec["sampling"])
    work = work_of(
        counted,
        pool_sha256=located.prompts_sha256,
        tokenizer=located.tokenizer,
        effective=finished.result.effective,
        gauges=finished.result.gauges,
        is_greedy=is_greedy,
    )
    return WorkRow(work.to_json(), kept_outputs(counted) if is_greedy else ())


def _evidence(
    spec: dict[str, Any],
    finished: Finished,
    gate: GateRecord,
    watched: Watched,
    host: Mapping[str, Any],
) -> Evidence:
    workload, measure, result = spec["workload"], spec["measure"], finished.result
    fixed = workload["output"] == "fixed"
    answered = [r for r in finished.requests if r.stop not in ("error", "cancelled")]
    return Evidence(
        duration_s=sum(w.t_end_ns - w.t_begin_ns for w in result.windows) / 1e9,
        min_window_s=measure["window_s"],
        min_ticks=MIN_TICKS if (measure["window_s"] or 0) >= LONG_WINDOW_S else None,
        requests=len(finished.requests),
        requests_failed=len(finished.requests) - len(answered),
        requests_of_wrong_length=(
            sum(1 for r in answered if r.tokens_out != workload["max_new_tokens"]) if fixed else None
        ),
        cache_hit_rate=cache_hits(finished.requests, result.gauges),
        cache_hit_declared=workload.get("prefix_cache_hits") or 0.0,
        gate_capped=gate.start_state == "warm",
        warmup_capped=result.warmup.get("ended") == "capped",
        headline_estimated=_is_estimated(watched),
        **_load_evidence(spec, finished),
        **_asked_for(spec, watched.evidence),
        **host,
    )


def _counted_work(spec: dict[str, Any], finished: Finished) -> Work:
    if finished.result.counting == "by_token_time":
        return work_between(finished.requests, finished.result.windows)
    return whole_work(finished.requests, spec["workload"]["load"]["batch_size"])


def _cache_use(gauges: Mapping[str, float | None]) -> dict[str, float]:
    use = gauges.get("kv_cache_usage")
    return {} if use is None else {"kv_cache_use": use}


def _load_evidence(spec: dict[str, Any], finished: Finished) -> dict[str, Any]:
    """Whether an open loop kept up, and had settled; other loads wait for the engine and cannot be too much for it."""
    if spec["workload"]["load"]["mode"] not in OPEN_MODES:
        return {}
    grown = [is_saturated(finished.requests, w.t_begin_ns, w.t_end_ns) for w in finished.result.windows]
    return {"saturated": any(grown), "settled": finished.result.load.get("settled")}


def _asked_for(spec: dict[str, Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The meters' evidence; that of a steady state only where the campaign asked for one."""
    steady = spec["measure"]["warmup"]["kind"] == "steady"
    return {name: value for name, value in evidence.items() if steady or name != "warmup_moves"}


def meters_of(watched: Watched) -> dict[str, str]:
    """scope -> the meter whose energy counts there: that of a GPU without a counter is its integrated power."""
    return {scope: energy.meter for scope, energy in watched.energy.items() if isinstance(energy, Energy)}


def _is_estimated(watched: Watched) -> bool:
    headline = watched.energy.get("gpu")
    return isinstance(headline, Energy) and headline.basis == "estimated"


def _targets_s(spec: dict[str, Any], declared: Mapping[str, float] | None) -> Mapping[str, float] | Absent:
    if declared is None:
        return NO_TARGETS
    if not is_one_by_one(spec["workload"]["load"]):
        return Absent("requests that are handed over in batches have no latency of their own to keep")
    return declared


def _peak_memory(memory: dict[str, Any]) -> float | Absent:
    """The runner's own figure: the device's where it has one, else the process' resident memory."""
    for name in ("device_peak_b", "host_peak_rss_b"):
        if isinstance(value := memory.get(name), int | float):
            return float(value)
    return Absent("the runner told no peak of memory")
