#!/usr/bin/env bash
# Builds the binary of a release with Debian's own compilers, without a container and without rustup.
#   scripts/binary.sh [arm64|amd64] [arguments for cargo build]
# Installs what is missing, and says so. The result: target/debian/TARGET/release/graftd
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
need binary dpkg dpkg
here=$(dpkg --print-architecture)
arch=${1:-$here}
[ $# -gt 0 ] && shift
case $arch in
    amd64) target=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
    arm64) target=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
    *) echo "binary: there is no release for $arch; arm64 or amd64" >&2; exit 2 ;;
esac

# rustc-web and cargo-web are Debian's current compilers (1.96 on Debian 12); its rustc is the 1.63 of its birth.
packages=(rustc-web cargo-web libclang-dev gcc g++ libc6-dev binutils git ca-certificates)
cross=(gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross linux-libc-dev-arm64-cross)
if [ "$arch" = "$here" ]; then
    packages+=(libstd-rust-web-dev linux-libc-dev)
elif [ "$arch" = arm64 ]; then
    packages+=(libstd-rust-web-dev:arm64 "${cross[@]}")
else
    echo "binary: $arch is not built on $here; build it on an amd64 machine, which builds both" >&2
    exit 2
fi
install_debian binary "${packages[@]}"

# Debian's, wherever rustup's stand in PATH: its standard library for arm64 fits no other compiler, and releases of both
# architectures come from the same one.
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER
if [ "$arch" != "$here" ]; then
    under=${target//-/_}
    export "CARGO_TARGET_$(tr a-z A-Z <<<"$under")_LINKER=$gnu-gcc" "CC_$under=$gnu-gcc" "CXX_$under=$gnu-g++"
    # libclang reads the board's headers for the bindings of V4L2, not this machine's.
    export "BINDGEN_EXTRA_CLANG_ARGS_$under=--target=$gnu -I/usr/$gnu/include"
fi
# A folder of its own: what this compiler makes for the host would stand beside another's in target/release, and each
# would wait for the other's lock.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/debian}

/usr/bin/cargo fetch --quiet --locked --target "$target"
. scripts/reproducible.sh
reproducible "$target"
/usr/bin/cargo build --release --locked --target "$target" "$@"
scripts/portable.sh "$CARGO_TARGET_DIR/$target/release/graftd"
