#!/usr/bin/env bash
# The whole test run. Arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# curl: the README's lines; e2fsprogs, gcc, strace: faults; postfix: a real mail server;
# sqlite3: a foreign program that uses the database; util-linux: namespaces.
install_packages curl e2fsprogs gcc libc6-dev postfix sqlite3 strace util-linux
install_python_environment test
cd "$root"
exec "$python" -m pytest "$@"
