#!/usr/bin/env bash
# Runs every check and counts: formatting, lints, tests, documentation, licences.
#   scripts/test.sh [arguments for cargo test]
set -uo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=${RUST_BACKTRACE:-0}
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

check() { # check NAME COMMAND…
    local name=$1
    shift
    echo "== $name"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}

skip() { # skip NAME WHY
    echo "== $1: skipped: $2"
    skipped=$((skipped + 1))
}

tests() {
    cargo test --no-fail-fast "$@" 2>&1 | tee "$log" | grep -v '^test .* \.\.\. ok$'
    local code=${PIPESTATUS[0]}
    # One line per test program: test result: ok. 31 passed; 0 failed; 0 ignored; …
    local ran broke ignored
    ran=$(sed -nE 's/^test result: .* ([0-9]+) passed;.*/\1/p' "$log" | paste -sd+ | bc_sum)
    broke=$(sed -nE 's/^test result: .* ([0-9]+) failed;.*/\1/p' "$log" | paste -sd+ | bc_sum)
    ignored=$(sed -nE 's/^test result: .* ([0-9]+) ignored;.*/\1/p' "$log" | paste -sd+ | bc_sum)
    passed=$((passed + ran)) failed=$((failed + broke)) skipped=$((skipped + ignored))
    # A program that did not build or was killed has no result line.
    if [ "$code" -ne 0 ] && [ "$broke" -eq 0 ]; then failed=$((failed + 1)); fi
}

bc_sum() { read -r sum || sum=0; echo $((${sum:-0})); }

if cargo fmt --version >/dev/null 2>&1; then check "cargo fmt" cargo fmt --check; else skip "cargo fmt" "rustfmt is not installed"; fi
if cargo clippy --version >/dev/null 2>&1; then
    check "cargo clippy" cargo clippy --quiet --all-targets -- -D warnings
else
    skip "cargo clippy" "clippy is not installed"
fi
check "features" scripts/features.sh --some
echo "== cargo test"
tests "$@"
check "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --document-private-items
PATH=$PWD/target/tools/bin:$PATH
if cargo deny --version >/dev/null 2>&1; then
    check "cargo deny" cargo deny --log-level error --offline check licenses bans sources
else
    skip "cargo deny" "cargo-deny is not installed (make deny)"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
