#!/usr/bin/env bash
# Print how engines run on this machine, `docker` or `local`, and make sure that they can.
#
#     scripts/engine.sh [BACKEND...]      without one: pytorch
#
# ENGINE=docker or ENGINE=local decides; without it Docker is taken wherever an engine runs, can be started or can be
# installed.
set -euo pipefail

cd "$(dirname "$0")/.."
choice="${ENGINE:-auto}"
backends=("${@:-pytorch}")
case "$choice" in
    auto | docker | local) ;;
    *) echo "engine: ENGINE is '$choice'; it may be docker or local" >&2; exit 2 ;;
esac

if [ "$choice" != local ]; then
    code=0
    scripts/docker-engine.sh || code=$?
    if [ "$code" = 0 ]; then
        for backend in "${backends[@]}"; do scripts/engine-image.sh "$backend"; done
        echo docker
        exit 0
    fi
    # 3 is "no engine here", which is no fault.
    if [ "$choice" = docker ] || [ "$code" != 3 ]; then exit "$code"; fi
    echo "engine: no Docker here; engines run as child processes of lemctl (ENGINE=local)" >&2
fi
for backend in "${backends[@]}"; do scripts/engine-venv.sh "$backend"; done
echo local
