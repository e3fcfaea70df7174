# shellcheck shell=bash
# Sourced by install.sh and upgrade.sh: releases of mailer, each a virtual environment of its own.
#
#   /opt/mailer/releases/VERSION-DIGEST    what the digest is of: the sources and their requirements
#   /opt/mailer/current                    a link to the one that runs
#
#   make_release [WHEELHOUSE]     build what is not there yet; sets `release`
#   version_of_source [WHEELHOUSE]
#   switch_to RELEASE             make it the current one, in one step; units included
#   as_service COMMAND…           a command as the services would run it
#   is_healthy                    whether the services come to run and answer
#   forget_releases KEPT…         remove the others

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

home=/opt/mailer
HEALTHY_WITHIN_S=30

as_service() {
    systemd-run --quiet --collect --wait --pipe --unit="mailer-command-$$-$RANDOM" -- "$@"
}

mailer() { /usr/local/sbin/mailer "$@"; }

say() { printf '%s\n' "$*"; }

require_root() {
    [ "$(id -u)" = 0 ] || die "this needs root, as it makes services of the host: sudo $0"
    umask 022
}

mailer_wheel() {
    local wheels=("$1"/mailer-*.whl)
    [ ${#wheels[@]} = 1 ] && [ -f "${wheels[0]}" ] && [ -f "$1/requirements.txt" ] ||
        die "$1 is no wheelhouse; deploy/wheelhouse.sh makes one"
    echo "${wheels[0]}"
}

version_of_source() {
    if [ -n "${1:-}" ]; then
        basename "$(mailer_wheel "$1")" | cut -d- -f2
    else
        sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/mailer/__init__.py"
    fi
}

digest_of_source() {
    if [ -n "${1:-}" ]; then
        cat "$(mailer_wheel "$1")" "$1/requirements.txt"
    else
        (cd "$root" && find mailer plugins systemd setup.cfg pyproject.toml deploy/requirements.txt \
            -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    fi | sha256sum | cut -c1-8
}

make_release() {
    local wheelhouse=${1:-} name pip sources requirements=$root/deploy/requirements.txt
    name=$(version_of_source "$wheelhouse")-$(digest_of_source "$wheelhouse")
    release=$home/releases/$name
    [ ! -e "$release/complete" ] || return 0
    say "installing $name into $release"
    mkdir -p "$home/releases"
    rm -rf "$release"
    python3 -m venv "$release"
    pip=("$release/bin/python" -m pip --quiet --no-input --disable-pip-version-check install)
    if [ -n "$wheelhouse" ]; then
        pip+=(--no-index --find-links "$wheelhouse")
        requirements=$wheelhouse/requirements.txt
    fi
    "${pip[@]}" --require-hashes --only-binary :all: -r "$requirements" ||
        die "pip could not install; without a package index use --offline with a wheelhouse"
    if [ -n "$wheelhouse" ]; then
        "${pip[@]}" --no-deps "$(mailer_wheel "$wheelhouse")"
    else
        sources=$(mktemp -d)
        copy_sources "$sources"
        "${pip[@]}" --no-deps --no-build-isolation "$sources"
        rm -rf "$sources"
    fi
    touch "$release/complete"
}

copy_sources() { # setuptools writes beside what it builds
    (cd "$root" && cp -r mailer plugins systemd setup.cfg pyproject.toml README.md LICENSE "$1")
}

switch_to() { # told by its status, as callers go back when it fails
    ln -sfn "releases/$(basename "$1")" "$home/current.new" &&
        mv -T "$home/current.new" "$home/current" &&
        "$1/bin/mailer" systemd install --prefix "$home/current"
}

is_healthy() {
    local end=$((SECONDS + HEALTHY_WITHIN_S))
    until systemctl is-active --quiet mailer-api.service mailer-supervisor.service && answers; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

answers() { # [ADDRESS:PORT]: the API there, or where the socket unit has it, says that it can serve
    local address=${1:-$(systemctl show --value -p Listen mailer-api.socket | sed 's/ .*//')}
    address=${address/#0.0.0.0:/127.0.0.1:}
    python3 - "http://${address/#\[::\]:/[::1]:}/ready" 2>/dev/null <<'EOF'
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=10).read()
EOF
}

forget_releases() {
    local old
    for old in "$home"/releases/*; do
        [[ " $* " == *" $old "* ]] || rm -rf "$old"
    done
}
