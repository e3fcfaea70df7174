#!/usr/bin/env bash
# Pin what mailer needs, with hashes, in requirements.txt. To be run when setup.cfg asks for more;
# arguments go to uv (--upgrade takes the newest of everything).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# setuptools: mailer itself is built with it, and with nothing that isn't pinned.
echo setuptools |
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links \
        --output-file deploy/requirements.txt "$@" setup.cfg -
