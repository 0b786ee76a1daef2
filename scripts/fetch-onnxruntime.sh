#!/usr/bin/env bash
# Fetches libonnxruntime into lib/ out of its official Python wheel, and checks what came.
#   scripts/fetch-onnxruntime.sh [FOLDER] [x86_64|aarch64]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-lib}
machine=${2:-$(uname -m)}
version=1.32.0
case $machine in
    x86_64) sum=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f ;;
    aarch64) sum=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a ;;
    *) echo "fetch-onnxruntime: there is no wheel for $machine; graftd runs on tract without it" >&2; exit 2 ;;
esac
library=$folder/libonnxruntime.so.$version
if [ -f "$library" ] && echo "$sum  $library" | sha256sum --check --status; then
    exit 0
fi
echo "fetch-onnxruntime: libonnxruntime $version for $machine into $folder/"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A venv of its own where pip is missing or the system forbids it to install (PEP 668).
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.12 --platform "manylinux_2_28_$machine" -d "$scratch" "onnxruntime==$version"
mkdir -p "$folder"
"$scratch/venv/bin/python" - "$scratch" "$folder" "$version" <<'PYTHON'
import pathlib, sys, zipfile
scratch, folder, version = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
    for name, out in [(f"onnxruntime/capi/libonnxruntime.so.{version}", f"libonnxruntime.so.{version}.new"),
                      ("onnxruntime/LICENSE", "LICENSE.onnxruntime"),
                      ("onnxruntime/ThirdPartyNotices.txt", "ThirdPartyNotices.onnxruntime.txt")]:
        (folder / out).write_bytes(wheel.read(name))
PYTHON
if ! echo "$sum  $library.new" | sha256sum --check --status; then
    rm -f "$library.new"
    echo "fetch-onnxruntime: what came is not libonnxruntime $version ($sum); nothing is installed" >&2
    exit 1
fi
mv "$library.new" "$library"
ln -sf "libonnxruntime.so.$version" "$folder/libonnxruntime.so"
