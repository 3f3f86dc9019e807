#!/usr/bin/env bash
# From a fresh machine to measured figures: an engine, a real small model, one campaign, its report.
set -euo pipefail

cd "$(dirname "$0")/.."
export LEM_HOME="${LEM_HOME:-$PWD/.cache/demo-home}"
export LEM_IMAGE_PYTORCH="${LEM_IMAGE_PYTORCH:-lemctl/pytorch:cpu}"
export LEM_PYTHON_PYTORCH="${LEM_PYTHON_PYTORCH:-$PWD/.venv-pytorch/bin/python}"
lemctl=.venv/bin/lemctl

LEM_EXECUTOR="$(scripts/engine.sh)"
export LEM_EXECUTOR
case "$LEM_EXECUTOR" in
    docker) converter=(--image "$LEM_IMAGE_PYTORCH") ;;
    local) converter=(--python "$LEM_PYTHON_PYTORCH") ;;
esac

mkdir -p "$LEM_HOME"
chmod 700 "$LEM_HOME"
.venv/bin/python scripts/fetch_demo_model.py "${LEM_MODELS_DIR:-$LEM_HOME/models}" "${converter[@]}"

# The campaign's daemon would wait for the next one.
trap '"$lemctl" daemon stop >/dev/null 2>&1 || true' EXIT
"$lemctl" images prefetch campaigns/demo.yaml
"$lemctl" campaign start campaigns/demo.yaml --wait
"$lemctl" report demo
echo
echo "The figures, samples and logs: $LEM_HOME/lem.db"
