# Sourced by what builds releases: the same commit gives the same bytes, whoever builds it and wherever it lies.
#   . scripts/reproducible.sh; reproducible TARGET
# Sets SOURCE_DATE_EPOCH, and compiler flags that take this machine's paths out of the binary.

reproducible() { # reproducible TARGET
    local under=${1//-/_} home=${CARGO_HOME:-$HOME/.cargo} here=$PWD folder flags
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
    export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
    # A registry's folder is named after its address, which differs behind a mirror. So each is there first, and gets
    # the same name. Fields are parted by 0x1f, as Cargo wants it: paths may have spaces.
    flags="--remap-path-prefix=$here=/graftd"
    for folder in "$home"/registry/src/*/; do
        flags+=$'\x1f'"--remap-path-prefix=${folder%/}=/crates"
    done
    flags+=$'\x1f'"--remap-path-prefix=$(rustc_of_cargo --print sysroot)=/rust"
    export CARGO_ENCODED_RUSTFLAGS=$flags
    # The assembler and C files of dependencies (ring's, tract's).
    export "CFLAGS_$under=-ffile-prefix-map=$here=/graftd -ffile-prefix-map=$home/registry/src=/crates"
    # Nothing of an earlier or later state of a file counts: each release is built whole.
    export CARGO_INCREMENTAL=0
}

rustc_of_cargo() { "${RUSTC:-rustc}" "$@"; }
