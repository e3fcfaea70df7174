# shellcheck shell=bash
# Sourced by the scripts here: a Python environment of the checkout's own, in .venv/.
#
#   root            the checkout
#   python          its interpreter, once `install_python_environment` has run
#   install_packages NAME…              Debian packages, by apt-get if root, else named
#   install_python_environment [EXTRA]  mailer, editable, with the extra's dependencies
#   install_promtool                Prometheus's own check of its rules, into .venv/bin
#
# What is installed already is left alone, so that a second run needs no network.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
PATH=$PATH:/usr/sbin:/sbin

die() {
    printf 'Error: %s\n' "$*" >&2
    exit 1
}

install_packages() {
    command -v dpkg-query >/dev/null || die "not a Debian system; install what these bring: $*"
    local name missing=()
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local command="apt-get install -y --no-install-recommends ${missing[*]}"
    [ "$(id -u)" = 0 ] || die "missing packages; run: sudo $command"
    echo "installing ${missing[*]}" >&2
    apt-get update -qq >&2
    # postfix would ask for its kind of site, and start: the tests run one of their own.
    [[ " ${missing[*]} " != *" postfix "* ]] ||
        echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    DEBIAN_FRONTEND=noninteractive $command >&2 || die "apt-get failed; run: $command"
}

install_python_environment() {
    local extra=${1:-} wanted
    command -v python3 >/dev/null || install_packages python3
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed; $(command -v python3) is $(python3 -V)"
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    wanted=$(cat "$root/setup.cfg" "$root/pyproject.toml"; echo "$root $(python3 -V)")
    if [ ! -x "$python" ] || ! "$python" -c '' 2>/dev/null; then
        python3 -m venv --clear "$root/.venv"
    fi
    if [ "$(cat "$root/.venv/installed-$extra" 2>/dev/null)" != "$wanted" ]; then
        echo "installing mailer${extra:+ and what its tests need} into $root/.venv" >&2
        "$python" -m pip install --quiet --disable-pip-version-check \
            --editable "$root${extra:+[$extra]}" >&2 ||
            die "pip could not install; the first run needs a package index"
        echo "$wanted" >"$root/.venv/installed-$extra"
    fi
}

install_promtool() { # alone: with its package a Prometheus would be started
    local tool=$root/.venv/bin/promtool scratch
    [ ! -x "$tool" ] || return 0
    echo "fetching promtool from Debian's prometheus" >&2
    scratch=$(mktemp -d)
    (
        cd "$scratch"
        apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }
    ) >&2 || die "the package prometheus could not be fetched by apt-get download"
    dpkg-deb --fsys-tarfile "$scratch"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$tool"
    chmod +x "$tool"
    rm -r "$scratch"
}
