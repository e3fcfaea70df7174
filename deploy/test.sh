#!/usr/bin/env bash
# The whole test run: first what may run beside other tests, on all cores, then what measures time,
# alone. With arguments it is one run of pytest, to which they go.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# caddy, nginx: the proxies; curl: the README's lines; e2fsprogs, gcc, strace: faults; postfix: a
# real mail server; sqlite3: a foreign program that uses the database; util-linux: namespaces; wrk:
# the benchmark's load.
install_packages caddy curl e2fsprogs gcc libc6-dev nginx-light postfix sqlite3 strace util-linux wrk
install_python_environment test
install_promtool
cd "$root"
[ $# -eq 0 ] || exec "$python" -m pytest "$@"
failed=0
"$python" -m pytest -m "not alone" -n "$(nproc)" --dist loadfile --no-loadscope-reorder || failed=1
"$python" -m pytest -m alone || failed=1
exit $failed
