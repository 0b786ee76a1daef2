#!/usr/bin/env bash
# Checks that every set of features that makes sense compiles without a warning: the library, the program and the tests.
#   scripts/features.sh [--some]    the three that differ most alone
#   scripts/features.sh --sizes     builds each as a release for this machine and prints a table of sizes
set -euo pipefail
cd "$(dirname "$0")/.."
sets=(
    ort                           # the smallest: cameras over HTTP and folders, a library on the machine
    tract                         # nothing needed on the machine, nothing to build it with but Rust
    ort,v4l2                      # a board with a USB camera and ONNX Runtime
    tract,v4l2
    ort,tract,v4l2                # the default without the demo's own broker
    ort,tract,demo-broker         # the default without cameras of the kernel's: no libclang to build it
    ort,tract,v4l2,demo-broker    # the default
    ort,tract,v4l2,demo-broker,rtsp
)
targets=(--lib --bins --tests)
case ${1:-} in
    # Without the tests, which compile with the default features in any case.
    --some) sets=(ort tract,v4l2) targets=(--lib --bins) ;;
    --sizes)
        echo "| features | MB, stripped |"
        echo "|---|--:|"
        for set in "${sets[@]}"; do
            said=$(scripts/binary.sh "$(dpkg --print-architecture)" --quiet --no-default-features --features "$set")
            echo "| $set | $(sed -nE 's/^portable: .* ([0-9.]+) MB.*/\1/p' <<<"$said") |"
        done
        exit 0 ;;
    '') ;;
    *) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
for set in "${sets[@]}"; do
    check=(check --quiet --locked --no-default-features --features "$set" "${targets[@]}")
    if cargo clippy --version >/dev/null 2>&1; then
        check[0]=clippy
        check+=(-- -D warnings)
    fi
    echo "features: $set"
    # Not RUSTFLAGS="-D warnings": with that every dependency is checked anew.
    cargo "${check[@]}"
done
