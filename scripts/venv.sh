#!/usr/bin/env bash
# Makes .venv with the Python packages that the tests compare with. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=tests/python/requirements.txt
stamp=.venv/.requirements
if [ -x .venv/bin/python ] && cmp -s "$wanted" "$stamp"; then
    exit 0
fi
echo "venv: making .venv with $(grep -c '==' "$wanted") packages of $wanted"
rm -rf .venv
python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" "$stamp"
