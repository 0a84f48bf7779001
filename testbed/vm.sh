#!/usr/bin/env bash
# vm.sh: what a virtual machine starts from, into the cache: vm/kernel, vm/initrd, and vm/root.img, the disk of a small Debian with
# systemd, cryptsetup, file systems and PostgreSQL 15. Machines write to layers of their own above that disk. Any kernel that
# lacks device mapper, such as a container host's, can so be tested on; nothing of it is installed here.
set -euo pipefail
cache=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}
target=$cache/vm
here=$(sha256sum "${BASH_SOURCE[0]}")
[[ -e $target/root.img && $(cat "$target/made-by" 2>/dev/null) == "${here%% *}" ]] && exit 0

suite=bookworm
packages=systemd,systemd-sysv,udev,kmod,util-linux,util-linux-extra,mount,procps,fdisk,dmsetup,cryptsetup-bin,e2fsprogs,xfsprogs,rsync,sqlite3,postgresql-15,busybox-static
work=$(mktemp -d "$cache/vm.XXXXXX")
root=$work/root new=$work/new
# An interrupted debootstrap leaves the host's own proc and sys mounted there.
trap 'umount -q -R "$root/proc" "$root/sys" || true; rm -rf --one-file-system "$work"' EXIT
mkdir -p "$new"

# The machine's programs. No cluster is made by the package, no documents are unpacked, and no file waits for the disk.
mkdir -p "$root/etc/postgresql-common" "$root/etc/dpkg/dpkg.cfg.d"
echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
printf '%s\n' force-unsafe-io path-exclude=/usr/share/{locale,man,doc,info}/'*' >"$root/etc/dpkg/dpkg.cfg.d/small"
script=/usr/share/debootstrap/scripts/$suite
[[ -e $script ]] || script=/usr/share/debootstrap/scripts/sid
debootstrap --variant=minbase --include="$packages" "$suite" "$root" http://deb.debian.org/debian "$script" >"$work/log" 2>&1 ||
  { cat "$work/log" "$root/debootstrap/debootstrap.log" >&2; exit 1; }

# The kernel is unpacked alone: its package would make an initrd, and look for a boot loader.
kernel=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ {print $2; exit}')
chroot "$root" bash -c "cd /tmp && apt-get -qq download $kernel" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
dpkg -x "$root"/tmp/linux-image-*.deb "$work/kernel"
mv "$work"/kernel/boot/vmlinuz-* "$new/kernel"
version=${kernel#linux-image-}
modules=lib/modules/$version
mkdir -p "$root/usr/$modules/kernel/drivers"
for folder in arch block crypto fs lib drivers/{block,char,crypto,md,virtio}; do
  [[ ! -d $work/kernel/$modules/kernel/$folder ]] || cp -a "$work/kernel/$modules/kernel/$folder" "$root/usr/$modules/kernel/$folder"
done
cp "$work/kernel/$modules"/modules.{order,builtin*} "$root/usr/$modules/"
rm -rf "$root/usr/$modules/kernel/arch/x86/kvm" "$root/usr/$modules"/kernel/fs/{btrfs,ceph,cifs,gfs2,nfs,nfsd,ocfs2,smb,ubifs,udf}
depmod -b "$root" "$version"

# What is of no use to a test: the just-in-time compiler's 130 MB, Python, lists of packages.
rm -rf "$root"/usr/lib/x86_64-linux-gnu/lib{LLVM,z3}* "$root"/usr/lib/postgresql/15/lib/{llvmjit*,bitcode,pgxs} "$root"/usr/lib/python3* \
  "$root"/usr/share/{locale,man,doc,info,i18n,python3,zoneinfo/right} "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log \
  "$root"/tmp/* "$root/debootstrap"

# How it runs. Whatever waits for a terminal, a network or a time of day would only slow each start.
echo vm >"$root/etc/hostname"
echo '127.0.0.1 localhost vm' >"$root/etc/hosts"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
: >"$root/etc/fstab"
: >"$root/etc/resolv.conf"
for unit in getty.target getty-static.service serial-getty@ttyS0.service systemd-timesyncd.service systemd-networkd.service systemd-pstore.service apt-daily.timer \
  apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer xfs_scrub_all.timer systemd-firstboot.service \
  systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
  sys-kernel-debug.mount sys-kernel-tracing.mount; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
mkdir -p "$root/usr/lib/vm" "$root/etc/systemd/system/multi-user.target.wants"
cat >"$root/etc/systemd/system/vmagent.service" <<'UNIT'
[Unit]
Description=The tests' agent
FailureAction=poweroff

[Service]
ExecStart=/run/vmagent

[Install]
WantedBy=multi-user.target
UNIT
ln -sf ../vmagent.service "$root/etc/systemd/system/multi-user.target.wants/vmagent.service"

# The other way to run it: busybox is the first process, and no udev and no systemd are there.
cat >"$root/etc/inittab" <<'INITTAB'
::sysinit:/usr/lib/vm/setup
::once:/usr/lib/vm/agent
::ctrlaltdel:/bin/busybox reboot
::shutdown:/bin/busybox umount -a -r
INITTAB
cat >"$root/usr/lib/vm/setup" <<'SETUP'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
install -d -o postgres -g postgres -m 2775 /run/postgresql
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
hostname vm
busybox ip link set lo up
for module in loop dm-mod dm-crypt xts aesni_intel xfs; do
  modprobe -q "$module" # aesni_intel asks for a processor that has it
done
exit 0
SETUP
cat >"$root/usr/lib/vm/agent" <<'AGENT'
#!/bin/sh
/run/vmagent
# Without it nobody hears of this machine: its end is what is seen.
exec busybox poweroff -f
AGENT
chmod 755 "$root/usr/lib/vm/setup" "$root/usr/lib/vm/agent"

# The first file system: it loads what is needed to see disks, and hands over to the disk's. The agent comes on a disk of its own,
# so that it is always the one of the tests that run.
initrd=$work/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,root,modules}
cp "$root/bin/busybox" "$initrd/bin/"
for module in virtio_pci virtio_blk virtio_console; do
  modprobe -d "$root" -S "$version" --show-depends "$module" | awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r file; do
  cp "$file" "$initrd/modules/"
  basename "$file" >>"$initrd/modules/order"
done
cat >"$initrd/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
fail() {
  echo "vm: $1"
  exec $b poweroff -f
}
$b mount -t devtmpfs devtmpfs /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
for file in $($b cat /modules/order); do
  $b insmod "/modules/$file" || fail "load $file"
done
$b mount -t ext4 /dev/vda /root || fail "mount the disk"
for place in dev proc sys; do
  $b mount -o move /$place /root/$place
done
$b mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /root/run
for disk in /root/sys/block/vd*; do
  [ "$($b cat "$disk/serial")" = agent ] && $b cat "/root/dev/${disk##*/}" >/root/run/vmagent
done
$b chmod 755 /root/run/vmagent || fail "no agent"
case " $($b cat /root/proc/cmdline) " in
*" vm.init=systemd "*) exec $b switch_root /root /lib/systemd/systemd ;;
*) exec $b switch_root /root /bin/busybox init ;;
esac
INIT
chmod 755 "$initrd/init"
(cd "$initrd" && find . | LC_ALL=C sort | bin/busybox cpio -o -H newc) >"$new/initrd"

# Room for what tests write; what is not written takes none.
truncate -s 4G "$new/root.img"
mkfs.ext4 -q -F -L vm -m 0 -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$new/root.img"
echo "${here%% *}" >"$new/made-by"
rm -rf "$target"
mv -T "$new" "$target"
