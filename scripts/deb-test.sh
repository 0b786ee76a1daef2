#!/usr/bin/env bash
# Installs, upgrades, removes and purges the package in a root of its own, and looks at what is there after each step.
#   scripts/deb-test.sh [DEB]
# As root, on Debian; no systemd runs in there, so that starting and stopping is not part of it (make board-test does
# that). DEB is this machine's package in target/dist, made when it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
need deb-test dpkg dpkg
[ "$(id -u)" -eq 0 ] || { echo "deb-test: a chroot needs root" >&2; exit 2; }
install_debian deb-test debootstrap
arch=$(dpkg --print-architecture)
deb=${1:-}
if [ -z "$deb" ]; then
    deb=$(ls target/dist/graftd_*_"$arch".deb 2>/dev/null | tail -n 1 || true)
    [ -n "$deb" ] || { scripts/deb.sh "$arch"; deb=$(ls target/dist/graftd_*_"$arch".deb); }
fi
scripts/fetch-onnxruntime.sh
work=target/deb-test root=target/deb-test/root
mkdir -p "$work"
# Only mounts that were made here are taken away, and nothing is deleted while one is left.
leave() {
    local mount
    for mount in proc dev; do
        if mountpoint -q "$root/$mount"; then umount "$root/$mount"; fi
    done
}
trap leave EXIT
leave
if [ ! -f "$work/base.tar" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=systemd,udev,python3 bookworm "$root" >"$work/debootstrap.log" ||
        { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    chroot "$root" apt-get clean
    tar -C "$root" -cf "$work/base.tar.new" .
    mv "$work/base.tar.new" "$work/base.tar"
fi
rm -rf "$root"
mkdir "$root"
tar -C "$root" -xf "$work/base.tar"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"

passed=0
within() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
check() { # check WHAT COMMAND…
    local what=$1
    shift
    if "$@"; then passed=$((passed + 1)); echo "  $what"; else echo "FAILED: $what: $*" >&2; exit 1; fi
}
no() { ! "$@"; }
owned() { # owned PATH 'USER:GROUP MODE', by the names of the root and not this machine's
    [ "$(within stat -c '%U:%G %a' "$1")" = "$2" ] || { within stat -c '%n %U:%G %a' "$1" >&2; return 1; }
}
there() { [ -e "$root$1" ] || [ -L "$root$1" ]; }
enabled() { [ "$(within systemctl is-enabled graftd.service 2>/dev/null || true)" = "$1" ]; }
# Everything but what dpkg, apt and the tools that make users keep for themselves.
everything() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./tmp -o -path ./run -o -path ./var/lib/dpkg \
        -o -path ./var/lib/apt -o -path ./var/log -o -path ./var/cache -o -path ./root \) -prune -o -print | sort)
}
finds() { # finds RUNTIME
    within sh -c "graftd detect --model /usr/share/graftd/base.onnx --runtime $1 --json \
        /usr/share/graftd/demo/treecrowns/images/val/*.jpg" | grep -q '"tree"'
}
put() { # put DEB: installs it, dpkg asking nothing and keeping what somebody has changed
    cp "$1" "$root/tmp/graftd.deb"
    within dpkg --force-confdef --force-confold -i /tmp/graftd.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; exit 1; }
}

everything >"$work/before"
echo "install"
put "$deb"
check "it says what comes next" grep -q "systemctl enable --now graftd" "$work/dpkg.log"
check "it is not enabled: its first start would make slot 0 of the bundled base" enabled disabled
check "the user is there, and may open cameras" within sh -c 'id -nG graftd | grep -qw video'
check "the state is the user's alone" owned /var/lib/graftd "graftd:graftd 750"
check "secrets are root's alone" owned /etc/graftd/secrets "root:root 700"
check "what was unpacked is whole" within dpkg --verify graftd
check "the program starts" within graftd --version
check "the configuration is one" within sh -c 'graftd config show >/dev/null'
check "the base is where the configuration looks" within sh -c 'graftd inspect /usr/share/graftd/base.onnx >/dev/null'
check "every page is there" within sh -c 'test -s /usr/share/man/man1/graftd.1.gz && test -s /usr/share/man/man1/graftd-samples-list.1.gz'
check "it finds trees, on tract" finds tract

