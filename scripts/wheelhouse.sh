#!/usr/bin/env bash
# Print a folder with the wheels that a requirements file names, which is to name all of them; fill it first when new.
#
#     scripts/wheelhouse.sh images/pytorch/requirements.cpu.txt [PYTHON_VERSION]
#
# The wheels come from wherever this machine's own pip looks, and if torch's CPU build is not there, from its index.
# The folder lies in the user's cache and is named by the requirements' hash, so that every checkout shares it.
set -euo pipefail

requirements="$1"
here="$(cd "$(dirname "$0")/.." && pwd)"
python="${LEM_PYTHON:-$here/.venv/bin/python}"
[ -x "$python" ] || python=python3
python_version="${2:-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/lemctl"
key="$(cat "$(dirname "$requirements")"/requirements.common.txt "$requirements" | sha256sum | cut -c1-12)"
folder="$cache/wheels/py$python_version-$key"

say() { printf 'wheels: %s\n' "$*" >&2; }

download() {
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version "$python_version" \
        --dest "$partial" -r "$requirements" "$@" >>"$cache/wheels.log" 2>&1
}

mkdir -p "$cache/wheels"
exec 9>"$cache/wheels/.lock"
flock -w 900 9 || { say "another download has held $cache/wheels/.lock for 900 s"; exit 1; }
if [ ! -d "$folder" ]; then
    say "downloading what $(basename "$requirements") names for Python $python_version"
    partial="$(mktemp -d -p "$cache/wheels")"
    trap 'rm -rf "$partial"' EXIT
    download || download --extra-index-url https://download.pytorch.org/whl/cpu ||
        { say "pip download failed; see $cache/wheels.log"; exit 1; }
    mv "$partial" "$folder"
    chmod 755 "$folder"
fi
echo "$folder"
