#!/usr/bin/env bash
# Build the image of the pytorch service, unless the one in the engine's store was built from the same files.
#
#     [LEM_IMAGE_PYTORCH=NAME] scripts/pytorch-image.sh
#
# Where the public base image can be pulled, the Dockerfile's own defaults are used. Where it cannot, this machine's
# builds reach no public index either: then the base image is made here and the wheels are handed over in an image.
set -euo pipefail

cd "$(dirname "$0")/.."
export LEM_IMAGE_PYTORCH="${LEM_IMAGE_PYTORCH:-lemctl/pytorch:cpu}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/lemctl"
log="$cache/pytorch-image.log"

say() { printf 'pytorch image: %s\n' "$*" >&2; }
built_from() { docker image inspect --format '{{index .Config.Labels "lemctl.inputs"}}' "$LEM_IMAGE_PYTORCH" 2>/dev/null; }

LEM_BUILD_INPUTS="$(cat images/pytorch/Dockerfile images/pytorch/requirements.*.txt | sha256sum | cut -c1-12)"
export LEM_BUILD_INPUTS
if [ "$(built_from)" = "$LEM_BUILD_INPUTS" ]; then
    say "$LEM_IMAGE_PYTORCH is up to date"
    exit 0
fi

mkdir -p "$cache"
BASE_IMAGE="$(scripts/base-image.sh)"
export BASE_IMAGE
case "$BASE_IMAGE" in
    lemctl-local/*)
        wheels="$(scripts/wheelhouse.sh images/pytorch/requirements.cpu.txt 3.11)"
        WHEELS_IMAGE="lemctl-local/wheels:$(basename "$wheels")"
        docker image inspect "$WHEELS_IMAGE" >/dev/null 2>&1 || tar -C "$wheels" -c . | docker import - "$WHEELS_IMAGE" >/dev/null
        export WHEELS_IMAGE PIP_OPTS=--no-index
        ;;
esac
say "building $LEM_IMAGE_PYTORCH on $BASE_IMAGE"
docker compose --progress plain -f images/pytorch/build.yaml build >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; say "the build failed; all of it is in $log"; exit 1; }
