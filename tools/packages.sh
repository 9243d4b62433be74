#!/bin/sh
# Install the programs that building and testing need, if any is missing. Needs root and apt only then.
# packages.sh [docker] [podman] [containerd] [cri] [runtime-tools]: and those of these targets, which no build waits for.
set -eu

missing=
targets=$*
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
need gcc gcc
need make make
need git git
need perl perl
need awk mawk
need python3 python3
need busybox busybox-static
need debootstrap debootstrap
need strace strace
need gdb gdb
need ip iproute2
need ping iputils-ping
need pasta passt
need musl-gcc musl-tools
need vim vim
need nano nano
need less less
need nginx nginx-light
need redis-server redis-server
need wrk wrk
need ab apache2-utils
need sqlite3 sqlite3
need pwgen pwgen
need identify imagemagick
need tmux tmux
need curl curl
need openssl openssl
set -- /usr/lib/postgresql/*/bin/initdb
[ -x "$1" ] || missing="$missing postgresql"
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"

for target in $targets; do
    need runc runc
    case $target in
    docker)
        need dockerd docker.io
        need docker-compose docker-compose
        ;;
    podman)
        need podman podman
        need buildah buildah
        need newuidmap uidmap
        need slirp4netns slirp4netns
        [ -x /usr/lib/podman/netavark ] || missing="$missing netavark aardvark-dns"
        [ -x /usr/libexec/podman/catatonit ] || missing="$missing catatonit"
        ;;
    containerd) need containerd containerd ;;
    cri)
        need containerd containerd
        need podman podman
        need go golang-go
        ;;
    runtime-tools)
        need crun crun
        need go golang-go
        ;;
    *)
        echo "packages.sh: no target $target" >&2
        exit 2
        ;;
    esac
done

if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is missing: install Rust from https://rustup.rs" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing:$missing" >&2
    echo "install them as root: apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null >/dev/null
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing </dev/null >/dev/null
