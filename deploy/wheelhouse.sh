#!/usr/bin/env bash
# Collect all that install.sh needs from a package index, for a host that has none:
#
#   deploy/wheelhouse.sh DIRECTORY      made on a machine of the same kind and Python version
#   deploy/install.sh --offline DIRECTORY
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/release.sh"

[ $# = 1 ] || die "usage: deploy/wheelhouse.sh DIRECTORY"
mkdir -p "$1"
house=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --no-input --disable-pip-version-check)
if ! cmp -s "$root/deploy/requirements.txt" "$house/requirements.txt"; then
    rm -f "$house"/*.whl "$house/requirements.txt"
    "${pip[@]}" download --require-hashes --only-binary :all: --dest "$house" \
        -r "$root/deploy/requirements.txt"
fi
"${pip[@]}" install --no-index --find-links "$house" setuptools --upgrade
mkdir "$work/sources"
copy_sources "$work/sources"
rm -f "$house"/mailer-*.whl
"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$house" "$work/sources"
cp "$root/deploy/requirements.txt" "$house"
say "$house: mailer $(version_of_source "$house") and all it needs"
