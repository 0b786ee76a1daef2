#!/usr/bin/env bash
# Installs what is missing, and says what and why. Does nothing when all is there.
#   scripts/setup.sh demo|test|vm|board
set -euo pipefail
need=()
want() { # want COMMAND PACKAGE WHY
    if ! command -v "$1" >/dev/null 2>&1 && [ ! -x "/usr/sbin/$1" ]; then
        echo "setup: $2 is missing ($3)"
        need+=("$2")
    fi
}
for tool in cargo cc python3; do
    command -v "$tool" >/dev/null 2>&1 || { echo "setup: $tool is missing; install it first (cargo 1.92 or later, gcc, python3)" >&2; exit 2; }
done
python3 -c 'import ensurepip' 2>/dev/null || { echo "setup: python3-venv is missing (fetching libonnxruntime with pip)"; need+=(python3-venv); }
# v4l's bindings are made by libclang from the kernel's headers.
if [ -z "$(find /usr/lib /usr/lib64 /usr/local/lib -name 'libclang*.so*' ! -name 'libclang-cpp*' -print -quit 2>/dev/null)" ]; then
    echo "setup: libclang is missing (bindings for V4L2 cameras)"
    need+=(libclang-dev)
fi
[ -f /usr/include/linux/videodev2.h ] || { echo "setup: the kernel's headers are missing (V4L2 cameras)"; need+=(linux-libc-dev); }
if [ "${1:-demo}" = test ]; then
    want mosquitto mosquitto "the tests speak to a real broker"
    want strace strace "the power-cut test records what the store writes"
    want faketime faketime "clocks that jump by years are tried"
    want systemd-analyze systemd "the unit is checked"
    want mosquitto_pub mosquitto-clients "the tests send commands as an operator would"
fi
if [ "${1:-demo}" = board ]; then
    want qemu-system-aarch64 qemu-system-arm "the machine that plays a board"
    want qemu-aarch64-static qemu-user-static "its Debian's packages are set up by it"
fi
if [ "${1:-demo}" = vm ]; then
    want qemu-system-x86_64 qemu-system-x86 "the machine that systemd is tried in"
fi
if [ "${1:-demo}" = vm ] || [ "${1:-demo}" = board ]; then
    want qemu-img qemu-utils "the machine's disk"
    want debootstrap debootstrap "the machine's Debian"
    want mosquitto_sub mosquitto-clients "the operator beside the machine"
fi
# tests/packaging.rs asks whether packages exist, and a new machine has no lists.
no_lists() { [ "$1" = test ] && command -v apt-cache >/dev/null 2>&1 && ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; }
[ ${#need[@]} -eq 0 ] && ! no_lists "${1:-demo}" && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: there is no apt-get here; install these with your own package manager: ${need[*]}" >&2
    exit 2
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "setup: as root, run: apt-get update; apt-get install ${need[*]}" >&2; exit 2; }
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
[ ${#need[@]} -eq 0 ] && exit 0
echo "setup: installing ${need[*]} with apt-get"
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install -y -qq --no-install-recommends "${need[@]}")
"${as_root[@]}" "${install[@]}" && exit 0
# A part of the same program that is there already from Debian's backports wants the rest from there too.
backports=$(. /etc/os-release && echo "${VERSION_CODENAME:-}-backports")
echo "setup: that did not work; trying $backports"
"${as_root[@]}" "${install[@]}" -t "$backports"
