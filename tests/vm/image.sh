#!/usr/bin/env bash
# Makes a Debian disk for a virtual machine, once: systemd, mosquitto, a kernel that has the camera `vivid`, and the
# guest's end of the shell that the tests speak to. Where it lies already nothing is done.
#   tests/vm/image.sh amd64|arm64 SUITE FOLDER
# FOLDER gets disk.img (ext4), vmlinuz and initrd.img.
set -euo pipefail
arch=$1 suite=$2 folder=$(realpath -m "$3")
cd "$(dirname "$0")"
# What is in the image: another line here makes it anew.
packages=systemd-sysv,udev,dbus,kmod,procps,iproute2,initramfs-tools,zstd,mosquitto,mosquitto-clients,v4l-utils,linux-image-$arch
recipe=$(cat image.sh shell.sh shell.service | sha256sum | cut -d' ' -f1)
if [ "$(cat "$folder/recipe" 2>/dev/null)" = "$recipe" ]; then
    exit 0
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
# The mirror that this machine itself installs from.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' | awk '$2 == "Debian" { print $1; exit }')
[ -n "$mirror" ] || { echo "image: apt knows no Debian mirror on this machine (run: apt-get update)" >&2; exit 2; }

if [ "$arch" = arm64 ] && [ "$(dpkg --print-architecture)" != arm64 ]; then
    # The packages' scripts run by emulation. The kernel is told how, unless it knows.
    register=/proc/sys/fs/binfmt_misc
    [ -e $register/register ] || "${as_root[@]}" mount -t binfmt_misc binfmt_misc $register
    if [ ! -e $register/qemu-aarch64 ]; then
        magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
        mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
        echo ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F" | "${as_root[@]}" tee $register/register >/dev/null
    fi
fi

echo "image: Debian $suite for $arch into $folder (some minutes)"
mkdir -p "$folder" "$folder/../packages"
root=$folder/root
"${as_root[@]}" rm -rf "$root"
failed() { tail -5 "$folder/debootstrap.log" >&2; exit 1; }
"${as_root[@]}" debootstrap --foreign --arch="$arch" --variant=minbase --cache-dir="$(realpath "$folder/../packages")" \
    --include="$packages" "$suite" "$root" "$mirror" >"$folder/debootstrap.log" || failed
# Before the kernel is set up: little is loaded before the disk. All that might be would take an hour to look for by
# emulation.
"${as_root[@]}" mkdir -p "$root/etc/initramfs-tools/conf.d"
echo MODULES=list | "${as_root[@]}" tee "$root/etc/initramfs-tools/conf.d/list" >/dev/null
printf 'virtio_pci\nvirtio_blk\next4\n' | "${as_root[@]}" tee "$root/etc/initramfs-tools/modules" >/dev/null
"${as_root[@]}" chroot "$root" /debootstrap/debootstrap --second-stage >>"$folder/debootstrap.log" || failed

"${as_root[@]}" install -m 755 shell.sh "$root/usr/local/sbin/test-shell"
"${as_root[@]}" install -m 644 shell.service "$root/etc/systemd/system/test-shell.service"
"${as_root[@]}" chroot "$root" bash -euc '
    echo board >/etc/hostname
    echo "127.0.0.1 localhost board" >/etc/hosts
    echo "/dev/vda / ext4 errors=remount-ro 0 1" >/etc/fstab
    mkdir -p /var/log/journal /host
    printf "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n" >/etc/systemd/network/any.network
    systemctl enable --quiet systemd-networkd test-shell
    systemctl mask --quiet systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer
    rm -rf /var/cache/apt/archives/*.deb
' >>"$folder/debootstrap.log" 2>&1
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd.img"
rm -f "$folder/disk.img"
truncate -s 6G "$folder/disk.img"
"${as_root[@]}" /usr/sbin/mke2fs -q -F -t ext4 -d "$root" "$folder/disk.img"
"${as_root[@]}" rm -rf "$root"
echo "$recipe" >"$folder/recipe"
