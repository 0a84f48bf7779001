#!/usr/bin/env bash
# Installs the Debian packages that the tests use, without starting any service.
set -euo pipefail
packages=(
  postgresql-15 postgresql-client-15 postgresql-contrib pgbouncer
  age gnupg zstd pigz xz-utils openssl tar
  sqlite3 attr acl openssh-client
  debootstrap debian-archive-keyring patchelf tzdata ca-certificates util-linux procps
)
command -v npm >/dev/null || packages+=(npm)

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == 'install ok installed' ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

# Debian would make a cluster and start it, and start pgbouncer: nothing of that is wanted.
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
