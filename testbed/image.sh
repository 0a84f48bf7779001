#!/usr/bin/env bash
# image.sh MAJOR SUITE: images/MAJOR.tar in the cache, the root file system of a container with PostgreSQL of a newer
# Debian: its programs, their libraries, a shell, and /entry, which makes a cluster and runs it. `docker import` takes it.
set -euo pipefail
major=$1 suite=$2
cache=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}
root=$cache/$suite
target=$cache/images/$major.tar
[[ -e $target ]] && exit 0
mkdir -p "$cache/images"
if [[ ! -x $root/usr/lib/postgresql/$major/bin/postgres ]]; then # made once, and thrown away since
  rm -rf "$cache/pg/$major"
  "$(dirname "${BASH_SOURCE[0]}")/postgres-debian.sh" "$major" "$suite"
fi

usr=usr/lib/postgresql/$major
programs=(usr/bin/{dash,sh,cat,mkdir,chmod,sleep,id,setpriv} usr/sbin/{groupadd,useradd})
loader=$root/usr/lib64/ld-linux-x86-64.so.2
libraries=$(for file in "$root/$usr"/bin/* "$root/$usr"/lib/*.so "${programs[@]/#/$root/}"; do
  [[ $file != */llvmjit* ]] || continue
  "$loader" --library-path "$root/usr/lib/x86_64-linux-gnu" --list "$file" 2>/dev/null || true # scripts are not listed
done | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u)

files=(bin lib lib64 sbin var/run etc/passwd etc/group usr/lib64/ld-linux-x86-64.so.2 "$usr/bin" "$usr/lib" "usr/share/postgresql/$major"
  usr/lib/locale/C.utf8 usr/share/zoneinfo/{UTC,Etc/UTC,Europe/Berlin} "${programs[@]}")
for library in $libraries; do # under the name by which it is looked for, and the file that this leads to
  files+=("${library#"$root"/}" "$(realpath --relative-to "$root" "$library")")
done
files+=("$(realpath --relative-to "$root" "$loader")")

extra=$(mktemp -d)
trap 'rm -rf "$extra"' EXIT
mkdir -p "$extra"/{tmp,proc,sys,dev,var/lib/postgresql/data,run/postgresql}
chmod 1777 "$extra/tmp"
chown -R "$(awk -F: '$1 == "postgres" {print $3 ":" $4}' "$root/etc/passwd")" "$extra/var/lib/postgresql" "$extra/run/postgresql"
cat >"$extra/entry" <<'ENTRY'
#!/bin/sh
# Runs a cluster as the user postgres, and makes it first if need be.
set -eu
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
  initdb --pgdata="$data" --username="${POSTGRES_USER:-postgres}" --auth-local="${AUTH:-trust}" --auth-host=reject \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
fi
exec postgres -D "$data" -c listen_addresses= -c unix_socket_directories="/var/run/postgresql${SOCKETS:-}" -c fsync=off -c shared_buffers=32MB -c max_connections=40 "$@"
ENTRY
chmod 755 "$extra/entry"

tar -C "$root" --exclude='llvmjit*' --exclude=bitcode --exclude=pgxs -cf "$target.new" \
  -T <(printf '%s\n' "${files[@]}" | sort -u)
tar -C "$extra" --numeric-owner -rf "$target.new" tmp proc sys dev var/lib/postgresql run entry
mv "$target.new" "$target"
