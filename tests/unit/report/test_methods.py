"""The paragraph of methods: every clause says what the runs used, and says nothing where nothing was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lemctl.report.cells import cells_of
from lemctl.report.document import Report
from lemctl.report.evidence import MeasuredRun
from lemctl.report.methods import methods_text
from lemctl.report.story import Story
from lemctl.store.queries import CampaignRow
from lemctl.store.read_results import Figure, RunResult
from lemctl.store.read_traces import MeasuredAttempt

S = 1_000_000_000
DOCUMENT = {"cycles": 2, "order": "blocked", "seed": 7}
WORKLOAD = {
    "dataset": {"kind": "hub", "name": "org/alpaca", "revision": "v2", "sha256": None, "input_len": None},
    "prompts": 200,
    "seed": 3,
    "template": "chat",
    "max_new_tokens": 128,
    "output": "fixed",
    "load": {"mode": "offline", "batch_size": 8, "batching": "static"},
}


def spec(backend: str = "pytorch", **workload: Any) -> dict[str, Any]:
    """A specification, as far as the paragraph reads it."""
    return {
        "backend": backend,
        "workload": {**WORKLOAD, **workload},
        "measure": {"window_s": 60.0, "baseline_s": 30.0},
    }


def configured(
    resolved: Mapping[str, Any] | None = None,
    reported: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
    drawn: Mapping[str, Any] | None = None,
    **effective: Any,
) -> dict[str, Any]:
    """What an attempt keeps of its parameters."""
    declared = {"engine": {"dtype": "auto"}, "sampling": {"do_sample": False, "seed": 5, **(sampling or {})}}
    return {
        "effective": effective,
        "configuration": {
            "declared": declared,
            "resolved": {
                "engine": {"dtype": "auto", **(resolved or {})},
                "sampling": {n: v for n, v in declared["sampling"].items() if n != "seed"},
            },
            "reported": {"engine": dict(reported or {}), "sampling": dict(drawn or {})},
        },
    }


def measured(
    run: int,
    facts: Mapping[str, Any] | None = None,
    backend: str = "pytorch",
    axes: Mapping[str, Any] | None = None,
    figures: Mapping[str, Figure] | None = None,
    window_s: float = 61.0,
) -> MeasuredRun:
    """A run with what was kept of it."""
    verdict, none = "VALID", None
    result = RunResult(
        run, f"{backend}-{run}", backend, "hf:org/model", dict(axes or {}), 1, "Done", none, none, verdict, False, 0,
        dict(figures or {}),
    )  # fmt: skip
    attempt = MeasuredAttempt(
        run, f"{backend}-{run}", 1, run, "boot", 0, 200 * S, "2026-01-05T22:00:00Z", verdict,
        ((100 * S, int((100 + window_s) * S)),), (), dict(facts or {}),
    )  # fmt: skip
    return MeasuredRun(result, attempt)


def told(
    *runs: MeasuredRun,
    document: Mapping[str, Any] = DOCUMENT,
    specs: list[dict[str, Any]] | None = None,
    surroundings: Mapping[str, Any] | None = None,
    executor: str = "local",
    failed: int = 0,
    include_suspect: bool = False,
) -> str:
    """The paragraph of a campaign of these runs."""
    counts = {"Done": len(runs), "Failed": failed}
    campaign = CampaignRow(1, "demo", 1, "Finished", None, executor, 0, None, "2026-01-05", None, counts)
    results = [run.result for run in runs]
    report = Report(
        campaign=campaign,
        preset=None,
        surroundings={"host": None, "sessions": [], "environments": {}, **(surroundings or {})},
        cells=cells_of(results, ["energy_per_output_token"], include_suspect=include_suspect),
        faults=[],
        database="lem.db",
        include_suspect=include_suspect,
    )
    given = specs or [spec(run.result.backend) for run in runs]
    by_hash = {run.result.experiment: one for run, one in zip(runs, given, strict=True)}
    return methods_text(Story(report, runs, [], [], []), document, by_hash)


def test_what_was_measured_with_which_version() -> None:
    project = {"project": [{"version": "1.2.3", "commit": "0123456789abcdef", "dirty": True}]}
    text = told(measured(1), surroundings={"environments": project})
    assert text.startswith(
        "We measured 1 configuration of hf:org/model with lemctl 1.2.3, commit 0123456789ab with local changes."
    )
    assert "simulated (no engine ran) 1 configuration" in told(measured(1), executor="simulate")
    assert "commit" not in told(measured(1))


def test_what_was_varied_is_what_the_experiments_differ_in() -> None:
    axes = "workload.load.batch_size"
    text = told(
        measured(1, axes={axes: 16, "cycles": 1}), measured(2, axes={axes: 4, "cycles": 1, "vllm.engine.x": 0.9})
    )
    assert "Varied were batch_size (4, 16) and x (0.9)." in text
    assert "Varied" not in told(measured(1))


def test_the_versions_of_each_engine() -> None:
    one = {
        "backend": "pytorch",
        "executor": "docker",
        "isolation": "engine",
        "image_digest": "sha256:abc",
        "packages": {"torch": "2.13.0", "transformers": "5.1", "numpy": "2.0"},
        "python": "3.11.2",
    }
    bare = {"backend": "replay", "executor": "local", "isolation": "engine", "image_digest": None, "packages": None}
    text = told(measured(1), surroundings={"sessions": [one, {**bare, "python": None}, one]})
    assert (
        "The models were served by pytorch (torch 2.13.0, transformers 5.1, Python 3.11.2, image sha256:abc) by the"
        " docker executor and replay by the local executor." in text
    )
    assert "served by" not in told(measured(1))


def test_models_and_data_sets_by_commit_or_why_there_is_none() -> None:
    def fetched(kind: str, name: str, commit: str, revision: str | None = None) -> dict[str, Any]:
        return {"kind": kind, "name": name, "revision": revision, "commit": commit}

    local = {"kind": "path", "name": "mine", "reason": "it is a local folder"}
    file = {"kind": "file", "name": "own.txt", "reason": "it is a local file", "sha256": "f00d"}
    facts = [
        {"sources": {"model": fetched("hf", "org/a", "c0ffee", "v1"), "dataset": fetched("hub", "org/d", "beef")}},
        {"sources": {"model": fetched("hf", "org/b", "abcd"), "dataset": fetched("hub", "org/d", "beef")}},
        {"sources": {"model": local, "dataset": file}},
    ]
    text = told(*(measured(number, one) for number, one in enumerate(facts)))
    assert (
        "The models org/a at commit c0ffee (revision v1 asked for) and org/b at commit abcd are as fetched from the"
        " hub. The model mine has no commit: it is a local folder. The data set org/d at commit beef is as fetched"
        " from the hub. The data set own.txt has no commit: it is a local file, sha256 f00d." in text
    )
    random = {"sources": {"model": {"kind": "random", "reason": "its weights are random"}}}
    assert "The model has no commit: its weights are random." in told(measured(1, random))
    assert "commit" not in told(measured(1))


def test_the_host_and_its_gpus() -> None:
    gpu = {"name": "NVIDIA H100", "driver": "550.54", "power_limit_mw": 700000}
    host = {"os": "Debian 12", "kernel": "6.1", "cpu": {"model": "Xeon"}, "gpus": [gpu, {"uuid": "untold"}]}
    text = told(measured(1), surroundings={"environments": {"host": [host]}})
    assert "The host ran Debian 12, kernel 6.1; Xeon; NVIDIA H100, driver 550.54, power limit 700 W." in text
    assert "The host" not in told(measured(1), surroundings={"environments": {"host": [{"os": None}]}})


def test_prompts_are_those_of_the_experiments_not_of_the_base() -> None:
    text = told(measured(1), document={**DOCUMENT, "base": {"workload": {"prompts": 9}}})
    assert "Prompts came from hub org/alpaca at revision v2 (200 prompts, seed 3, template chat)." in text
    random = {"kind": "random", "name": None, "revision": None, "input_len": 512}
    drawn = spec("vllm", dataset={**random, "input_len": None}, lengths={}, template="none")
    drawn["workload"]["lengths"] = {"kind": "normal"}
    text = told(
        measured(1), measured(2, backend="vllm"), specs=[spec(dataset=random, prompts=8, template="none"), drawn]
    )
    assert (
        "Prompts came from random of 512 tokens (8 prompts, seed 3) and random (200 prompts, seed 3, lengths drawn from"
        " a distribution), the same token ids for every engine." in text
    )


def test_output_lengths_are_those_that_ran() -> None:
    assert "Output was forced to the length asked for (128 tokens)." in told(measured(1))
    several = [spec(max_new_tokens=64), spec(max_new_tokens=8, output="natural")]
    assert "Output was forced to the length asked for and left to end by itself (8 / 64 tokens at most)." in told(
        measured(1), measured(2), specs=several
    )


@pytest.mark.parametrize(
    ("loads", "words"),
    [
        (
            [{"mode": "offline", "batch_size": size, "batching": "static"} for size in (16, 4)],
            "offline in batches of 4 / 16 (static batching)",
        ),
        ([{"mode": "closed", "concurrency": 16}, {"mode": "closed", "concurrency": 2}], "with 2 / 16 in flight"),
        ([{"mode": "poisson", "rate_per_s": 4.0}] * 2, "as poisson arrivals at 4 a second"),
        (
            [{"mode": "gamma", "rate_per_s": 0.5, "burstiness": 0.25}] * 2,
            "as gamma arrivals at 0.5 a second, burstiness 0.25",
        ),
        ([{"mode": "trace", "trace": {"name": "a.csv", "sha256": "0"}}] * 2, "as recorded in a.csv"),
        (
            [{"mode": "closed", "concurrency": 2}, {"mode": "poisson", "rate_per_s": 1.5}],
            "with 2 in flight and as poisson arrivals at 1.5 a second",
        ),
    ],
)
def test_how_requests_came(loads: list[dict[str, Any]], words: str) -> None:
    text = told(measured(1), measured(2), specs=[spec(load=load) for load in loads])
    assert f"Requests were submitted {words}." in text


def test_precision_is_what_the_engine_reports_whatever_was_asked_for() -> None:
    kept = configured({"dtype": "float16"}, {"dtype": "torch.bfloat16"}, dtype="torch.bfloat16")
    text = told(measured(1, kept), document={**DOCUMENT, "base": {"engine": {"dtype": "auto"}}})
    assert "Precision was bfloat16 as the engine reports it." in text
    assert "auto" not in text


def test_several_precisions_are_named_as_such() -> None:
    half, quantised = configured(dtype="float16"), configured(dtype="bfloat16", quantization="fp8")
    text = told(
        measured(1, half),
        measured(2, half),
        measured(3, quantised, backend="vllm"),
        measured(4, configured({"dtype": "float32"}), backend="tensorrt"),
        measured(5, configured(), backend="replay"),
    )
    assert (
        "Precision was float16 as the engine reports it (pytorch: 2 runs), bfloat16, fp8 as the engine"
        " reports it (vllm: 1 run), float32 as asked for (the engine reports none)"
        " (tensorrt: 1 run) and not reported (replay: 1 run)."
    ) in text


def test_decoding_is_that_of_the_runs_not_of_the_base() -> None:
    base = {**DOCUMENT, "base": {"sampling": {"do_sample": False}}}
    sampled = {"do_sample": True, "temperature": 0.7, "top_p": 0.9}
    kept = configured(sampling=sampled, drawn={"temperature": 0.6})
    assert "Decoding was sampled (temperature 0.6, top_p 0.9, seed 5)." in told(measured(1, kept), document=base)
    assert "Decoding was greedy." in told(measured(1, configured()))
    assert "Decoding was by beams (num_beams 4, seed 5)." in told(measured(1, configured(sampling={"num_beams": 4})))
    assert "Decoding" not in told(measured(1))


def test_several_ways_of_decoding_are_named_as_such() -> None:
    hot = configured(sampling={"do_sample": True, "temperature": 1.5})
    text = told(measured(1, configured()), measured(2, hot, backend="vllm"))
    assert "Decoding was greedy (pytorch: 1 run) and sampled (temperature 1.5, seed 5) (vllm: 1 run)." in text


def test_parameters_are_told_as_reported_and_several_values_as_such() -> None:
    one = configured({"max_num_seqs": 8, "util": 0.9}, {"max_num_seqs": 8, "other": 1})
    other = configured({"max_num_seqs": 16, "util": 0.9}, {"max_num_seqs": 12})
    text = told(measured(1, one, backend="vllm"), measured(2, other, backend="vllm"), measured(3, configured()))
    assert (
        "Engine parameters were, as the engines report them: vllm max_num_seqs 8 / 12, util 0.9 (not reported)." in text
    )
    assert "parameters" not in told(measured(1, configured()))
    several = told(measured(1, one, backend="vllm"), measured(2, configured({"compile": True}), backend="pytorch"))
    assert "util 0.9 (not reported); pytorch compile true (not reported)." in several


def test_how_the_runs_began() -> None:
    def began(state: str, waited_s: float, temp_c: float | None) -> dict[str, Any]:
        return {"gate": {"start_state": state, "waited_s": waited_s, "temps_c": {"GPU-1": temp_c}}}

    cool = [measured(n, began("cool", wait_s, temp_c)) for n, (wait_s, temp_c) in enumerate([(80, 39.5), (90, 41.0)])]
    assert (
        "Each run began when the GPU had cooled to its idle reference (median wait 85 s, at 39.5 to 41.0 C)."
        in told(*cool)
    )
    assert "(median wait 80 s)" in told(measured(1, began("cool", 80, None)))
    assert "Start states of the runs: 2 cool, 1 warm." in told(*cool, measured(9, began("warm", 300, 50.0)))
    assert "idle reference" not in told(measured(1))


def test_how_the_warm_up_ended() -> None:
    runs = [measured(n, {"warmup": {"ended": how}}) for n, how in enumerate(["steady", "steady", "capped"])]
    assert (
        "The warm-up went on until latency had settled (2 of 3 runs) and was ended at its longest allowed duration"
        " (1 of 3 runs)." in told(*runs)
    )
    assert "The warm-up was one batch (1 of 1 runs)." in told(measured(1, {"warmup": {"ended": "one_batch"}}))
    assert "The warm-up was left out (1 of 1 runs)." in told(measured(1, {"warmup": {"ended": "none"}}))
    assert "warm-up" not in told(measured(1))


def test_windows_and_the_baseline_beside_them() -> None:
    net = {"energy_net": Figure(1.0, 0.1, "J", None)}
    text = told(measured(1, figures=net), measured(2, window_s=64.3))
    assert "Windows lasted 61.0 to 64.3 s (at least 60 s asked for)." in text
    assert "Idle power of the loaded model was read for 30 s before and after each window." in text
    one_pass = [{**spec(), "measure": {"window_s": None, "baseline_s": 0.0}}]
    text = told(measured(1, figures=net), specs=one_pass)
    assert "Windows lasted 61.0 to 61.0 s." in text
    assert "Idle power" not in text
    assert "Idle power" not in told(measured(1))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "repeated in 2 cycles, in randomised complete blocks (seed 7)."),
        ({"cycles": 1, "order": "shuffled"}, "repeated in 1 cycle, in random order (seed 7)."),
        ({"order": "as_written"}, "repeated in 2 cycles, in the order of the campaign's file."),
        (
            {"cycles": {"until": {"metric": "energy_per_output_token", "half_width": 0.02}, "min": 5, "max": 40}},
            "repeated until the 95 % interval of energy_per_output_token was within ±2.00% of its mean, 5 to 40 cycles,"
            " in randomised complete blocks (seed 7).",
        ),
    ],
)
def test_how_often_and_in_which_order(document: dict[str, Any], words: str) -> None:
    assert f"Every configuration was {words}" in told(measured(1), document={**DOCUMENT, **document})


def test_energy_by_the_meter_that_gave_it() -> None:
    energy = {"energy_total": Figure(10.0, 0.1, "J", None)}
    gap = {"counter_series_difference": Figure(-0.0123, None, "1", None)}
    counter = measured(1, {"meters": {"gpu": "nvml-counter"}}, figures=energy | gap)
    assert (
        "GPU energy is that of the energy counter, interpolated at the edges of the window. Counter and integrated"
        " power differ by 1.23% in the median." in told(counter)
    )
    series = measured(2, {"meters": {"gpu": "nvml-series"}}, figures=energy)
    assert "GPU energy is integrated from the power readings." in told(series)
    assert "edges of the window and integrated from the power readings." in told(counter, series)
    assert "GPU energy is that of the GPU's own meters." in told(measured(1, figures=energy))


def test_absent_energy_has_its_reason() -> None:
    absent = {"energy_total": Figure(None, None, "J", "no GPU: no meter ran")}
    assert "GPU energy is not reported: no GPU: no meter ran." in told(measured(1, figures=absent))
    assert "GPU energy" not in told(measured(1))


def test_what_was_kept_failed_and_discarded() -> None:
    assert (
        "Of 2 runs planned, 2 gave a VALID and 0 a SUSPECT result (left out), 3 failed; 0 INVALID attempts were"
        " discarded. We report means and 95 % t-intervals between runs; a power sensor's gain error of about 5 % is"
        " not in them." in told(measured(1), measured(2), failed=3)
    )
    assert "SUSPECT result (averaged)" in told(measured(1), include_suspect=True)
