#!/usr/bin/env bash
# Says what a release binary asks of a machine, and fails when that is too much.
#   scripts/portable.sh BINARY
# Too much is a glibc above 2.34 (Debian 12, Ubuntu 22.04, Raspberry Pi OS 12 and JetPack 6 have it or a later one),
# a library that is not glibc's or GCC's, or more than 40 MB.
set -euo pipefail
binary=${1:?which binary?}
most_glibc=2.34 most_bytes=$((40 * 1000 * 1000))
command -v objdump >/dev/null 2>&1 || { echo "portable: objdump is missing; install it (apt-get install binutils)" >&2; exit 2; }
glibc=$(objdump -T "$binary" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -n 1 | cut -d_ -f2)
libraries=$(objdump -p "$binary" | sed -nE 's/^ +NEEDED +//p' | sort | paste -sd' ')
bytes=$(stat -c %s "$binary")
echo "portable: $binary: $(awk -v bytes="$bytes" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'), glibc $glibc, $libraries"
failed=0
if [ "$(printf '%s\n' "$glibc" "$most_glibc" | sort -V | tail -n 1)" != "$most_glibc" ]; then
    echo "portable: it needs glibc $glibc, and $most_glibc is the most: $(objdump -T "$binary" | grep -F "GLIBC_$glibc" | awk '{ print $NF }' | paste -sd' ')" >&2
    failed=1
fi
if [ "$bytes" -gt "$most_bytes" ]; then
    echo "portable: it has $bytes bytes, and $most_bytes are the most" >&2
    failed=1
fi
for library in $libraries; do
    case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-*) ;;
        *) echo "portable: it needs $library, which a board need not have" >&2; failed=1 ;;
    esac
done
exit $failed
