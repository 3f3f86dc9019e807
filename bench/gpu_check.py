"""Does lemctl measure on this GPU? One command, no Docker, no network: a random-weights model of a real shape on the
first GPU, the real NVML, the local executor; the figures stand beside published ones, and in a JSON file.

It prints the counter's tick period, counter against integral, the repeatability over the cycles of one session, the
spread of start temperatures, the sampler's cost and J per output token at several batch sizes. The card's settings are
left alone.

    python bench/gpu_check.py [--shape llama-8b|tiny] [--batches 8 64] [--cycles 5] [--window 30s] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe_machine

from lemctl.measure.energy import find_tick_period_s
from lemctl.measure.inventory import find_gpus
from lemctl.measure.readings import CounterTick, NvmlUnavailableError
from lemctl.measure.watch import SamplerProcess

#: Shapes by name: the published configuration of Llama-3.1-8B, and one that any machine can run.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-8b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 2048,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
}
#: GPU energy only, steady state, J per output token: ML.ENERGY's public table, vLLM 0.11.1 on one H100, Llama-3.1-8B,
#: by max_num_seqs. transformers batches statically, so its figures are expected to be higher.
PUBLISHED = {8: 0.455, 64: 0.119, 128: 0.095, 512: 0.0702}
CV_AIM = 0.005


def campaign(options: argparse.Namespace) -> str:
    return f"""
name: gpu-check
preset: benchmark
model: {{random: {json.dumps(SHAPES[options.shape])}}}
backend: pytorch
engine: {{dtype: {options.dtype}}}
workload: {{dataset: random, random: {{input_len: 128}}, prompts: 512, max_new_tokens: {options.tokens}}}
measure: {{window: "{options.window}", baseline: "{options.baseline}", warmup: {{kind: steady, max: "60s"}}}}
gate: {{kind: cool, max: "120s", gap: "1s"}}
sweep: {{workload.load.batch_size: {options.batches}}}
cycles: {options.cycles}
"""


def run(options: argparse.Namespace, home: Path) -> None:
    """The campaign, through the commands that a person types."""
    file = home / "gpu-check.yaml"
    file.write_text(campaign(options))
    environment = {**os.environ, "LEM_HOME": str(home), "LEM_LOCK_DIR": str(home / "locks")}
    lemctl = [sys.executable, "-c", "import sys; from lemctl.cli.main import main; sys.exit(main())"]
    start = ["campaign", "start", str(file), "--executor", "local", "--prefetch", "--wait"]
    try:
        subprocess.run([*lemctl, *start], env=environment, check=True)
        subprocess.run([*lemctl, "report", "gpu-check"], env=environment, check=True)
    finally:
        subprocess.run([*lemctl, "daemon", "stop"], env=environment, check=False)


def figures(home: Path) -> dict[str, Any]:
    """What the database holds, by batch size."""
    with sqlite3.connect(home / "lem.db") as db:
        rows = db.execute(
            "SELECT json_extract(r.axes, '$.\"workload.load.batch_size\"'), a.id, a.verdict, a.facts FROM attempts a"
            " JOIN runs r ON r.id = a.run_id WHERE a.outcome = 'ok' ORDER BY a.id"
        ).fetchall()
        cells: dict[int, list[dict[str, Any]]] = {}
        for batch, attempt, verdict, facts in rows:
            metrics = dict(db.execute("SELECT name, value FROM metrics WHERE attempt_id = ?", (attempt,)).fetchall())
            cells.setdefault(batch, []).append({**metrics, "verdict": verdict, "gate": json.loads(facts)["gate"]})
        ticks = [
            CounterTick(t_ns, reading["t_before_ns"], reading["energy_mj"])
            for t_ns, reading in (
                (row[0], json.loads(row[1]))
                for row in db.execute("SELECT t_mono_ns, reading FROM samples WHERE series = 'counter' ORDER BY 1")
            )
        ]
    return {"tick_period_s": find_tick_period_s(ticks), "cells": {b: summarised(c) for b, c in sorted(cells.items())}}


def summarised(cell: list[dict[str, Any]]) -> dict[str, Any]:
    energies = [a["energy_per_output_token"] for a in cell if a["energy_per_output_token"] is not None]
    differences = [a["counter_series_difference"] for a in cell if a["counter_series_difference"] is not None]
    starts = [t for a in cell for t in a["gate"]["temps_c"].values() if t is not None]
    mean = statistics.fmean(energies) if energies else None
    return {
        "n": len(cell),
        "j_per_output_token": mean,
        "cv": statistics.stdev(energies) / mean if mean and len(energies) > 1 else None,
        "counter_series_difference": max(differences, key=abs) if differences else None,
        "start_spread_c": max(starts) - min(starts) if starts else None,
        "tokens_per_s": statistics.fmean(a["output_tokens_per_s"] for a in cell),
        "verdicts": sorted({a["verdict"] for a in cell}),
    }


def sampler_cost(gpu: str, seconds: float) -> float:
    """CPU time of the sampler at its full rate, as a share of one core."""
    import psutil

    with SamplerProcess([gpu]) as sampler:
        sampler.set_rate("fast")
        process = psutil.Process(sampler.pid)
        before, began = process.cpu_times(), time.monotonic()
        time.sleep(seconds)
        after, took_s = process.cpu_times(), time.monotonic() - began
    return (after.user + after.system - before.user - before.system) / took_s


def shown(value: float | None, form: str) -> str:
    return "absent" if value is None else format(value, form)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="llama-8b")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--window", default="30s")
    parser.add_argument("--baseline", default="10s")
    parser.add_argument("--sampler-s", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu-check.json")
    options = parser.parse_args()
    try:
        gpus = find_gpus()
    except NvmlUnavailableError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 4
    if not gpus:
        print("gpu-check: this host has no NVIDIA GPU", file=sys.stderr)
        return 4
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder))
        found = figures(Path(folder))
    found |= {"gpu": gpus[0].to_json(), "shape": options.shape, "machine": describe_machine()}
    found["sampler_share_of_core"] = sampler_cost(gpus[0].uuid, options.sampler_s)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{gpus[0].name}, driver {gpus[0].driver}. {describe_machine()}")
    print(f"counter ticks every {shown(found['tick_period_s'], '.4f')} s")
    print(f"sampler: {found['sampler_share_of_core']:.2%} of one core")
    print("batch  n  J/out token  published       CV  counter-integral  start spread  tokens/s  verdicts")
    for batch, cell in found["cells"].items():
        published = PUBLISHED.get(batch) if options.shape == "llama-8b" else None
        print(
            f"{batch:>5} {cell['n']:>2}  {shown(cell['j_per_output_token'], '11.4f')}  {shown(published, '9.4f'):>9}"
            f"  {shown(cell['cv'], '7.2%'):>7}  {shown(cell['counter_series_difference'], '16.2%'):>16}"
            f"  {shown(cell['start_spread_c'], '10.1f'):>10} C  {cell['tokens_per_s']:>8.1f}"
            f"  {', '.join(cell['verdicts'])}"
        )
    print(f"repeatability aimed at: CV at most {CV_AIM:.1%} in one session; written to {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
