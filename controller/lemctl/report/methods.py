"""A paragraph of methods for a paper, from what was really set and really ran: every clause has a stored fact behind
it, and what was not recorded is not mentioned."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lemctl.lines import plural
from lemctl.report.document import Report
from lemctl.report.evidence import MeasuredRun
from lemctl.report.figures import axis_names, axis_value, number
from lemctl.report.story import Story
from lemctl.report.text import ENGINE_PACKAGES


def methods_text(story: Story, document: Mapping[str, Any]) -> str:
    """The paragraph; `document` is the campaign as it was normalised."""
    sentences = [
        *_what(story.report, document),
        *_engines(story.report),
        *_where(story.report),
        *_work(document),
        *_protocol(document, story.runs),
        *_energy(story.runs),
        *_counts(story.report),
    ]
    return " ".join(sentences)


def _what(report: Report, document: Mapping[str, Any]) -> Iterator[str]:
    models = list(dict.fromkeys(cell.model for cell in report.cells))
    project: Mapping[str, Any] = next(iter(report.surroundings["environments"].get("project", [])), {})
    commit = f", commit {str(project['commit'])[:12]}" if project.get("commit") else ""
    version = f" {project['version']}" if project.get("version") else ""
    dirty = " with local changes" if project.get("dirty") else ""
    verb = "simulated (no engine ran)" if report.is_simulated else "measured"
    of = f" of {_listed(models)}" if models else ""
    yield f"We {verb} {plural(len(report.cells), 'configuration')}{of} with lemctl{version}{commit}{dirty}."
    swept = {key: values for key, values in document.get("sweep", {}).items() if isinstance(values, list)}
    names = axis_names(list(swept))
    if swept:
        told = (f"{names[key]} ({', '.join(axis_value(value) for value in values)})" for key, values in swept.items())
        yield f"Varied were {_listed(list(told))}."


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
        yield f"The models were served by {_listed(list(dict.fromkeys(parts)))}."


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


def _work(document: Mapping[str, Any]) -> Iterator[str]:
    base = document.get("base", {})
    workload = base.get("workload", {})
    dataset = workload.get("dataset") or {}
    if dataset:
        revision = f" at revision {dataset['revision']}" if dataset.get("revision") else ""
        name = f" {dataset['name']}" if dataset.get("name") else ""
        length = workload.get("random") or {}
        ids = f" of {length['input_len']} tokens" if dataset["kind"] == "random" and length.get("input_len") else ""
        output = "forced to the length asked for" if workload.get("output") == "fixed" else "left to end by itself"
        yield (
            f"Prompts came from {dataset['kind']}{name}{revision}{ids} ({workload['prompts']} prompts, seed"
            f" {workload['seed']}), the same token ids for every engine; output was {output}"
            f" ({workload['max_new_tokens']} tokens at most unless varied)."
        )
    dtype = (base.get("engine") or {}).get("dtype")
    sampling = base.get("sampling") or {}
    if dtype:
        yield f"Precision was {dtype}, decoding {'sampled' if sampling.get('do_sample') else 'greedy'}."


def _protocol(document: Mapping[str, Any], runs: Sequence[MeasuredRun]) -> Iterator[str]:
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
    measure = document.get("base", {}).get("measure", {})
    window, baseline = measure.get("window"), measure.get("baseline")
    ended = [run.attempt.facts.get("warmup", {}).get("ended") for run in runs]
    steady = sum(how == "steady" for how in ended)
    if steady:
        yield f"The warm-up went on until latency had settled ({steady} of {len(ended)} runs)."
    lengths = [sum(end - begin for begin, end in run.attempt.windows) / 1e9 for run in runs if run.attempt.windows]
    if lengths:
        least = f" (at least {window:g} s asked for)" if isinstance(window, int | float) else ""
        yield f"Windows lasted {min(lengths):.1f} to {max(lengths):.1f} s{least}."
    if baseline and any(run.value("energy_net") is not None for run in runs):
        yield f"Idle power of the loaded model was read for {baseline:g} s before and after each window."
    cycles = document.get("cycles")
    order = {"blocked": "in randomised complete blocks", "shuffled": "in random order"}.get(str(document.get("order")))
    how = f"{cycles} cycles" if isinstance(cycles, int) else "adaptive cycles"
    yield f"Every configuration was repeated in {how}{f' {order}' if order else ''} (seed {document.get('seed')})."


def _energy(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    if not any(run.value("energy_total") is not None for run in runs):
        reasons = {
            figure.reason for run in runs if (figure := run.result.figures.get("energy_total")) and figure.reason
        }
        if reasons:
            yield f"GPU energy is not reported: {'; '.join(sorted(reasons))}."
        return
    yield "GPU energy is that of the energy counter, interpolated at the edges of the window."
    gaps = [abs(gap) for run in runs if (gap := run.value("counter_series_difference")) is not None]
    if gaps:
        yield f"Counter and integrated power differ by {statistics.median(gaps):.2%} in the median."


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


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
