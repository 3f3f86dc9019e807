#!/usr/bin/env bash
# Make sure that a Docker engine with Compose v2 answers on this machine.
#
# In this order: use the engine that runs; start the one that is installed; as root on Debian or Ubuntu, say so and
# install the distribution's own. An engine that DOCKER_HOST or a Docker context names is used or refused, never started.
#
# Exit codes: 0 an engine answers; 3 there is none and none can be had here (one line says why); 1 it failed to start.
set -euo pipefail

readonly NO_ENGINE=3
readonly START_TIMEOUT_S=30
cache="${XDG_CACHE_HOME:-$HOME/.cache}/lemctl"
log="$cache/dockerd.log"
apt_private=""
trap '[ -z "$apt_private" ] || rm -rf "$apt_private"' EXIT

say() { printf 'docker: %s\n' "$*" >&2; }
none() { say "$*"; exit "$NO_ENGINE"; }

engine_version() { timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null; }
compose_version() { timeout 10 docker compose version --short 2>/dev/null; }
has_compose() { [[ "$(compose_version)" =~ ^v?([2-9]|[1-9][0-9]+)\. ]]; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# The version apt would install, or nothing.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *//p' | grep -v '(none)' || true; }

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$cache/apt.log" 2>&1 ||
        { say "apt-get install $* failed; see $cache/apt.log"; exit 1; }
}

install_engine() {
    [ -n "$(candidate docker.io)" ] || apt-get update -qq >>"$cache/apt.log" 2>&1 || true
    [ -n "$(candidate docker.io)" ] || none "apt-get offers no docker.io package"
    say "no engine is installed: installing the distribution's own (docker.io, iptables) with apt-get"
    local packages=(docker.io iptables)
    # From Debian 13 on the client is a package of its own.
    if [ -n "$(candidate docker-cli)" ] && ! command -v docker >/dev/null; then packages+=(docker-cli); fi
    apt_install "${packages[@]}"
}

install_compose() {
    local package
    [ -n "$(candidate docker.io)" ] || apt-get update -qq >>"$cache/apt.log" 2>&1 || true
    for package in docker-compose-v2 docker-compose-plugin docker-compose; do
        case "$(candidate "$package")" in
            "" | 1.*) ;;
            *) say "installing $package with apt-get"; apt_install "$package"; return ;;
        esac
    done
    install_compose_from_next_debian
}

# Debian 12 has Compose v1 only; the package of Debian 13 needs nothing newer than Debian 12's libc. Only that one
# package is taken, with lists and cache of its own, so that the machine's apt state stays as it is.
install_compose_from_next_debian() {
    grep -q '^VERSION_CODENAME=bookworm' /etc/os-release || none "Compose v2 is missing; install the Docker Compose plugin"
    local mirror
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Release: bookworm' | sed -n 1p || true)"
    [ -n "$mirror" ] || none "Compose v2 is missing and apt-get knows no Debian mirror to take it from"
    say "Debian 12 has no Compose v2: installing the docker-compose package of Debian 13"
    apt_private="$(mktemp -d)"
    chmod 755 "$apt_private"
    mkdir -p "$apt_private/lists/partial" "$apt_private/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt_private/sources.list"
    local options=(
        -qq -o "Dir::Etc::sourcelist=$apt_private/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$apt_private/lists" -o "Dir::Cache=$apt_private/cache" -o APT::Sandbox::User=root
    )
    {
        apt-get "${options[@]}" update && (cd "$apt_private" && apt-get "${options[@]}" download docker-compose) &&
            dpkg -i "$apt_private"/docker-compose_2*.deb
    } >>"$cache/apt.log" 2>&1 || { say "installing Compose v2 failed; see $cache/apt.log"; exit 1; }
}

# A killed engine leaves its pid file, and dockerd refuses to start on it when the number is in use again.
remove_stale_pidfile() {
    local pidfile=/var/run/docker.pid
    [ -f "$pidfile" ] || return 0
    local pid deadline=$((SECONDS + 5))
    pid="$(cat "$pidfile")"
    # A dockerd killed a moment ago is a zombie until it is reaped.
    while [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; do
        if ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; then return 0; fi
        if [ "$SECONDS" -ge "$deadline" ]; then break; fi
        sleep 0.2
    done
    rm -f "$pidfile"
}

start_engine() {
    command -v dockerd >/dev/null || return 1
    [ "$(id -u)" = 0 ] || none "the installed engine does not answer and starting it needs root"
    if [ -d /run/systemd/system ]; then
        say "starting the installed engine with systemctl"
        systemctl start docker || { say "systemctl start docker failed; see journalctl -u docker"; exit 1; }
    else
        say "starting the installed engine; its log is $log"
        remove_stale_pidfile
        # 9 is the lock below: the engine must not keep it.
        setsid nohup dockerd --live-restore >>"$log" 2>&1 </dev/null 9>&- &
    fi
    local deadline=$((SECONDS + START_TIMEOUT_S))
    until engine_version >/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            say "the engine did not answer within $START_TIMEOUT_S s; the end of its log:"
            tail -n 5 "$log" >&2 || true
            exit 1
        fi
        sleep 0.2
    done
}

mkdir -p "$cache"
exec 9>"$cache/docker-engine.lock"
flock -w 300 9 || { say "another start of the engine has held $cache/docker-engine.lock for 300 s"; exit 1; }

if ! engine_version >/dev/null; then
    if [ -n "${DOCKER_HOST:-}${DOCKER_CONTEXT:-}" ]; then
        none "the engine that DOCKER_HOST or DOCKER_CONTEXT names does not answer"
    fi
    if ! command -v dockerd >/dev/null; then
        can_install || none "no engine is installed (installing one needs root on Debian or Ubuntu)"
        install_engine
    fi
    start_engine
fi
if ! has_compose; then
    can_install || none "Compose v2 is missing; install the Docker Compose plugin"
    install_compose
    has_compose || { say "Compose v2 was installed and docker does not find it"; exit 1; }
fi
say "engine $(engine_version), compose $(compose_version)"
