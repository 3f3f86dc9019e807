#!/usr/bin/env bash
# Build the image of an engine's service, unless the one in the store was built from the same files.
#
#     [LEM_IMAGE_BACKEND=NAME] scripts/engine-image.sh BACKEND
#
# Where the public base image can be pulled, the Dockerfile's own defaults are used. Where it cannot, this machine's
# builds reach no public index either: then the base image is made here and the wheels are handed over in an image.
set -euo pipefail

cd "$(dirname "$0")/.."
backend="${1:?which backend}"
folder="images/$backend"
variable="LEM_IMAGE_${backend^^}"
image="${!variable:-lemctl/$backend:cpu}"
export "$variable=$image"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/lemctl"
log="$cache/$backend-image.log"

say() { printf '%s image: %s\n' "$backend" "$*" >&2; }
built_from() { docker image inspect --format '{{index .Config.Labels "lemctl.inputs"}}' "$image" 2>/dev/null; }

LEM_BUILD_INPUTS="$(cat "$folder/Dockerfile" "$folder"/requirements.*.txt | sha256sum | cut -c1-12)"
export LEM_BUILD_INPUTS
if [ "$(built_from)" = "$LEM_BUILD_INPUTS" ]; then
    say "$image is up to date"
    exit 0
fi

mkdir -p "$cache"
BASE_IMAGE="$(scripts/base-image.sh)"
export BASE_IMAGE
case "$BASE_IMAGE" in
    lemctl-local/*)
        wheels="$(scripts/wheelhouse.sh "$folder/requirements.cpu.txt" 3.11)"
        WHEELS_IMAGE="lemctl-local/wheels:$(basename "$wheels")"
        docker image inspect "$WHEELS_IMAGE" >/dev/null 2>&1 || tar -C "$wheels" -c . | docker import - "$WHEELS_IMAGE" >/dev/null
        export WHEELS_IMAGE PIP_OPTS=--no-index
        ;;
esac
say "building $image on $BASE_IMAGE"
docker compose --progress plain -f "$folder/build.yaml" build >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; say "the build failed; all of it is in $log"; exit 1; }
