"""A prefetch that makes no progress is ended, and its container with it: the end of a client alone ends none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lemctl.engines import prefetch as prefetching
from lemctl.engines.backends import BACKENDS
from lemctl.engines.containers import Containers
from lemctl.engines.fetching import FetchLimits, run_job
from lemctl.settings import load_settings
from lemctl.steps import Step

pytestmark = pytest.mark.docker

STEP = "dict(step='model', done=1, total=2, message='x')"
STALLS = f"import json, time; print(json.dumps({STEP}), flush=True); time.sleep(600)"


def test_a_prefetch_that_stalls_in_its_container_leaves_no_container(
    engine: Containers, small_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEM_IMAGE_PYTORCH", small_image)
    stand_in = replace(BACKENDS["pytorch"], interpreter="/usr/local/bin/python")
    monkeypatch.setitem(BACKENDS, "pytorch", stand_in)
    settings = load_settings(home=tmp_path / "home")
    settings.paths.create()
    settings.models.mkdir()
    command, environment, remove = prefetching._container_command(["-c", STALLS], settings, [])
    steps: list[Step] = []
    here: list[int] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        here.append(len(engine.leftovers(settings.paths.hash)))

    (line,) = run_job(command, environment, on_step, FetchLimits(120.0, 20.0), remove)
    assert "no progress for 20 s (model: x, 1 of 2)" in line
    assert [step.done for step in steps] == [1]
    assert here == [1]
    assert engine.leftovers(settings.paths.hash) == []
