"""One run in full, as text: what was asked, what each attempt did, and every figure with its unit or its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from lemctl.lines import duration
from lemctl.report.figures import ABSENT, axes_line, axis_value, number
from lemctl.report.table import table
from lemctl.report.textplot import histogram, power_plot
from lemctl.report.traces import Trace

NS_PER_S = 1e9
#: The latencies that are drawn: until the first token, and until the last.
SHOWN_LATENCIES = ("ttft", "e2e")


def run_text(run: dict[str, Any], traces: Mapping[int, Sequence[Trace]] | None = None, width: int | None = None) -> str:
    """The text of `results show`; `run` as `store.read_results.run_in_full` gives it, `traces` by the attempt's id.
    Reasons are wrapped to `width` columns, None leaves them whole."""
    return "\n".join(_lines(run, traces or {}, width))


def _lines(run: dict[str, Any], traces: Mapping[int, Sequence[Trace]], width: int | None) -> Iterator[str]:
    status = run["status"]
    extra = {key: value for key, value in status.items() if key not in ("kind", "attempt", "lane")}
    yield f"run        {run['run']} of {run['campaign']}, cycle {run['cycle']}: {status['kind']}{_pairs(extra)}"
    yield f"experiment {run['experiment']}: {run['backend']}, {run['model']}, {axes_line(run['axes'])}"
    yield f"spec       {json.dumps(run['spec'], ensure_ascii=False)}"
    for attempt in run["attempts"]:
        yield ""
        yield from _attempt(attempt, width)
        yield from _plots(attempt, traces.get(attempt["id"], ()))
    yield ""
    yield "transitions"
    for row in run["transitions"]:
        yield f"  {row['at_utc']}  {row['from_status'] or '-'} -> {row['to_status']}  by {row['by']}{_why(row['data'])}"


def _plots(attempt: dict[str, Any], traces: Sequence[Trace]) -> Iterator[str]:
    """Power through the attempt, and its latencies."""
    for trace in traces:
        yield ""
        yield from (f"  {line}" for line in power_plot(trace))
    kept = attempt["facts"].get("latency") or {}
    for name in [name for name in SHOWN_LATENCIES if name in kept]:
        yield ""
        yield from (f"  {line}" for line in histogram(name, kept[name]))


def _attempt(attempt: dict[str, Any], width: int | None) -> Iterator[str]:
    took = ""
    if attempt["ended_mono_ns"] is not None:
        took = f" in {duration((attempt['ended_mono_ns'] - attempt['started_mono_ns']) / NS_PER_S)}"
    fault = f" ({attempt['fault']})" if attempt["fault"] else ""
    verdict = f", {attempt['verdict']}" if attempt["verdict"] else ""
    outcome = attempt["outcome"] or "under way"
    yield f"attempt {attempt['number']}  {outcome}{fault}{verdict}{took}, lane {attempt['lane']}"
    if attempt["message"]:
        yield f"  {attempt['message']}"
    for finding in attempt["findings"]:
        yield f"  {finding['severity']} {finding['code']}: {finding['text']}"
    session = attempt["session"]
    if session is not None:
        image = f", image {session['image_digest']}" if session["image_digest"] else ""
        how = f"executor {session['executor']}, isolation {session['isolation']}{image}"
        yield f"  session {session['uuid'][:8]}, {how}"
        for name, version in ((session["hello"] or {}).get("packages") or {}).items():
            yield f"    {name} {version}"
    yield from _configuration(attempt["facts"].get("configuration"))
    phases = attempt["facts"].get("phases") or {}
    if phases:
        known = {name.removesuffix("_s"): value for name, value in phases.items() if value is not None}
        yield "  " + ", ".join(f"{name} {duration(value)}" for name, value in known.items())
    for baseline in attempt["baselines"]:
        power_w = baseline["power_w"]
        figure = f"{ABSENT} ({baseline['reason']})" if power_w is None else f"{number(power_w)} W"
        yield f"  baseline {baseline['kind']} {figure}"
    for window in attempt["windows"]:
        length_s = (window["t_end_mono_ns"] - window["t_begin_mono_ns"]) / NS_PER_S
        yield (
            f"  window {window['window']}: {duration(length_s)}, batches {window['batches']}, requests"
            f" {window['requests']}, tokens in {window['tokens_in']}, tokens out {window['tokens_out']}"
        )
    if attempt["metrics"]:
        yield from _metrics(attempt["metrics"], width)


def _metrics(metrics: Sequence[Mapping[str, Any]], width: int | None) -> Iterator[str]:
    """Every figure with its reason beside it; below it where the lines have an end."""
    header = ["  metric", "value", "u", "unit", "absent because"]
    rows = [
        ["  " + row["name"], number(row["value"]), number(row["uncertainty"]), row["unit"], row["reason"] or ""]
        for row in metrics
    ]
    if width is None:
        yield table(header, rows, right=(1, 2))
        return
    head, *lines = table(header[:-1], [row[:-1] for row in rows], right=(1, 2)).splitlines()
    yield head
    for line, row in zip(lines, rows, strict=True):
        yield line
        yield from wrap(row[-1], max(20, width), initial_indent="    ", subsequent_indent="    ")


def _configuration(kept: dict[str, Any] | None) -> Iterator[str]:
    """What was declared, what that came to in the engine's own names, and what the engine says of the same names."""
    if kept is None:
        return
    yield f"  declared  {_parameters(kept['declared'])}"
    yield f"  resolved  {_parameters(kept['resolved'])}"
    told = kept.get("reported")
    if told is None:
        yield "  reported  the engine tells nothing of its parameters"
        return
    asked = {part: {name: told.get(part, {}).get(name) for name in kept["resolved"][part]} for part in kept["resolved"]}
    more = sum(len(told.get(part) or {}) for part in asked) - sum(
        value is not None for values in asked.values() for value in values.values()
    )
    others = f"; {more} more in --json" if more > 0 else ""
    yield f"  reported  {_parameters(asked)}{others}"


def _parameters(by_part: dict[str, dict[str, Any]]) -> str:
    words = [
        f"{part}.{name} {ABSENT if value is None else axis_value(value)}"
        for part, values in by_part.items()
        for name, value in values.items()
    ]
    return ", ".join(words) or "nothing"


def _pairs(values: dict[str, Any]) -> str:
    return f" ({', '.join(f'{key} {value}' for key, value in values.items())})" if values else ""


def _why(data: dict[str, Any]) -> str:
    why = data.get("why") or data.get("message") or data.get("reason")
    return f": {why}" if why else ""
