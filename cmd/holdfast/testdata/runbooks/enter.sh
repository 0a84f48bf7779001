#!/bin/bash
# enter.sh FOLDER MEDIA SCRIPT: runs a script on a machine of its own: the files of this one, which it can change as it likes,
# no network but its own, no process that outlives it. MEDIA is what is carried from one machine to the next, at /mnt.
set -euo pipefail
folder=$1 media=$2 script=$3
mount --make-rprivate /
mount -t tmpfs -o size=3g,mode=755 tmpfs "$folder"
mkdir "$folder"/{upper,work,root}
mount -t overlay overlay -o "redirect_dir=on,lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t proc proc proc
mount --rbind /sys sys
mkdir -p mnt old-root
mount --bind "$media" mnt
pivot_root . old-root
umount -l /old-root
cd /
ip link set lo up
exec env -i HOME=/root USER=root LOGNAME=root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash "$script"
