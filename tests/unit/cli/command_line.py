"""What tests of the command line share: what a command said, and a small campaign file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Lemctl = Callable[..., Said]

#: Four short runs on the replay engine, with a model of random weights.
PLAN = """
name: night
preset: quick-test
model: {random: {model_type: llama, vocab_size: 512, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4}}
backend: replay
workload: {dataset: random, random: {input_len: 16}, prompts: 8, max_new_tokens: 16}
sweep: {workload.load.batch_size: [1, 4]}
cycles: 2
"""
