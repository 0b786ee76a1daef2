#!/usr/bin/env bash
# Lays into target/dist/stage what a package holds beside the binary and is not in the checkout as it is.
#   scripts/stage.sh TARGET
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?which target, such as aarch64-unknown-linux-gnu?}
stage=target/dist/stage
cargo=cargo
command -v cargo >/dev/null 2>&1 || cargo=/usr/bin/cargo
rm -rf "$stage"
mkdir -p "$stage"
# Help and configuration are the same with all features. Where the program has been built with all of them that is the
# shortest way, elsewhere few are.
features=()
[ -x target/debug/graftd ] || features=(--no-default-features --features "ort,v4l2")
"$cargo" run --quiet --locked --example pages ${features+"${features[@]}"} -- "$stage"
CARGO=$cargo python3 scripts/licences.py "$target" "$stage/THIRD-PARTY"
# The name that a script goes by tells it where to put things.
cp scripts/fetch-onnxruntime.sh "$stage/graftd-fetch-onnxruntime"
version=$(sed -nE 's/^version = "(.*)"/\1/p' Cargo.toml | head -n 1)
maintainer=$(sed -nE 's/^maintainer = "(.*)"/\1/p' Cargo.toml)
when=$(LC_ALL=C date -u -R -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}")
cat >"$stage/changelog" <<WORDS
graftd ($version) unstable; urgency=medium

  * What has changed for users stands in /usr/share/doc/graftd/CHANGELOG.md.gz.

 -- $maintainer  $when
WORDS
# gzip without a time and a name: the same bytes whenever it is done.
for file in THIRD-PARTY changelog; do gzip -9 -n "$stage/$file"; done
gzip -9 -n -c CHANGELOG.md >"$stage/CHANGELOG.md.gz"
cat >"$stage/graftd-fetch-onnxruntime.8" <<'PAGE'
.TH graftd-fetch-onnxruntime 8
.SH NAME
graftd-fetch-onnxruntime \- fetch the ONNX Runtime that graftd runs on
.SH SYNOPSIS
\fBgraftd-fetch-onnxruntime\fR [\fB\-\-from\fR \fIWHEEL\fR|\fILIBRARY\fR] [\fIFOLDER\fR] [\fBx86_64\fR|\fBaarch64\fR]
.br
\fBgraftd-fetch-onnxruntime\fR \fB\-\-remove\fR [\fIFOLDER\fR]
.SH DESCRIPTION
Fetches the official build of ONNX Runtime with pip, checks its sha256, and puts the library into /usr/lib/graftd, where
graftd(1) looks for it. Without it graftd runs on tract, which is slower. With \fB\-\-from\fR it takes a wheel or a
library that is there already, for machines without a network. \fB\-\-remove\fR takes back what it has put there.
.SH EXIT STATUS
0 done, 1 it could not be fetched or is not what it should be, 2 bad usage or something is missing.
.SH SEE ALSO
graftd(1)
PAGE
