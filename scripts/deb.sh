#!/usr/bin/env bash
# Packs graftd for Debian and what descends from it.
#   scripts/deb.sh [arm64|amd64]
# Builds the binary unless it is there. The result: target/dist/graftd_VERSION_ARCH.deb
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
need deb dpkg dpkg
need deb python3 python3
arch=${1:-$(dpkg --print-architecture)}
case $arch in
    amd64) target=x86_64-unknown-linux-gnu ;;
    arm64) target=aarch64-unknown-linux-gnu ;;
    *) echo "deb: there is no package for $arch; arm64 or amd64" >&2; exit 2 ;;
esac
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
scripts/binary.sh "$arch"
scripts/stage.sh "$target"
cargo_tool cargo-deb "$cargo_deb"
# Those of other versions would be taken for this one.
rm -f target/dist/graftd_*_"$arch".deb
# 022 whatever the user's is: modes of folders are part of the package.
umask 022
CARGO_TARGET_DIR=target/debian target/tools/bin/cargo-deb --no-build --no-strip --locked --target "$target" \
    --output "$PWD/target/dist/" >/dev/null
deb=$(ls target/dist/graftd_*_"$arch".deb)
if command -v lintian >/dev/null 2>&1; then
    lintian --fail-on error --allow-root "$deb"
else
    echo "deb: lintian is not installed; the package was not checked"
fi
echo "deb: $deb, $(stat -c %s "$deb") bytes"
