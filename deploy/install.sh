#!/usr/bin/env bash
# Make mailer a service of this host: Debian 12, or another with systemd and Python 3.11 or newer.
# Needs root. Doing it again is harmless; of another version's sources it makes an upgrade.
#
#   deploy/install.sh                        from this checkout and a package index
#   deploy/install.sh --offline WHEELHOUSE   from what deploy/wheelhouse.sh has collected
#   deploy/install.sh --uninstall [--purge]  settings and mail stay, unless purged
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/release.sh"

main() {
    local wheelhouse='' uninstall='' purge=''
    while [ $# -gt 0 ]; do
        case $1 in
        --offline) wheelhouse=$(realpath "${2:?--offline needs a directory}") && shift ;;
        --uninstall) uninstall=1 ;;
        --purge) purge=--purge ;;
        *) die "unknown argument $1; see the head of $0" ;;
        esac
        shift
    done
    require_root
    if [ -n "$uninstall" ]; then
        uninstall $purge
    else
        [ -z "$purge" ] || die "--purge goes with --uninstall"
        install "$wheelhouse"
    fi
}

install() {
    local current
    [ -d /run/systemd/system ] || die "this host is not run by systemd"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        install_packages python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    current=$(readlink -f "$home/current" || true)
    make_release "$1"
    if [ "$current" != "$release" ] && systemctl is-active --quiet mailer.target; then
        exec "$root/deploy/upgrade.sh" "$(version_of_source "$1")" ${1:+--offline "$1"}
    fi
    switch_to "$release"
    systemctl start mailer.target
    is_healthy || die "mailer does not answer; see: journalctl -u 'mailer-*'"
    say "mailer $(version_of_source "$1") runs; sudo mailer doctor says:"
    mailer doctor || say "mail needs what is named above; the services run"
}

uninstall() {
    if [ -x "$home/current/bin/mailer" ]; then
        "$home/current/bin/mailer" systemd uninstall "$@"
    elif [ $# -gt 0 ]; then # of what was removed before, what had been kept
        rm -rf /etc/mailer /var/lib/mailer /etc/sysusers.d/mailer.conf
        ! id mailer >/dev/null 2>&1 || userdel mailer
    fi
    rm -rf "$home"
}

main "$@"
