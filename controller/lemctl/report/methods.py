"""A paragraph of methods for a paper, from what was really set and really ran: every clause has a stored fact behind
it, and what was not recorded is not mentioned."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lemctl.judge.stopping import read_until
from lemctl.lines import plural
from lemctl.report.cells import Cell
from lemctl.report.document import Report
from lemctl.report.evidence import MeasuredRun
from lemctl.report.figures import axis_names, axis_value, number, sort_key
from lemctl.report.story import Story
from lemctl.report.text import ENGINE_PACKAGES
from lemctl.report.used import (
    Spec,
    decoding_sentence,
    listed,
    parameter_sentence,
    precision_sentence,
    source_sentences,
    work_sentences,
)

#: How a warm-up ended, in words.
WARMUPS = {
    "steady": "went on until latency had settled",
    "capped": "was ended at its longest allowed duration",
    "one_batch": "was one batch",
    "none": "was left out",
}


def methods_text(story: Story, document: Mapping[str, Any], specs: Mapping[str, Spec]) -> str:
    """The paragraph; `document` is the campaign as it was normalised, `specs` its experiments by hash."""
    measured = {run.result.experiment for run in story.runs}
    used = [spec for experiment, spec in specs.items() if experiment in measured or not measured]
    sentences = [
        *_what(story.report),
        *source_sentences(story.runs),
        *_engines(story.report),
        *_where(story.report),
        *work_sentences(used),
        *precision_sentence(story.runs),
        *decoding_sentence(story.runs),
        *parameter_sentence(story.runs),
        *_gates(story.runs),
        *_windows(used, story.runs),
        *_repeats(document),
        *_energy(story.runs),
        *_counts(story.report),
    ]
    return " ".join(sentences)


def _what(report: Report) -> Iterator[str]:
    models = list(dict.fromkeys(cell.model for cell in report.cells))
    project: Mapping[str, Any] = next(iter(report.surroundings["environments"].get("project", [])), {})
    commit = f", commit {str(project['commit'])[:12]}" if project.get("commit") else ""
    version = f" {project['version']}" if project.get("version") else ""
    dirty = " with local changes" if project.get("dirty") else ""
    verb = "simulated (no engine ran)" if report.is_simulated else "measured"
    of = f" of {listed(models)}" if models else ""
    yield f"We {verb} {plural(len(report.cells), 'configuration')}{of} with lemctl{version}{commit}{dirty}."
    varied = _varied(report.cells)
    names = axis_names(list(varied))
    if varied:
        told = (f"{names[key]} ({', '.join(values)})" for key, values in varied.items())
        yield f"Varied were {listed(list(told))}."


def _varied(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Swept key -> the values that experiments have, where these are not all one."""
    keys = dict.fromkeys(key for cell in cells for key in cell.axes)
    found = {key: [cell.axes[key] for cell in cells if cell.axes.get(key) is not None] for key in keys}
    values = {
        key: list(dict.fromkeys(axis_value(v) for v in sorted(all_, key=sort_key))) for key, all_ in found.items()
    }
    return {key: words for key, words in values.items() if len(words) > 1 or (words and len(found[key]) < len(cells))}


def _engines(report: Report) -> Iterator[str]:
    parts = []
    for session in report.surroundings["sessions"]:
        packages = session["packages"] or {}
        versions = [f"{name} {packages[name]}" for name in ENGINE_PACKAGES if packages.get(name)]
        versions += [f"Python {session['python']}"] if session["python"] else []
        versions += [f"image {session['image_digest']}"] if session["image_digest"] else []
        told = f" ({', '.join(versions)})" if versions else ""
        parts.append(f"{session['backend']}{told} by the {session['executor']} executor")
    if parts:
        yield f"The models were served by {listed(list(dict.fromkeys(parts)))}."


def _where(report: Report) -> Iterator[str]:
    for host in report.surroundings["environments"].get("host", []):
        gpus = [gpu for gpu in host.get("gpus", []) if isinstance(gpu, dict) and gpu.get("name")]
        cpu = (host.get("cpu") or {}).get("model")
        parts = [f"{host['os']}, kernel {host['kernel']}"] if host.get("os") and host.get("kernel") else []
        parts += [cpu] if cpu else []
        for gpu in gpus:
            limit = f", power limit {gpu['power_limit_mw'] / 1e3:g} W" if gpu.get("power_limit_mw") else ""
            driver = f", driver {gpu['driver']}" if gpu.get("driver") else ""
            parts.append(f"{gpu['name']}{driver}{limit}")
        if parts:
            yield f"The host ran {'; '.join(parts)}."


