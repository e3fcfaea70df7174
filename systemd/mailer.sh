#!/bin/sh
# `mailer` with the settings, credentials, user and limits of its services: mailer-*.service takes
# them from /etc/systemd/system/mailer-.service.d/.
set -eu
program=/opt/mailer/current/bin/mailer
[ "$(id -u)" = 0 ] || {
    echo "Error: the services' settings are for root to read: sudo mailer $*" >&2
    exit 1
}
[ "${1:-}" != systemd ] || exec "$program" "$@"
how=--pipe
[ ! -t 0 ] || [ ! -t 1 ] || how=--pty
exec systemd-run --quiet --collect --wait --service-type=exec --unit="mailer-command-$$" \
    "$how" --setenv=TERM="${TERM:-dumb}" -- "$program" "$@"
