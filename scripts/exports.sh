#!/usr/bin/env bash
# Tries graftd on exports of every YOLO family and form, made on the spot by the real exporters.
#   scripts/exports.sh [--release VERSION] [--out FOLDER] [--tiny] [PATTERN…]
# PATTERN chooses by name, such as 'yolo26*' (scripts/exports.py --list says what there is);
# --release takes another release of Ultralytics. Nothing of it becomes part of graftd: it is run in
# .venv-exports, a virtual environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
release=8.4.190 out=exports-out make=()
only=()
while [ $# -gt 0 ]; do
    case $1 in
        --release) release=${2:?--release needs a version, such as 8.4.190}; shift ;;
        --out) out=${2:?--out needs a folder}; shift ;;
        --tiny) make+=(--tiny) ;;
        -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "exports: $1 is not known; see scripts/exports.sh --help" >&2; exit 2 ;;
        *) only+=("$1") ;;
    esac
    shift
done

venv=.venv-exports
wanted="ultralytics==$release $(tr '\n' ' ' <scripts/exports.txt)"
if [ ! -x "$venv/bin/python" ]; then
    echo "exports: making $venv (PyTorch and the exporters, some gigabytes)"
    python3 -m venv "$venv"
fi
if [ "$(cat "$venv/.wanted" 2>/dev/null)" != "$wanted" ]; then
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check $wanted
    echo "$wanted" >"$venv/.wanted"
fi

# A file that can't be made is the exporter's affair: it is named, and the others are tried.
made=0
"$venv/bin/python" scripts/exports.py "$out" ${make+"${make[@]}"} ${only:+--only "${only[@]}"} || made=$?
scripts/fetch-onnxruntime.sh
GRAFTD_EXPORTS=$(realpath "$out") cargo test --quiet --test exports -- --nocapture
exit "$made"
