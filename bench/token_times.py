"""What the times of tokens cost: `generate` with the pytorch backend's clock and without, in one process.

A random Llama of about 20 M parameters on one thread, batches of 4, 64 new tokens. Calls in ABBA order; the cost is the
paired log-ratio of their durations. Beside it, the clock's own time for a step: what it adds to a step of any model,
apart from the copy of the step's tokens to the host, which `generate` waits for anyway to see whether to stop.

    python bench/token_times.py [--pairs 40] [--out bench/results/token_times.md]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
from pathlib import Path

from machine import describe_machine

from lemctl.judge.statistics import t_interval

CHECKOUT = Path(__file__).parents[1]
CEILING_S = 1800.0
LIMIT = 0.01
SCRIPT = """
import json, sys, time
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from lem_runner.backends.pytorch import StepClock
torch.set_num_threads(1)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(hidden_size=512, intermediate_size=1376, num_hidden_layers=6,
    num_attention_heads=8, num_key_value_heads=4, vocab_size=4096)).eval()
ids = torch.randint(3, 4000, (4, 32))
config = GenerationConfig(max_new_tokens=64, min_new_tokens=64, do_sample=False, pad_token_id=0)
def seconds(clock):
    begin = time.perf_counter()
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config, streamer=clock)
    return time.perf_counter() - begin
seconds(None)
pairs = []
for number in range(int(sys.argv[1])):
    with_clock = lambda: seconds(StepClock(4))
    if number % 2:
        bare, timed = seconds(None), with_clock()
    else:
        timed, bare = with_clock(), seconds(None)
    pairs.append((bare, timed))
clock, tokens, puts = StepClock(4), torch.zeros(4, dtype=torch.long), 20000
begin = time.perf_counter()
for _ in range(puts):
    clock.put(tokens)
print(json.dumps({"pairs": pairs, "put_s": (time.perf_counter() - begin) / puts}))
"""


def measure(pairs: int) -> tuple[list[tuple[float, float]], float]:
    """(seconds without the clock, seconds with it) by pair, and seconds of one call of the clock."""
    python = os.environ.get("LEM_PYTHON_PYTORCH") or str(CHECKOUT / ".venv-pytorch" / "bin" / "python")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "runner"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", SCRIPT, str(pairs)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=CEILING_S,
    )
    body = json.loads(done.stdout.splitlines()[-1])
    return [(bare, timed) for bare, timed in body["pairs"]], float(body["put_s"])


def report(pairs: list[tuple[float, float]], put_s: float) -> tuple[str, bool]:
    """The figures as a page, and whether it failed."""
    found = t_interval([math.log(timed / bare) for bare, timed in pairs])
    assert found is not None, "at least two pairs are needed"
    low, high = found.low, found.high
    verdict = "passed" if high <= LIMIT else "failed" if low > LIMIT else "not resolved"
    rows = [
        ("pairs, in ABBA order", f"{len(pairs)}"),
        ("cost of the times, 95 % interval", f"{low:.2%} to {high:.2%} of the duration"),
        ("the clock's own time for a step", f"{put_s * 1e6:.1f} µs"),
    ]
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows)
    text = (
        f"# What the times of tokens cost\n\n{describe_machine()}\n\ntransformers `generate`, a random Llama of about "
        "20 M parameters, float32, one thread, batches of 4, 64 new tokens.\n\n"
        f"| figure | value |\n|---|---|\n{lines}\n\n"
        f"Limit: at most {LIMIT:.0%} of the duration: {verdict}.\n"
    )
    return text, verdict == "failed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "bench" / "results" / "token_times.md")
    asked = parser.parse_args()
    text, is_failed = report(*measure(asked.pairs))
    asked.out.write_text(text)
    print(text)
    return 1 if is_failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
