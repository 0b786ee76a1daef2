# Sourced by what builds releases: the same commit gives the same bytes, whoever builds it and wherever it lies.
#   . scripts/reproducible.sh; reproducible TARGET
# Sets compiler flags that take this machine's paths out of the binary.

reproducible() { # reproducible TARGET
    local under=${1//-/_} home=${CARGO_HOME:-$HOME/.cargo} here=$PWD folder flags
    export LC_ALL=C TZ=UTC
    # Packages have the commit's time; what is compiled has none. Set, it would have C and assembler files compiled
    # anew at each commit, and all that is above them.
    unset SOURCE_DATE_EPOCH
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
