#!/usr/bin/env bash
# postgres-debian.sh MAJOR SUITE: the server and all clients of a PostgreSQL from a newer Debian, into pg/MAJOR of the
# cache, made to run here with its own loader and libraries. The folder needs nothing of the suite's root any more.
set -euo pipefail
major=$1 suite=$2
cache=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}
target=$cache/pg/$major
[[ -x $target/bin/postgres && -x $target/bin/pg_dump ]] && exit 0

root=$cache/$suite
if [[ ! -x $root/usr/lib/postgresql/$major/bin/postgres ]]; then
  rm -rf "$root" "$root.new"
  script=/usr/share/debootstrap/scripts/$suite
  [[ -e $script ]] || script=/usr/share/debootstrap/scripts/sid
  debootstrap --variant=minbase --include="postgresql-$major,postgresql-client-$major" \
    "$suite" "$root.new" http://deb.debian.org/debian "$script"
  mv -T "$root.new" "$root"
fi

# PostgreSQL finds its share folder relative to its programs only if the end of their path is the one it was built for.
rm -rf "$target.new"
usr=usr/lib/postgresql/$major
mkdir -p "$target.new/$usr" "$target.new/usr/share/postgresql" "$target.new/usr/lib/deps"
cp -a "$root/$usr/bin" "$root/$usr/lib" "$target.new/$usr/"
cp -a "$root/usr/share/postgresql/$major" "$target.new/usr/share/postgresql/"
ln -s "$usr/bin" "$target.new/bin"
# The just-in-time compiler would bring 130 MB of LLVM for nothing.
rm -rf "$target.new/$usr"/lib/{llvmjit*,bitcode}

loader=ld-linux-x86-64.so.2
libraries=$root/usr/lib/x86_64-linux-gnu
for file in "$target.new/$usr"/bin/* "$target.new/$usr"/lib/*.so; do
  "$root/usr/lib64/$loader" --library-path "$libraries" --list "$file" 2>/dev/null || true # scripts are not listed
done | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u | while read -r library; do
  cp -L "$library" "$target.new/usr/lib/deps/"
done
cp -L "$root/usr/lib64/$loader" "$target.new/usr/lib/deps/"
for file in "$target.new/$usr"/bin/*; do
  if [[ ! -L $file ]] && patchelf --print-interpreter "$file" >/dev/null 2>&1; then
    # An RPATH, unlike a RUNPATH, also serves the libraries that are loaded at run time.
    patchelf --set-interpreter "$target/usr/lib/deps/$loader" --force-rpath --set-rpath "$target/usr/lib/deps" "$file"
  fi
done
chmod -R a+rX "$target.new"
rm -rf "$target"
mv -T "$target.new" "$target"
