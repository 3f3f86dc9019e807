#!/usr/bin/env bash
# Make .venv with this project and its development tools, as constraints.txt pins them; nothing to do when it is there.
set -euo pipefail

cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/lemctl"
log="$cache/setup.log"

say() { printf 'setup: %s\n' "$*" >&2; }

stamp=".venv/ready-$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-12)"
if [ -e "$stamp" ] && [ -x .venv/bin/lemctl ]; then exit 0; fi

python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { say "Python 3.11 or newer is needed, $python is $("$python" -V 2>&1); name another one with PYTHON=..."; exit 1; }
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    { say "$python lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

mkdir -p "$cache"
say "installing the project into .venv"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' >"$log" 2>&1 ||
    { grep -E 'E(RROR|rror):' "$log" | tail -n 3 >&2; say "pip install failed; all of it is in $log"; exit 1; }
rm -f .venv/ready-*
touch "$stamp"
