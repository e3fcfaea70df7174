#!/usr/bin/env bash
# Go from the version that runs to another, under load: no call is refused, no mail lost or sent
# twice. When the new one does not come up, the old one is back before this ends (exit status 1).
#
#   deploy/upgrade.sh VERSION                        from this checkout, which must have that version
#   deploy/upgrade.sh VERSION --offline WHEELHOUSE   from what deploy/wheelhouse.sh has collected
#
# The old processes run on while the database is migrated: between two releases migrations only
# add. It is backed up before, into /var/lib/mailer/backups. Needs root.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/release.sh"

RESTARTED_WITHIN_S=60
HEALTHY_FOR_S=5

main() {
    local version=${1:?usage: deploy/upgrade.sh VERSION [--offline WHEELHOUSE]} wheelhouse='' old
    if [ "${2:-}" = --offline ]; then
        wheelhouse=$(realpath "${3:?--offline needs a directory}")
    fi
    require_root
    [ "$(version_of_source "$wheelhouse")" = "$version" ] ||
        die "${wheelhouse:-$root} has mailer $(version_of_source "$wheelhouse"), not $version"
    old=$(readlink -e "$home/current") || die "mailer is not installed; use deploy/install.sh"
    make_release "$wheelhouse"
    [ "$old" != "$release" ] || { say "$(basename "$old") runs already"; exit 0; }

    say "backing up the database"
    systemctl start mailer-backup || die "no back-up could be made; see: journalctl -u mailer-backup"
    say "migrating the database; $(basename "$old") runs on"
    as_service "$release/bin/mailer" migrate --online || die "nothing was changed"
    try_api || die "the new API does not answer, see above; $(basename "$old") runs on"
    say "restarting with $(basename "$release")"
    if switch_to "$release" && restart && stays_healthy; then
        forget_releases "$old" "$release"
        say "mailer $version runs"
    else
        journalctl --no-pager -o cat --since "-1min" -u mailer-supervisor -u mailer-api |
            grep -v mailer.access | tail -n 20
        say "mailer $version did not come up: going back to $(basename "$old")"
        if ! { switch_to "$old" && restart && is_healthy; }; then
            die "$(basename "$old") does not come up either; see: journalctl -u 'mailer-*'"
        fi
        die "mailer $version did not come up; $(basename "$old") runs again"
    fi
}

try_api() { # the new API, beside the old one and on a port of its own, with the services' settings
    local end=$((SECONDS + HEALTHY_WITHIN_S)) port status=1
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    systemd-run --quiet --collect --unit=mailer-trial -- \
        env "BIND=127.0.0.1:$port" "$release/bin/mailer" serve
    while systemctl is-active --quiet mailer-trial && [ $SECONDS -lt $end ]; do
        if answers "127.0.0.1:$port"; then
            status=0
            break
        fi
        sleep 0.2
    done
    systemctl stop mailer-trial 2>/dev/null || true
    [ $status = 0 ] || journalctl --no-pager -o cat -u mailer-trial -n 20
    return $status
}

restart() { # the supervisor first: when it does not come up the API has not been touched
    timeout "$RESTARTED_WITHIN_S" systemctl restart mailer-supervisor &&
        timeout "$RESTARTED_WITHIN_S" systemctl restart mailer-api
}

stays_healthy() {
    local end=$((SECONDS + HEALTHY_FOR_S))
    is_healthy || return 1
    while [ $SECONDS -lt $end ]; do
        [ "$(systemctl show --value -p NRestarts mailer-supervisor mailer-api | tr -d '\n')" = 00 ] &&
            answers || return 1
        sleep 0.5
    done
}

main "$@"
