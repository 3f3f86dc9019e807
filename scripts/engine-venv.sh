#!/usr/bin/env bash
# Make .venv-BACKEND, the interpreter in which the local executor runs that engine (no Docker needed).
#
#     scripts/engine-venv.sh BACKEND
#
# The environment itself lies in the user's cache, named by its requirements' hash, and .venv-BACKEND links to it: a
# second checkout costs nothing.
set -euo pipefail

cd "$(dirname "$0")/.."
backend="${1:?which backend}"
requirements="images/$backend/requirements.cpu.txt"
python="${LEM_PYTHON:-.venv/bin/python}"
[ -x "$python" ] || python=python3
cache="${XDG_CACHE_HOME:-$HOME/.cache}/lemctl"

say() { printf '%s venv: %s\n' "$backend" "$*" >&2; }

version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
key="$(cat "images/$backend/requirements.common.txt" "$requirements" | sha256sum | cut -c1-12)"
venv="$cache/venvs/$backend-py$version-$key"

mkdir -p "$cache/venvs"
exec 9>"$cache/venvs/.lock"
flock -w 900 9 || { say "another installation has held $cache/venvs/.lock for 900 s"; exit 1; }
# The stamp is written last: a venv without it is what an interrupted installation left.
if [ ! -e "$venv/complete" ] || [ ! -x "$venv/bin/python" ]; then
    wheels="$(scripts/wheelhouse.sh "$requirements" "$version")"
    say "installing the $backend engine into $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-index --no-deps --find-links "$wheels" -r "$requirements" \
        >"$cache/$backend-venv.log" 2>&1 || { say "pip install failed; see $cache/$backend-venv.log"; exit 1; }
    touch "$venv/complete"
fi
ln -sfn "$venv" ".venv-$backend"
