#!/usr/bin/env bash
# Fuzzes every target for so many seconds (600), all at once, and says what was found. Needs a C++ compiler.
#   scripts/fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
targets=(picture labels onnx record command)
if ! command -v cargo-fuzz >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing; cargo install cargo-fuzz" >&2
    exit 2
fi
# Without a sanitizer, so that a stable toolchain does: Rust's own checks are what is looked for.
cargo fuzz build --sanitizer none
seeds() { # seeds TARGET: what to begin with
    mkdir -p "fuzz/corpus/$1"
    case $1 in
        picture) cp demo/treecrowns/images/val/*.jpg fuzz/corpus/picture/ ;;
        labels) cp demo/treecrowns/labels/val/*.txt fuzz/corpus/labels/ ;;
        onnx) find tests/data -name '*.onnx' -size -600k -exec cp {} fuzz/corpus/onnx/ \; ;;
        record)
            for file in tests/data/store-v*/records/*; do
                cp "$file" "fuzz/corpus/record/$(basename "$file")"
                # Without its checksum, which the target puts in front itself.
                { head -c 1 "$file"; tail -c +6 "$file"; } > "fuzz/corpus/record/bare-$(basename "$file")"
            done
            cp tests/data/store-v*/blobs/*/*.json fuzz/corpus/record/ ;;
        command) grep -ohE "'\{.*\}'" docs/mqtt.md | tr -d "'" | split -l 1 - fuzz/corpus/command/example- || true ;;
    esac
}
binaries=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release
mkdir -p fuzz/artifacts
pids=()
for target in "${targets[@]}"; do
    seeds "$target"
    most=60000
    [ "$target" = onnx ] && most=700000
    "$binaries/$target" "fuzz/corpus/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len="$most" -artifact_prefix="fuzz/artifacts/$target-" > "fuzz/artifacts/$target.log" 2>&1 &
    pids+=($!)
done
failed=0
for index in "${!targets[@]}"; do
    if wait "${pids[$index]}"; then what=well; else what="FOUND SOMETHING (fuzz/artifacts)"; failed=1; fi
    runs=$(grep -oE '^Done [0-9]+ runs' "fuzz/artifacts/${targets[$index]}.log" | tail -1 || true)
    echo "fuzz: ${targets[$index]}: ${runs:-stopped early}: $what"
done
exit $failed
