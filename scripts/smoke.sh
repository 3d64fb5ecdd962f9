#!/usr/bin/env bash
# Take the smoke study through DVC from an empty cache, in a clone of HEAD that is thrown away afterwards.
# The environment is the checkout's own .venv, the code the clone's: what is not committed is not tried.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sparsity-lab-smoke.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

git clone --quiet "$root" "$scratch/checkout"
cd "$scratch/checkout"
printf 'studies:\n  smoke: specs/studies/smoke.yaml\n' > params.yaml

export PATH="$root/.venv/bin:$PATH"
export PYTHONPATH="$PWD"                   # before the editable install, which points at $root
export DVC_SITE_CACHE_DIR="$scratch/site"  # DVC would leave its index under /var/tmp

dvc repro
test -s reports/smoke/index.html

# A stage that changes what it depends on would run for ever: nothing may be left to do.
if ! dvc status --quiet; then
    dvc status
    echo "smoke: stages are out of date right after dvc repro" >&2
    exit 1
fi
echo "smoke: the study ran from specs to report in a fresh clone"
