"""A plan before it is started: what it takes and what is missing. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import Any, Protocol

from lemctl.campaign.estimate import Estimate, Phases
from lemctl.campaign.expected import Left
from lemctl.campaign.load import load_words
from lemctl.campaign.plan import Plan
from lemctl.campaign.vram import MARGIN, VramNeed
from lemctl.lines import duration, plural, size
from lemctl.report.figures import axes_line, axis_names, axis_value
from lemctl.report.table import clipped, table

GROUND_WORDS = {
    "measured": "from earlier runs of the same experiments",
    "like": "partly from earlier runs of that backend and model",
    "guess": "a guess: nothing like it has run here yet",
}
PHASES = ("measuring", "cooling", "baseline", "warmup", "loading")
_PHASE_WORDS = {"baseline": "baselines", "warmup": "warm-up"}
CELLS_SHOWN = 10
GAPS_SHOWN = 5
LOADS_SHOWN = 4
LINE_WIDTH = 110


class Gap(Protocol):
    """Something that the plan needs and this host has not; `fix` None: `lemctl images prefetch FILE`."""

    @property
    def what(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def fix(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True)
class HoursNow:
    """A campaign's hours in words, whether they are open, and the local time of the close or the next opening; None
    where they never close."""

    text: str
    is_open: bool
    changes: str | None

    @property
    def now(self) -> str:
        """`open until Fri 27 Nov 07:00 CET`."""
        if self.changes is None:
            return "always open"
        return f"open until {self.changes}" if self.is_open else f"closed, open from {self.changes}"


@dataclass(frozen=True)
class PlanView:
    """A plan with everything known of it beforehand. `free_bytes` is the disk's free space where the state lies."""

    plan: Plan
    executor: str
    estimate: Estimate
    left: Left
    hours: HoursNow | None
    has_sensors: bool
    vram: VramNeed
    vram_axes: dict[str, Any]
    gaps: Sequence[Gap]
    free_bytes: int
    file: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, without the runs."""
        estimate, vram = self.estimate, self.vram
        return {
            "name": self.plan.name,
            "hash": self.plan.hash,
            "executor": self.executor,
            "experiments": len(self.plan.experiments),
            "runs": estimate.runs,
            "runs_by_backend": estimate.runs_by_backend,
            "experiments_by_backend": estimate.experiments_by_backend,
            "order": self.plan.document["order"],
            "isolation": self.plan.document["isolation"],
            "engine_loads": estimate.engine_loads,
            "seconds": phase_seconds(estimate.phases) | {"total": estimate.total_s},
            "measuring_share": estimate.measuring_share,
            "estimate_from": estimate.grounds,
            "left": left_json(self.left),
            "hours": None if self.hours is None else asdict(self.hours),
            "schedule": self.plan.document["schedule"],
            "sensors": self.has_sensors,
            "disk": {
                "sample_bytes": estimate.sample_bytes,
                "request_bytes": estimate.request_bytes,
                "state_bytes": estimate.state_bytes,
                "free_bytes": self.free_bytes,
            },
            "vram": {
                "weights_bytes": vram.weights_bytes,
                "kv_bytes": vram.kv_bytes,
                "total_bytes": vram.total_bytes,
                "reason": vram.reason,
                "axes": self.vram_axes,
            },
            "missing": [{"what": gap.what, "name": gap.name, "fix": _fix(gap, self.file)} for gap in self.gaps],
            "warnings": list(self.plan.warnings),
        }


def phase_seconds(phases: Phases) -> dict[str, float]:
    """Phase -> seconds."""
    return {name: getattr(phases, f"{name}_s") or 0.0 for name in PHASES}


def plan_text(view: PlanView, *, every: bool = False) -> str:
    """The plan as text; `every` lists all experiments instead of the first."""
    return "\n".join(
        [*_head(view), *_time(view), *_hours(view), *_needs(view), *_gaps(view), "", *_cells(view.plan, every)]
    )


def cycles_text(document: dict[str, Any]) -> str:
    """`5 cycles`, or `at most 40 cycles (until energy_per_output_token is known to ±2 %)`."""
    cycles = document["cycles"]
    if isinstance(cycles, int):
        return plural(cycles, "cycle")
    until = cycles["until"]
    return f"at most {plural(cycles['max'], 'cycle')} (until {until['metric']} is known to ±{until['half_width']:.2%})"


def _head(view: PlanView) -> Iterator[str]:
    plan, estimate = view.plan, view.estimate
    experiments = len(plan.experiments)
    size_text = f"{plural(experiments, 'experiment')} x {cycles_text(plan.document)} = {estimate.runs:,} runs"
    yield f"campaign  {plan.name}: {size_text}"
    for backend, runs in estimate.runs_by_backend.items():
        count = plural(estimate.experiments_by_backend[backend], "experiment")
        yield f"backend   {backend}: {runs:,} runs of {count}"
    yield f"load      {_loads(plan)}"
    document = plan.document
    reload = ", engines loaded anew in each block" if document["reload_each_block"] else ""
    yield (
        f"order     {document['order']}, seed {document['seed']}, isolation {document['isolation']}{reload}:"
        f" {plural(estimate.engine_loads, 'engine load')}"
    )
    yield f"executor  {view.executor}"


def _loads(plan: Plan) -> str:
    """The distinct loads, the first of many."""
    found = list(dict.fromkeys(load_words(one.spec["workload"]["load"]) for one in plan.experiments))
    more = f"; and {len(found) - LOADS_SHOWN} more" if len(found) > LOADS_SHOWN else ""
    return "; ".join(found[:LOADS_SHOWN]) + more


def _time(view: PlanView) -> Iterator[str]:
    estimate = view.estimate
    yield (
        f"time      about {duration(estimate.total_s)}, {estimate.measuring_share:.0%} of it measuring"
        f" ({GROUND_WORDS[estimate.source]})"
    )
    yield f"          at most {duration(max(view.left.p90_s, estimate.total_s))} in nine of ten cases"
    for name, seconds in phase_seconds(estimate.phases).items():
        share = seconds / estimate.total_s if estimate.total_s else 0.0
        yield f"          {_PHASE_WORDS.get(name, name):<10} {duration(seconds):>12} {share:>5.0%}"
    if not view.has_sensors:
        yield "          no GPU sensors here: neither cooling nor baselines, only the gate's gap"


def _hours(view: PlanView) -> Iterator[str]:
    if view.plan.document["schedule"] is not None:
        yield f"schedule  {view.plan.document['schedule']}"
    if view.hours is None:
        return
    yield f"hours     {view.hours.text}; {view.hours.now}"
    if nights := nights_text(view.left):
        yield f"          {nights}"
    if view.left.too_long:
        named = ", ".join(f"{experiment} ({duration(need_s)})" for experiment, need_s in view.left.too_long[:3])
        count = plural(len(view.left.too_long), "experiment")
        yield f"          {count} longer than any of them, and would not be run: {named}"


def nights_text(left: Left) -> str:
    """`needs about 3 of them, at most 4; ends about Fri 27 Nov 03:10 UTC`; empty where it cannot end."""
    if left.windows_p50 is None or left.windows_p90 is None or left.ends_p50 is None:
        return ""
    more = f", at most {left.windows_p90} in nine of ten cases" if left.windows_p90 != left.windows_p50 else ""
    return f"needs about {left.windows_p50} of them{more}; ends about {left.ends_p50:%a %d %b %H:%M %Z}"


def left_json(left: Left) -> dict[str, Any]:
    """As plain JSON types; the end is stated where hours decide it."""
    ends = (left.ends_p50, left.ends_p90) if left.windows_p50 is not None else (None, None)
    return {
        "p50_s": left.p50_s,
        "p90_s": left.p90_s,
        "estimate_from": left.grounds,
        "ends_p50_utc": ends[0].astimezone(UTC).isoformat() if ends[0] else None,
        "ends_p90_utc": ends[1].astimezone(UTC).isoformat() if ends[1] else None,
        "nights_p50": left.windows_p50,
        "nights_p90": left.windows_p90,
        "too_long": [{"experiment": experiment, "p90_s": need_s} for experiment, need_s in left.too_long],
    }


def _needs(view: PlanView) -> Iterator[str]:
    estimate, vram = view.estimate, view.vram
    written = estimate.sample_bytes + estimate.request_bytes + estimate.state_bytes
    tight = "; NOT ENOUGH" if written > view.free_bytes else ""
    yield f"disk      about {size(written)} to write, {size(view.free_bytes)} free{tight}"
    if vram.total_bytes is None:
        yield f"VRAM      not known: {vram.reason}"
        return
    at = f" at {axes_line(view.vram_axes)}" if view.vram_axes else ""
    yield (
        f"VRAM      up to {size(vram.total_bytes)}{at}: weights {size(vram.weights_bytes or 0)},"
        f" KV cache {size(vram.kv_bytes or 0)}, margin {MARGIN:.0%}"
    )


def _gaps(view: PlanView) -> Iterator[str]:
    if not view.gaps:
        yield "missing   nothing"
        return
    for place, gap in enumerate(view.gaps[:GAPS_SHOWN]):
        yield f"{'' if place else 'missing':<10}{gap.what} {gap.name}"
    if len(view.gaps) > GAPS_SHOWN:
        yield f"          and {len(view.gaps) - GAPS_SHOWN} more"
    for fix in dict.fromkeys(_fix(gap, view.file) for gap in view.gaps):
        yield f"          get it with `{fix}`"


def _fix(gap: Gap, file: str) -> str:
    return gap.fix or f"lemctl images prefetch {file}"


def _cells(plan: Plan, every: bool) -> Iterator[str]:
    shown = plan.experiments if every else plan.experiments[:CELLS_SHOWN]
    names = axis_names(list(dict.fromkeys(key for experiment in shown for key in experiment.axes)))
    header = ["experiment", "backend", *(name for key, name in names.items() if key != "backend")]
    keys = [key for key in names if key != "backend"]
    rows = [
        [experiment.hash, experiment.backend, *(clipped(axis_value(experiment.axes.get(key)), 40) for key in keys)]
        for experiment in shown
    ]
    yield table(header, rows)
    if len(shown) < len(plan.experiments):
        yield f"and {len(plan.experiments) - len(shown):,} more: --all lists them"