echo "ONNX Runtime"
library=$(readlink -f lib/libonnxruntime.so)
cp "$library" "$root/tmp/library.so"
head -c 1000 "$library" >"$root/tmp/broken.so"
check "what is something else is refused" no within graftd-fetch-onnxruntime --from /tmp/broken.so
check "and leaves nothing" no within sh -c 'ls /usr/lib/graftd/libonnxruntime*'
check "a library by path is taken" within graftd-fetch-onnxruntime --from /tmp/library.so
check "it finds trees, on ONNX Runtime" finds ort
check "graftd init names it" within sh -c 'graftd init --json --config /tmp/found.toml | grep -q /usr/lib/graftd/libonnxruntime.so'

echo "at work"
within systemctl enable graftd.service 2>/dev/null
check "it can be enabled" enabled enabled
# As the unit does it: this user, this configuration, and a camera.
(exec chroot "$root" env -i PATH=/usr/bin:/bin GRAFTD_CAMERA__SOURCE=test \
    setpriv --reuid=graftd --regid=graftd --init-groups graftd run) >"$work/run.log" 2>&1 &
daemon=$!
for _ in $(seq 600); do
    [ -L "$root/var/lib/graftd/models/current.onnx" ] && [ -S "$root/var/lib/graftd/api.sock" ] && break
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.2
done
check "its API answers" within sh -c 'graftd status >/dev/null'
kill -TERM "$daemon"
ended=0
wait "$daemon" || ended=$?
check "the daemon ran and ended as asked" test "$ended" -eq 0
check "it made its slot" there /var/lib/graftd/models/current.onnx
slot=$(readlink "$root/var/lib/graftd/models/current.onnx")
echo "# mine" >>"$root/etc/graftd/graftd.toml"
echo secret >"$root/etc/graftd/secrets/mqtt-password"

echo "upgrade"
rm -rf "$work/next"
dpkg-deb -R "$deb" "$work/next"
sed -i -E 's/^(Version: .*)$/\1+1/' "$work/next/DEBIAN/control"
echo "# of the new version" >>"$work/next/etc/graftd/graftd.toml"
(cd "$work/next" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Znone -b "$work/next" "$work/next.deb" >/dev/null
put "$work/next.deb"
check "the new version is there" within sh -c 'dpkg-query -W -f "\${Version}" graftd | grep -q +1'
check "nothing is said to newcomers" no grep -q "enable --now" "$work/dpkg.log"
check "what was changed in the configuration stays" grep -qx "# mine" "$root/etc/graftd/graftd.toml"
check "the new one lies beside it" there /etc/graftd/graftd.toml.dpkg-dist
check "it is still enabled" enabled enabled
check "the state is as it was" test "$(readlink "$root/var/lib/graftd/models/current.onnx")" = "$slot"
check "the secret is as it was" grep -qx secret "$root/etc/graftd/secrets/mqtt-password"
check "ONNX Runtime is as it was" there /usr/lib/graftd/libonnxruntime.so

echo "remove"
within dpkg -r graftd >/dev/null 2>&1
check "the program is gone" no there /usr/bin/graftd
check "what was fetched is gone" no there /usr/lib/graftd
check "the configuration stays" grep -qx "# mine" "$root/etc/graftd/graftd.toml"
check "the secret stays" there /etc/graftd/secrets/mqtt-password
check "the state stays" there /var/lib/graftd/models/current.onnx

echo "install again"
put "$deb"
check "it goes on enabled" enabled enabled
check "with its own configuration" grep -qx "# mine" "$root/etc/graftd/graftd.toml"
check "and its own state" test "$(readlink "$root/var/lib/graftd/models/current.onnx")" = "$slot"

echo "purge"
within dpkg -P graftd >/dev/null 2>&1
check "the configuration with its secrets is gone" no there /etc/graftd
check "the state is gone" no there /var/lib/graftd
check "the user stays" within id graftd
everything >"$work/after"
# Users leave backups of the files that hold them; systemd remembers what was enabled.
left=$(comm -13 "$work/before" "$work/after" | grep -vE '^\./etc/(passwd|group|shadow|gshadow)-?$|^\./etc/\.pwd\.lock$|/__pycache__' || true)
check "nothing else is left${left:+: $left}" test -z "$left"
gone=$(comm -23 "$work/before" "$work/after" || true)
check "nothing else is gone${gone:+: $gone}" test -z "$gone"
echo "deb-test: $(basename "$deb"): $passed passed"
