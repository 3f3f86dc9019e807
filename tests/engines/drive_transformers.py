"""Drives the pytorch backend through many engines in one process: `python drive_transformers.py CASES.json`.

Each case is {engine, sampling, batch, lengths}; for each, a JSON line with the tokens, what is in force, and the error.
It imports torch once, where a runner process for each case would import it forty times.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lem_runner.backends import Decoding, pytorch
from lem_runner.failures import failure_of
from lem_runner.prompts import Prompt
from lem_runner.protocol import MeasureSpec, ModelRef, RunSpec, WorkloadSpec

NEW_TOKENS = 12


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """Load, admit, generate, close."""
    engine = pytorch.open()
    work = WorkloadSpec("", "", 1, NEW_TOKENS, "fixed", "offline")
    prompts = [
        Prompt(index, None, [3 + (index * 31 + place * 7) % 200 for place in range(length)], "")
        for index, length in enumerate(case["lengths"])
    ]
    decoding = Decoding(NEW_TOKENS, "fixed", case["sampling"])
    try:
        engine.load(RunSpec("pytorch", "key", ModelRef(**case["model"]), case["engine"], {}, work, MeasureSpec()))
        engine.admit(prompts, decoding)
        made = []
        for start in range(0, len(prompts), case["batch"]):
            made += engine.generate(prompts[start : start + case["batch"]], decoding, 0)
        return {
            "tokens": [one.tokens for one in made],
            "token_ns": [one.token_ns for one in made],
            "effective": engine.effective(),
            "memory": engine.memory(),
            "own_memory": engine._memory(),
        }
    except BaseException as error:  # noqa: BLE001 - told, as the runner would
        return {"error": failure_of(error, is_loading=True).to_json()}
    finally:
        engine.close()


if __name__ == "__main__":
    for one in json.loads(Path(sys.argv[1]).read_text()):
        print("RESULT " + json.dumps(run_case(one), default=str), flush=True)
