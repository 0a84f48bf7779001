#!/usr/bin/env bash
# packages.sh [demo]: installs the Debian packages that the tests use, or only those of the demo, without starting any
# service. Where Debian's PostgreSQL 15 is not to be had as a package, install.sh makes it like the newer ones.
set -euo pipefail
packages=(age gnupg zstd sqlite3 tar attr acl openssh-client openssh-server rsync ca-certificates util-linux procps)
if [[ ${1-} == demo ]]; then
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql postgresql-contrib)
else
  packages+=(nginx jq curl adduser iproute2 nodejs pgbouncer pigz xz-utils openssl debootstrap debian-archive-keyring patchelf strace tzdata docker.io prometheus prometheus-alertmanager prometheus-node-exporter systemd
    qemu-system-x86 qemu-utils cryptsetup-bin e2fsprogs xfsprogs kmod)
  if [[ -x /usr/lib/postgresql/15/bin/initdb ]] || apt-cache show postgresql-15 >/dev/null 2>&1; then
    packages+=(postgresql-15 postgresql-client-15)
  fi
  command -v npm >/dev/null || packages+=(npm)
fi

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == 'install ok installed' ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

# Debian would make a cluster and start it, and start pgbouncer and nginx: nothing of that is wanted.
if [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
  mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold "${missing[@]}"
