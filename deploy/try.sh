#!/usr/bin/env bash
# Try mailer: installs it into .venv/, sends a newsletter to 1,000 made-up recipients and shows
# what became of it. Nothing leaves this machine: mail is put into try/maildir.
#
#   deploy/try.sh          stays up until Ctrl-C
#   deploy/try.sh --once   ends with exit status 0 when all is sent, 1 if anything is not
#
# SERVER_PORT names the API's port; without it 3000 is taken, or a free one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install_python_environment
exec "$python" "$root/deploy/try.py" "$@"
