#!/usr/bin/env bash
# Print the base image that the engine images are built on: the public one where it can be pulled, else a local one of
# the same distribution and Python, made from Debian packages (needs root and mmdebstrap).
#
# Exit codes: 0 the image printed is in the engine's store; 1 there is none (one line says why).
set -euo pipefail

readonly PUBLIC=python:3.11-slim-bookworm
readonly LOCAL=lemctl-local/base:bookworm
readonly PULL_TIMEOUT_S=60
cache="${XDG_CACHE_HOME:-$HOME/.cache}/lemctl"
work=""
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

say() { printf 'base image: %s\n' "$*" >&2; }
in_store() { docker image inspect "$1" >/dev/null 2>&1; }
found() { echo "$1"; exit 0; }

install_mmdebstrap() {
    command -v mmdebstrap >/dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "$PUBLIC cannot be pulled, and making a base image needs root on Debian or Ubuntu"
        exit 1
    fi
    say "installing mmdebstrap with apt-get"
    {
        apt-cache policy mmdebstrap | grep -q 'Candidate: [0-9]' || apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring
    } >>"$cache/apt.log" 2>&1 || { say "apt-get install mmdebstrap failed; see $cache/apt.log"; exit 1; }
}

# Unpacking a system in memory takes a third of the time.
scratch_folder() {
    local free_kib
    free_kib="$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)"
    if [ "${free_kib:-0}" -gt 2000000 ]; then echo /dev/shm; else echo "${TMPDIR:-/tmp}"; fi
}

make_local() {
    say "$PUBLIC cannot be pulled here: making $LOCAL from Debian packages"
    install_mmdebstrap
    local options=() mirror
    work="$(mktemp -d -p "$(scratch_folder)")"
    # Root's temporary folder is 0700, which the unprivileged part of mmdebstrap cannot enter.
    chmod 755 "$work"
    # The mirror that this machine uses itself, when it runs the same release.
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Release: bookworm' 2>/dev/null | sed -n 1p || true)"
    # The certificates that this machine trusts: behind a proxy, builds need them too.
    if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
        options+=(--customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs')
    fi
    TMPDIR="$work" mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
        --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        "${options[@]}" --format=tar bookworm "$work/base.tar" ${mirror:+"$mirror"} >"$cache/base-image.log" 2>&1 ||
        { say "mmdebstrap failed; see $cache/base-image.log"; exit 1; }
    docker import --change 'CMD ["sleep", "infinity"]' "$work/base.tar" "$LOCAL" >/dev/null
}

mkdir -p "$cache"
if in_store "$PUBLIC"; then found "$PUBLIC"; fi
if in_store "$LOCAL"; then found "$LOCAL"; fi
if timeout "$PULL_TIMEOUT_S" docker pull -q "$PUBLIC" >/dev/null 2>"$cache/base-image.log"; then found "$PUBLIC"; fi
make_local
found "$LOCAL"
