#!/usr/bin/env bash
# Write constraints.txt anew: the newest versions that pyproject.toml admits, as a fresh environment resolves them.
set -euo pipefail

cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -e '.[dev]'
{
    sed -n '/^#/p' constraints.txt
    # setuptools and pip belong to the interpreter that made the environment.
    "$work/venv/bin/pip" freeze --exclude-editable --exclude pip --exclude setuptools
} >"$work/constraints.txt"
if grep -qi '^torch==' "$work/constraints.txt"; then
    echo "lock: torch does not belong into the host's environment; see pyproject.toml" >&2
    exit 1
fi
mv "$work/constraints.txt" constraints.txt