def _gates(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    gates = [run.attempt.facts["gate"] for run in runs if run.attempt.facts.get("gate")]
    kinds = {gate["start_state"] for gate in gates}
    if kinds == {"cool"}:
        waits = statistics.median(gate["waited_s"] for gate in gates)
        temps = [temp for run in runs if (temp := run.start_temp_c) is not None]
        spread = f", at {min(temps):.1f} to {max(temps):.1f} C" if temps else ""
        yield f"Each run began when the GPU had cooled to its idle reference (median wait {waits:.0f} s{spread})."
    elif kinds:
        told = ", ".join(f"{sum(g['start_state'] == kind for g in gates)} {kind}" for kind in sorted(kinds))
        yield f"Start states of the runs: {told}."


def _windows(specs: Sequence[Spec], runs: Sequence[MeasuredRun]) -> Iterator[str]:
    ended = [run.attempt.facts.get("warmup", {}).get("ended") for run in runs]
    told = [f"{words} ({ended.count(how)} of {len(ended)} runs)" for how, words in WARMUPS.items() if how in ended]
    if told:
        yield f"The warm-up {listed(told)}."
    lengths = [sum(end - begin for begin, end in run.attempt.windows) / 1e9 for run in runs if run.attempt.windows]
    if lengths:
        asked = sorted({window for spec in specs if (window := spec["measure"]["window_s"]) is not None})
        least = f" (at least {_seconds(asked)} asked for)" if asked else ""
        yield f"Windows lasted {min(lengths):.1f} to {max(lengths):.1f} s{least}."
    baselines = sorted({length for spec in specs if (length := spec["measure"]["baseline_s"])})
    if baselines and any(run.value("energy_net") is not None for run in runs):
        yield f"Idle power of the loaded model was read for {_seconds(baselines)} before and after each window."


def _repeats(document: Mapping[str, Any]) -> Iterator[str]:
    cycles = document.get("cycles")
    order = {"blocked": "in randomised complete blocks", "shuffled": "in random order"}.get(str(document.get("order")))
    how = f"{order} (seed {document.get('seed')})" if order else "in the order of the campaign's file"
    if (rule := read_until(cycles)) is None:
        yield f"Every configuration was repeated in {plural(cycles, 'cycle') if cycles else 'cycles'}, {how}."
        return
    metric, until = rule
    yield (
        f"Every configuration was repeated until the 95 % interval of {metric} was within ±{until.half_width:.2%} of"
        f" its mean, {until.min_cycles} to {until.max_cycles} cycles, {how}."
    )


def _energy(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    if not any(run.value("energy_total") is not None for run in runs):
        reasons = {
            figure.reason for run in runs if (figure := run.result.figures.get("energy_total")) and figure.reason
        }
        if reasons:
            yield f"GPU energy is not reported: {'; '.join(sorted(reasons))}."
        return
    yield f"GPU energy is {_meter(runs)}."
    gaps = [abs(gap) for run in runs if (gap := run.value("counter_series_difference")) is not None]
    if gaps:
        yield f"Counter and integrated power differ by {statistics.median(gaps):.2%} in the median."


def _meter(runs: Sequence[MeasuredRun]) -> str:
    known = {run.attempt.facts["meters"]["gpu"] for run in runs if (run.attempt.facts.get("meters") or {}).get("gpu")}
    words = {
        "nvml-counter": "that of the energy counter, interpolated at the edges of the window",
        "nvml-series": "integrated from the power readings",
    }
    return listed([words.get(meter, f"that of {meter}") for meter in sorted(known)] or ["that of the GPU's own meters"])


def _counts(report: Report) -> Iterator[str]:
    valid = sum(cell.verdicts.get("VALID", 0) for cell in report.cells)
    suspect = sum(cell.verdicts.get("SUSPECT", 0) for cell in report.cells)
    invalid = sum(cell.invalid for cell in report.cells)
    planned = sum(cell.planned for cell in report.cells)
    failed = report.campaign.counts.get("Failed", 0)
    kept = "averaged" if report.include_suspect else "left out"
    yield (
        f"Of {number(planned)} runs planned, {valid} gave a VALID and {suspect} a SUSPECT result ({kept}),"
        f" {failed} failed; {plural(invalid, 'INVALID attempt')} {'was' if invalid == 1 else 'were'} discarded."
    )
    yield "We report means and 95 % t-intervals between runs; a power sensor's gain error of about 5 % is not in them."


def _seconds(lengths: Sequence[float]) -> str:
    return f"{' / '.join(f'{length:g}' for length in lengths)} s"
