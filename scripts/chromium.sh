#!/usr/bin/env bash
# Prints the path of a Chromium for the tests of the HTML report; installs Debian's as root where there is none.
#
# Exits 3 where there is none and it may not be installed here.
set -euo pipefail

find_browser() {
    for name in "${LEM_CHROMIUM:-}" chromium chromium-browser google-chrome; do
        [ -n "$name" ] && command -v "$name" && return 0
    done
    return 1
}

find_browser && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "chromium: not installed; as root: apt-get install chromium" >&2
    exit 3
fi
apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends chromium >&2
find_browser
