#!/usr/bin/env bash
# Makes a release in target/dist: both packages, a tarball each, an SBOM and SHA256SUMS.
#   scripts/release.sh
# Only from a clean checkout of the tag vVERSION, so that what is published can be made again. DRY=1 tries it anywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
version=$(sed -nE 's/^version = "(.*)"/\1/p' Cargo.toml | head -n 1)
if [ -z "${DRY:-}" ]; then
    tag=$(git describe --exact-match --tags 2>/dev/null || true)
    [ "$tag" = "v$version" ] ||
        { echo "release: this is ${tag:-no tag}, not v$version; git checkout v$version, or DRY=1 to try" >&2; exit 2; }
    [ -z "$(git status --porcelain)" ] ||
        { echo "release: the checkout is not clean (git status); a release is made of what is committed" >&2; exit 2; }
fi
# Licences and what is known of the dependencies. Without the database a release can be tried and not made.
scripts/deny.sh || { status=$?; [ "$status" -eq 3 ] && [ -n "${DRY:-}" ] || exit "$status"; }
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
dist=target/dist
rm -rf "$dist"
mkdir -p "$dist"
umask 022

tarball() { # tarball ARCH TARGET: unpacked anywhere, it finds its own files
    local name=graftd-$version-$1 folder
    folder=$dist/tree/$name
    mkdir -p "$folder/scripts" "$folder/models" "$folder/docs"
    install -m 755 "target/debian/$2/release/graftd" "$folder/graftd"
    cp -r systemd demo "$folder/"
    cp models/base.onnx models/README.md "$folder/models/"
    cp scripts/fetch-onnxruntime.sh "$folder/scripts/"
    cp docs/*.md docs/asyncapi.json docs/before-after.jpg "$folder/docs/"
    cp -r "$dist/stage/man" "$dist/stage/completions" "$dist/stage/graftd.toml" "$folder/"
    cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$folder/"
    gunzip -c "$dist/stage/THIRD-PARTY.gz" >"$folder/THIRD-PARTY"
    # Sorted, without owners and times of its own: the same bytes whoever packs it.
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX \
        -C "$dist/tree" -cf - "$name" | xz -T1 -6 >"$dist/$name.tar.xz"
    rm -rf "$folder"
}

scripts/deb.sh arm64
tarball arm64 aarch64-unknown-linux-gnu
scripts/deb.sh amd64
tarball amd64 x86_64-unknown-linux-gnu

cargo_tool cargo-cyclonedx "$cargo_cyclonedx"
# Times, serial numbers and this machine's paths are no part of what was released.
PATH=$PWD/target/tools/bin:$PATH cargo cyclonedx --format json --spec-version 1.5 --target aarch64-unknown-linux-gnu \
    --override-filename graftd.cdx --quiet
python3 - graftd.cdx.json "$dist/graftd-$version.cdx.json" "$PWD" <<'PYTHON'
import datetime, json, os, sys
source, out, here = sys.argv[1:]
text = open(source).read().replace("file://" + here, "file:///graftd").replace(here, "/graftd")
bom = json.loads(text)
bom.pop("serialNumber", None)
when = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
bom["metadata"]["timestamp"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
open(out, "w").write(json.dumps(bom, indent=1, sort_keys=True) + "\n")
PYTHON
rm graftd.cdx.json

rm -rf "$dist/stage" "$dist/tree"
(cd "$dist" && sha256sum -- *.deb *.tar.xz *.cdx.json >SHA256SUMS && cat SHA256SUMS)
