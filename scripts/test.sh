#!/usr/bin/env bash
# Every test, with everything they need: a real Docker engine, the images, the engines' interpreters, a real small model.
#
# Without a Docker engine the tests that need one are left out, in so many words; in CI (CI=true) that is a failure.
# So it is with Chromium, which the tests of the HTML report drive, and with the tools that tests/needed.py lists.
set -euo pipefail

cd "$(dirname "$0")/.."
export LEM_TEST_MODELS="$PWD/.cache/test-models"
export LEM_PYTHON_PYTORCH="${LEM_PYTHON_PYTORCH:-$PWD/.venv-pytorch/bin/python}"
export LEM_IMAGE_PYTORCH="${LEM_IMAGE_PYTORCH:-lemctl/pytorch:cpu}"
export LEM_PYTHON_VLLM="${LEM_PYTHON_VLLM:-$PWD/.venv-vllm/bin/python}"
export LEM_IMAGE_VLLM="${LEM_IMAGE_VLLM:-lemctl/vllm:cpu}"

scripts/engine-venv.sh pytorch
scripts/engine-venv.sh vllm
code=0
scripts/docker-engine.sh || code=$?
selection=()
if [ "$code" = 0 ]; then
    scripts/engine-image.sh pytorch
    scripts/engine-image.sh vllm
    LEM_IMAGE_REPLAY="$(scripts/base-image.sh)"
    export LEM_IMAGE_REPLAY LEM_TEST_NEEDS_DOCKER=1
elif [ "$code" = 3 ] && [ "${CI:-}" != true ]; then
    echo "test: no Docker engine here: the tests marked docker are left out" >&2
    selection=(-m "not docker")
else
    exit "$code"
fi
if browser="$(scripts/chromium.sh)"; then
    export LEM_CHROMIUM="$browser" LEM_TEST_NEEDS_BROWSER=1
elif [ "${CI:-}" = true ]; then
    exit 3
fi
.venv/bin/python scripts/fetch_demo_model.py "$LEM_TEST_MODELS" --python "$LEM_PYTHON_PYTORCH"

if [ "$#" -gt 0 ]; then
    .venv/bin/python -m pytest "${selection[@]}" "$@"
    exit
fi
# In three parts, each with more of the machine to itself than the one before. First what needs neither an engine nor
# long. Then what computes in engines, one after another, and beside it what waits for containers, limits and starts
# (tests/conftest.py tells them apart). Last what hangs on little time.
fast="not docker and not engine and not gpu and not slow and not alone"
.venv/bin/python -m pytest -n 3 --dist worksteal -m "$fast"
.venv/bin/python -m pytest -n 2 --dist loadfile -m "not ($fast) and not (gpu or alone)${selection:+ and ${selection[1]}}"
.venv/bin/python -m pytest -m "(gpu or alone)${selection:+ and ${selection[1]}}"
