#!/usr/bin/env bash
# From a fresh machine to measured figures: the engines, a real small model, one ready campaign, its report.
#
#     scripts/measure.sh CAMPAIGN BACKEND...
set -euo pipefail

cd "$(dirname "$0")/.."
campaign="${1:?which campaign}"
backends=("${@:2}")
export LEM_HOME="${LEM_HOME:-$PWD/.cache/$campaign-home}"
for backend in "${backends[@]}"; do
    image="LEM_IMAGE_${backend^^}" python="LEM_PYTHON_${backend^^}"
    export "$image=${!image:-lemctl/$backend:cpu}" "$python=${!python:-$PWD/.venv-$backend/bin/python}"
done
lemctl=.venv/bin/lemctl

LEM_EXECUTOR="$(scripts/engine.sh "${backends[@]}")"
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
"$lemctl" images prefetch "campaigns/$campaign.yaml"
"$lemctl" campaign start "campaigns/$campaign.yaml" --wait
"$lemctl" report "$campaign"
if [ "${#backends[@]}" -gt 1 ]; then
    echo
    "$lemctl" report "$campaign" --json | .venv/bin/python scripts/same_work.py
fi
echo
echo "The figures, samples and logs: $LEM_HOME/lem.db"
