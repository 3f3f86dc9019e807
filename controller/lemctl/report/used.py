"""What the runs of a campaign really used, in words: work, precision, decoding, parameters. Pure.

The work is that of the experiments that gave a figure. What an engine reports of its own parameters is told before what
it was handed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lemctl.judge.equivalence import decodes_greedily, precision_told
from lemctl.lines import plural
from lemctl.report.evidence import MeasuredRun, sources_used
from lemctl.report.figures import axis_value, sort_key

Spec = Mapping[str, Any]


def work_sentences(specs: Sequence[Spec]) -> Iterator[str]:
    """Where prompts came from, how long the outputs were, how requests came: of the experiments given."""
    workloads = [spec["workload"] for spec in specs]
    if not workloads:
        return
    same_ids = ", the same token ids for every engine" if len({spec["backend"] for spec in specs}) > 1 else ""
    yield f"Prompts came from {listed(_distinct(map(_prompts, workloads)))}{same_ids}."
    yield f"Output was {listed(_distinct(map(_kind_of_output, workloads)))} ({_longest(workloads)})."
    yield f"Requests were submitted {listed(_loads([workload['load'] for workload in workloads]))}."


def source_sentences(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    """The commits of models and data sets, or why there are none."""
    for what, word in (("model", "model"), ("dataset", "data set")):
        sources = sources_used(runs, what)
        known = [source for source in sources if source.get("commit")]
        if known:
            noun, was = (word, "is") if len(known) == 1 else (f"{word}s", "are")
            yield f"The {noun} {listed([_at_commit(source) for source in known])} {was} as fetched from the hub."
        for source in sources:
            if not source.get("commit"):
                name = f" {source['name']}" if source.get("name") else ""
                digest = f", sha256 {source['sha256']}" if source.get("sha256") else ""
                yield f"The {word}{name} has no commit: {source['reason']}{digest}."


def _at_commit(source: Mapping[str, Any]) -> str:
    asked = f" (revision {source['revision']} asked for)" if source.get("revision") else ""
    return f"{source['name']} at commit {source['commit']}{asked}"


def _prompts(workload: Spec) -> str:
    dataset = workload["dataset"]
    revision = f" at revision {dataset['revision']}" if dataset.get("revision") else ""
    name = f" {dataset['name']}" if dataset.get("name") else ""
    ids = f" of {dataset['input_len']} tokens" if dataset.get("input_len") else ""
    template = "" if workload["template"] == "none" else f", template {workload['template']}"
    drawn = ", lengths drawn from a distribution" if workload.get("lengths") else ""
    chosen = f"{workload['prompts']} prompts, seed {workload['seed']}{template}{drawn}"
    return f"{dataset['kind']}{name}{revision}{ids} ({chosen})"


def _kind_of_output(workload: Spec) -> str:
    return "forced to the length asked for" if workload["output"] == "fixed" else "left to end by itself"


def _longest(workloads: Sequence[Spec]) -> str:
    lengths = sorted({workload["max_new_tokens"] for workload in workloads})
    what = "" if all(workload["output"] == "fixed" for workload in workloads) else " at most"
    return f"{_values(lengths)} tokens{what}"


def _loads(loads: Sequence[Spec]) -> list[str]:
    return [_load(mode, [one for one in loads if one["mode"] == mode]) for mode in _distinct(o["mode"] for o in loads)]


def _load(mode: str, loads: Sequence[Spec]) -> str:
    def every(key: str) -> str:
        return _values([load[key] for load in loads if load.get(key) is not None])

    if mode == "offline":
        return f"offline in batches of {every('batch_size')} ({every('batching')} batching)"
    if mode == "closed":
        return f"with {every('concurrency')} in flight"
    if mode == "trace":
        return f"as recorded in {_values([load['trace']['name'] for load in loads])}"
    shape = f", burstiness {every('burstiness')}" if mode == "gamma" else ""
    return f"as {mode} arrivals at {every('rate_per_s')} a second{shape}"


def precision_sentence(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    """What the engines computed in: as they report it, else as it was asked for, and said so."""
    told: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        told.setdefault(_precision(run), []).append(run)
    if told:
        yield f"Precision was {_shared_out(told)}."


def _precision(run: MeasuredRun) -> str:
    told = precision_told(run.attempt.facts.get("effective") or {})
    if told is not None:
        return f"{told} as the engine reports it"
    asked = _handed_over(run, "engine").get("dtype")
    return "not reported" if asked in (None, "auto") else f"{asked} as asked for (the engine reports none)"


def decoding_sentence(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    """How tokens were chosen, with the parameters that the requests were drawn with."""
    ways: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        if run.attempt.facts.get("configuration"):
            ways.setdefault(_decoding(run), []).append(run)
    if ways:
        yield f"Decoding was {_shared_out(ways)}."


def _decoding(run: MeasuredRun) -> str:
    given = _handed_over(run, "sampling")
    reported = _reported(run, "sampling")
    used = {name: value if reported.get(name) is None else reported[name] for name, value in given.items()}
    declared = (run.attempt.facts["configuration"].get("declared") or {}).get("sampling") or {}
    rest = [f"{name} {axis_value(value)}" for name, value in sorted(used.items()) if name != "do_sample"]
    if decodes_greedily(used) and not declared.get("do_sample"):
        return "greedy"
    rest += [f"seed {declared['seed']}"] if "seed" in declared else []
    draws = declared.get("do_sample") or used.get("do_sample") or used.get("temperature")
    return f"{'sampled' if draws else 'by beams'} ({', '.join(rest)})"


def parameter_sentence(runs: Sequence[MeasuredRun]) -> Iterator[str]:
    """The engine parameters that were handed over, by backend; dtype has a sentence of its own."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        names = found.setdefault(run.result.backend, {})
        reported = _reported(run, "engine")
        for name, value in _handed_over(run, "engine").items():
            if name == "dtype":
                continue
            told = reported.get(name)
            word = f"{axis_value(value)} (not reported)" if told is None else axis_value(told)
            names.setdefault(name, []).append(word)
    parts = [
        f"{backend} {', '.join(f'{name} {_values(words)}' for name, words in sorted(names.items()))}"
        for backend, names in found.items()
        if names
    ]
    if parts:
        yield f"Engine parameters were, as the engines report them: {'; '.join(parts)}."


def _shared_out(groups: Mapping[str, Sequence[MeasuredRun]]) -> str:
    """One word, or each with the backends and the number of runs that it holds for."""
    if len(groups) == 1:
        return next(iter(groups))
    return listed(
        [
            f"{word} ({', '.join(_distinct(run.result.backend for run in runs))}: {plural(len(runs), 'run')})"
            for word, runs in groups.items()
        ]
    )


def _handed_over(run: MeasuredRun, part: str) -> Mapping[str, Any]:
    return ((run.attempt.facts.get("configuration") or {}).get("resolved") or {}).get(part) or {}


def _reported(run: MeasuredRun, part: str) -> Mapping[str, Any]:
    return ((run.attempt.facts.get("configuration") or {}).get("reported") or {}).get(part) or {}


def _values(values: Iterable[Any]) -> str:
    """`4 / 16`: each once, by size."""
    return " / ".join(
        f"{value:g}" if isinstance(value, float) else axis_value(value)
        for value in sorted(dict.fromkeys(values), key=sort_key)
    )


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
