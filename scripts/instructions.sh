#!/usr/bin/env bash
# Counts the instructions of the host's hot path under callgrind: the same number in every run.
#   scripts/instructions.sh
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null 2>&1 || { echo "instructions: valgrind is missing; install it (apt-get install valgrind)" >&2; exit 2; }
cargo bench --bench hot_path --no-run 2>/dev/null
program=$(cargo bench --bench hot_path --no-run --message-format json 2>/dev/null |
    sed -nE 's/.*"name":"hot_path".*"executable":"([^"]+)".*/\1/p' | tail -n 1)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "| for one picture of 640 px, 80 classes | million instructions |"
echo "|---|--:|"
for name in criterion decode letterbox select; do
    # One thread: others are counted whenever they happen to run.
    RAYON_NUM_THREADS=1 valgrind --tool=callgrind --collect-atstart=no --toggle-collect='hot_path::counted*' \
        --callgrind-out-file="$scratch/$name" "$program" --count "$name" 2>"$scratch/log" >/dev/null || { cat "$scratch/log" >&2; exit 1; }
    sed -nE 's/^(summary|totals): ([0-9]+).*/\2/p' "$scratch/$name" | head -n 1 |
        awk -v name="$name" '{printf "| %s | %.1f |\n", name, $1 / 1e6}'
done
