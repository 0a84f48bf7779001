#!/usr/bin/env bash
# Measures holdfast against the usual tools on the sample application, in interleaved rounds on this machine, and writes
# Markdown tables to standard output; docs/benchmarks.md explains them. Every backup that is measured is then drilled.
# Nothing here fails because something was slow.
#
#   SIZE=1GB RUNS=3 bench/run.sh        what `make bench` does
#   make bench SIZE=10GB RUNS=1 PEERS=0 FILES=0    memory at ten times the size, without the slow peers and the files
#
# FILES, TREE   how many small files, of how many bytes together (45000, 943MB); FILES=0 leaves them out
# MANY          how many backups `key check` looks through (1000, real ones of a few bytes); 0 leaves it out
# OLD           how many old dumps `import` records (5000, gzip, 64 kB each); 0 leaves it out
# OFFSITE       size of what is streamed to S3 and mirrored, on loopback (1GB); 0 leaves it out
# LISTED        how many backups are listed from S3 (5000)
# SERVICE       0 leaves out the service (bench/service.sh), which takes nine minutes
# VOLUMES       0 leaves out volumes (bench/volume.sh), which take five
# PEERS         0 leaves out gzip|gpg, zstd|age and the plain restore
# WORK          folder for the server, the outputs and the store (default: one under /var/tmp, removed in the end)
# HOLDFAST      the binary to measure (default bin/holdfast)
# SCRATCH       folder that drill and plain restore both restore in (default /dev/shm)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
size=${SIZE:-1GB} runs=${RUNS:-3} files=${FILES:-45000} tree=${TREE:-943MB} many=${MANY:-1000} old=${OLD:-5000} peers=${PEERS:-1} scratch=${SCRATCH:-/dev/shm} offsite=${OFFSITE:-1GB} listed=${LISTED:-5000}
holdfast=${HOLDFAST:-$PWD/bin/holdfast}

say() { printf '%s\n' "$*" >&2; }

testbed/install.sh demo >&2
[[ -x $holdfast ]] || make build >&2
if [[ -n ${WORK:-} ]]; then
  mkdir -p "$WORK" && work=$(cd "$WORK" && pwd)
else
  work=$(mktemp -d /var/tmp/holdfast-bench.XXXXXX)
fi
chmod 755 "$work"
bin=$work/bin out=$work/measurements.jsonl plain=$scratch/holdfast-bench-plain.$$
export GNUPGHOME=$work/gnupg
servers=()
finish() {
  for server in "${servers[@]}"; do
    kill "$server" 2>/dev/null || continue
    while kill -0 "$server" 2>/dev/null; do sleep 0.1; done
  done
  if [[ -z ${WORK:-} ]]; then
    gpgconf --kill all 2>/dev/null || true
    rm -rf "$work"
  fi
}
trap finish EXIT

go build -o "$bin/" ./cmd/sampleapp ./bench/cmd/measure ./bench/cmd/manybackups ./internal/testbed/cmd/throwaway

# serve NAME DIR SETTING…: starts a cluster and puts the address of its database postgres into $address.
serve() {
  local name=$1 dir=$2 set=()
  shift 2
  for setting in "$@"; do set+=(-set "$setting"); done
  mkfifo "$work/$name.url"
  # Its input ends with this shell, however that ends.
  exec {input}> >(exec "$bin/throwaway" -major 15 -dir "$dir" "${set[@]}" >"$work/$name.url")
  servers+=($!)
  read -r address <"$work/$name.url"
  rm "$work/$name.url"
}

measure() { # GROUP LABEL ROUND [-stored PATH] -- COMMAND…
  local group=$1 label=$2 round=$3
  shift 3
  "$bin/measure" run -out "$out" -group "$group" -label "$label" -round "$round" "$@"
}

pipe() { # a pipeline of the usual tools, every exit status of which counts
  local label=$1 round=$2 group=$3 stored=$4 pipeline=$5
  rm -f "$stored"
  measure "$group" "$label" "$round" -stored "$stored" -- bash -c "set -o pipefail; $pipeline"
}

say "== the sample application, $size"
serve source "$work/pg" shared_buffers=256MB max_wal_size=8GB
url=${address/\/postgres\?/\/sample\?}
"$bin/sampleapp" create -url "$url" -size "$size"
psql -X -q -d "$url" -c CHECKPOINT
export url work

mkdir -p "$work/key" "$work/out" "$GNUPGHOME"
chmod 700 "$GNUPGHOME"
age-keygen -o "$work/key/identity.txt" 2>/dev/null
recipient=$(age-keygen -y "$work/key/identity.txt")
gpg --batch --quiet --passphrase '' --quick-generate-key bench default default never 2>/dev/null
gpg --batch --quiet --armor --output "$work/key/bench.asc" --export bench
(umask 077 && gpg --batch --quiet --armor --output "$work/key/bench.key" --export-secret-keys bench)
export recipient
((files == 0)) || "$bin/sampleapp" tree -dir "$work/tree" -files "$files" -bytes "$tree"

cat >"$work/holdfast.yaml" <<YAML
version: 1
host: bench
state: $work/state
keys:
  bench: {recipient: $recipient}
  gpg: {recipient_file: $work/key/bench.asc}
stores:
  main: {kind: local, path: $work/store}
sources:
  db: {kind: postgres, url: "$url"}
  tree: {kind: files, paths: [$work/tree]}
jobs:
  db: {sources: [db], store: main, recipients: [bench]}
  gpg: {sources: [db], store: main, recipients: [gpg]}
  tree: {sources: [tree], store: main, recipients: [bench]}
YAML

drill=("$holdfast" --config "$work/holdfast.yaml" -q drill --identity "$work/key/identity.txt" --report "$work/reports" --scratch "$scratch" --allow-disk-scratch)
backup=("$holdfast" --config "$work/holdfast.yaml" -q backup --create-store)
sealed=$work/out/sample.sql.zst.age

for round in $(seq "$runs"); do
  say "== database, round $round of $runs"
  measure database 'pg_dump >/dev/null' "$round" -- bash -c 'pg_dump "$url" >/dev/null'
  if ((peers)); then
    pipe 'pg_dump | gzip | gpg -e' "$round" database "$work/out/sample.sql.gz.gpg" \
      'pg_dump "$url" | gzip | gpg --batch --trust-model always -e -r bench -o "$work/out/sample.sql.gz.gpg"'
    pipe 'pg_dump | zstd -1 -T2 | age' "$round" database "$sealed" \
      'pg_dump "$url" | zstd -q -1 -T2 | age -r "$recipient" -o "$work/out/sample.sql.zst.age"'
  fi
  rm -rf "$work/store"
  measure database 'holdfast backup' "$round" -stored "$work/store" -- "${backup[@]}" db
  if ((peers)); then
    measure database 'holdfast backup, OpenPGP' "$round" -stored "$work/store/data/gpg" -- "${backup[@]}" gpg
    measure drill 'holdfast drill, OpenPGP' "$round" -apart pg_dump,pg_dumpall,psql,postgres,initdb -- "${drill[@]}" --job gpg --identity "$work/key/bench.key"
  fi
  measure drill 'holdfast drill' "$round" -apart pg_dump,pg_dumpall,psql,postgres,initdb -- "${drill[@]}" --job db
done

if ((peers)); then
  # The settings of a drill's own server.
  serve plain "$plain" fsync=off synchronous_commit=off full_page_writes=off wal_level=minimal max_wal_senders=0 \
    archive_mode=off autovacuum=off max_wal_size=8GB checkpoint_timeout=1h shared_buffers=256MB maintenance_work_mem=256MB \
    dynamic_shared_memory_type=mmap max_locks_per_transaction=1024 jit=off
  target=${address/\/postgres\?/\/restored\?}
  export target
  pg_dumpall --globals-only -d "$url" | grep -v '^CREATE ROLE postgres;' | psql -X -q -v ON_ERROR_STOP=1 -d "$address" >/dev/null
  for round in $(seq "$runs"); do
    say "== plain restore, round $round of $runs"
    psql -X -q -d "$address" -c 'DROP DATABASE IF EXISTS restored' -c "CREATE DATABASE restored TEMPLATE template0 ENCODING 'UTF8'" 2>/dev/null
    measure drill 'age -d | zstd -d | psql, then pg_dump >/dev/null' "$round" -- bash -c 'set -o pipefail
      age -d -i "$work/key/identity.txt" "$work/out/sample.sql.zst.age" | zstd -q -d | psql -X -q -v ON_ERROR_STOP=1 -o /dev/null -d "$target"
      pg_dump "$target" >/dev/null'
  done
fi

if ((files)); then
  for round in $(seq "$runs"); do
    say "== $files small files, round $round of $runs"
    pipe 'tar | zstd -1 -T2 | age' "$round" 'small files' "$work/out/tree.tar.zst.age" \
      'tar -C "$work" -c tree | zstd -q -1 -T2 | age -r "$recipient" -o "$work/out/tree.tar.zst.age"'
    rm -rf "$work/store"
    measure 'small files' 'holdfast backup of the files' "$round" -stored "$work/store" -- "${backup[@]}" tree
    measure 'small files' 'holdfast drill of the files' "$round" -- "${drill[@]}" --job tree
  done
fi

if ((many)); then
  say "== key check on $many backups"
  "$bin/manybackups" -store "$work/many" -recipient "$recipient" -count "$many"
  for round in $(seq "$runs"); do
    measure 'key check' "holdfast key check, $many backups of 3 jobs" "$round" -- \
      "$holdfast" --state "$work/state" -q key check --store "$work/many" --identity "$work/key/identity.txt"
  done
fi

if ((old)); then
  say "== import of $old files"
  mkdir -p "$work/old"
  set +o pipefail # pg_dump is not read to its end
  pg_dump "$url" 2>/dev/null | head -c 200000 | gzip >"$work/old.sql.gz"
  set -o pipefail
  truncate -s 64K "$work/old.sql.gz"
  for i in $(seq "$old"); do
    printf -v name 'app_20260101_%06d.sql.gz' "$i"
    cp "$work/old.sql.gz" "$work/old/$name"
  done
  for round in $(seq "$runs"); do
    rm -rf "$work/imports"
    import=("$holdfast" --state "$work/state" -q import "$work/old" --store "$work/imports" --create-store)
    measure import "holdfast import, $old files" "$round" -stored "$work/imports" -- "${import[@]}"
    measure import "holdfast import again, nothing new" "$round" -- "${import[@]}"
    measure import "holdfast list of them" "$round" -- "$holdfast" --state "$work/state" -q list --store "$work/imports"
  done
fi

if [[ $offsite != 0 ]]; then
  say "== off-site, $offsite through MinIO on loopback"
  cache=${HOLDFAST_TESTBED:-/var/cache/holdfast-testbed}
  HOLDFAST_TESTBED=$cache testbed/s3-servers.sh >&2
  command -v rclone >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rclone >&2
  port=$((20000 + RANDOM % 20000))
  unset AWS_CA_BUNDLE # rclone cannot start with it
  export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench-secret-key AWS_REGION=us-east-1
  MINIO_ROOT_USER=$AWS_ACCESS_KEY_ID MINIO_ROOT_PASSWORD=$AWS_SECRET_ACCESS_KEY \
    "$cache/bin/minio" server --quiet --address "127.0.0.1:$port" "$work/minio" >"$work/minio.log" 2>&1 &
  servers+=($!)
  until curl -fs "http://127.0.0.1:$port/minio/health/ready" >/dev/null; do sleep 0.2; done
  place() { printf 's3://bench/%s?endpoint=http://127.0.0.1:%s' "$1" "$port"; }
  export RCLONE_CONFIG_BENCH_TYPE=s3 RCLONE_CONFIG_BENCH_PROVIDER=Minio RCLONE_CONFIG_BENCH_ENV_AUTH=true RCLONE_CONFIG_BENCH_ENDPOINT=http://127.0.0.1:$port
  mkdir -p "$work/big"
  head -c "$(numfmt --from=iec "${offsite%B}")" /dev/urandom >"$work/big/noise"
  plainly=("$holdfast" --state "$work/state" -q)
  stream=("${plainly[@]}" backup --job big --source "files:$work/big" --recipient "$recipient" --compression none --create-store)
  same=(--transfers 1 --s3-upload-concurrency 4 --s3-chunk-size 16M)
  for round in $(seq "$runs"); do
    rm -rf "$work/store"
    measure off-site 'database to a folder' "$round" -stored "$work/store" -- "${backup[@]}" db
    measure off-site 'database to S3' "$round" -- "${backup[@]}" db --to "$(place "db$round")"
    measure off-site 'drill of the database from S3' "$round" -apart pg_dump,pg_dumpall,psql,postgres,initdb -- "${drill[@]}" --job db --store "$(place "db$round")"
    rclone purge "bench:bench/db$round"
    rm -rf "$work/bigstore"
    measure off-site 'holdfast backup to a folder' "$round" -stored "$work/bigstore" -- "${stream[@]}" --to "$work/bigstore"
    measure off-site 'holdfast backup to S3' "$round" -- "${stream[@]}" --to "$(place "stream$round")"
    measure off-site 'rclone copy' "$round" -- rclone copy "${same[@]}" "$work/bigstore" "bench:bench/rclone$round"
    measure off-site 'rclone check --download' "$round" -- rclone check --download "$work/bigstore" "bench:bench/rclone$round"
    measure off-site 'holdfast mirror, read back' "$round" -- "${plainly[@]}" mirror --from "$work/bigstore" --to "$(place "mirror$round")" --create-store
    measure off-site 'holdfast drill from S3' "$round" -- "${drill[@]}" --store "$(place "mirror$round")"
    rclone purge "bench:bench/stream$round" && rclone purge "bench:bench/rclone$round" && rclone purge "bench:bench/mirror$round"
  done
  "$bin/manybackups" -store "$work/listed" -recipient "$recipient" -count "$listed"
  rclone copy --transfers 16 "$work/listed" bench:bench/listed
  for round in $(seq "$runs"); do
    measure list "holdfast list, $listed backups in S3" "$round" -- "${plainly[@]}" list --store "$(place listed)"
    # It ends with 3: nothing of it was ever drilled.
    measure watch "holdfast watch --once, $listed backups in S3 (at most 5 s)" "$round" -- bash -c '"$@" || (($? == 3))' watch "${plainly[@]}" watch --once --store "$(place listed)"
  done
fi
decision=$(go test ./internal/retention -run '^$' -bench Decide10000 -count "$runs" | sed -nE 's/^BenchmarkDecide10000\S*\s+\S+\s+([0-9]+) ns.*/\1/p' | sort -n | awk '{printf "%s%d ms", sep, $1 / 1e6; sep = ", "}')

for round in $(seq 20); do
  measure start 'holdfast version' "$round" -- "$holdfast" version 2>/dev/null
done

printf 'Sample of %s, %s small files of %s; %s CPUs (%s), kernel %s, %s; %s\n\n' "$size" "$files" "$tree" "$(nproc)" \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(uname -r)" "$(pg_dump --version)" "$("$holdfast" version | head -n 1)"
"$bin/measure" report "$out" \
  -ratio 'holdfast / pg_dump, time (at most 1.5)=holdfast backup=pg_dump >/dev/null' \
  -ratio 'gzip and gpg / holdfast, time (at least 7)=pg_dump | gzip | gpg -e=holdfast backup' \
  -ratio 'gzip and gpg / holdfast with OpenPGP, time (at least 5)=pg_dump | gzip | gpg -e=holdfast backup, OpenPGP' \
  -ratio 'holdfast / zstd and age, time (at most 1)=holdfast backup=pg_dump | zstd -1 -T2 | age' \
  -size 'holdfast / gzip and gpg, stored bytes (at most 1.03)=holdfast backup=pg_dump | gzip | gpg -e' \
  -size 'holdfast / zstd and age, stored bytes=holdfast backup=pg_dump | zstd -1 -T2 | age' \
  -ratio 'drill / plain restore and dump, time (at most 1.25)=holdfast drill=age -d | zstd -d | psql, then pg_dump >/dev/null' \
  -ratio 'database to a folder / to S3, time (at least 0.8)=database to a folder=database to S3' \
  -ratio 'noise to a folder / to S3, time=holdfast backup to a folder=holdfast backup to S3' \
  -ratio 'rclone copy / holdfast mirror, which reads back, time (at least 0.9)=rclone copy=holdfast mirror, read back' \
  -ratio 'small files: holdfast / tar, zstd and age, time (at most 1.3)=holdfast backup of the files=tar | zstd -1 -T2 | age'
printf '\nA decision over 10,000 backups in each of three stores (at most 100 ms for 10,000): %s\n' "$decision"
printf 'bin/holdfast: %s bytes, %s\n' "$(stat -c %s "$holdfast")" "$(file -b "$holdfast" 2>/dev/null | grep -o 'statically linked' || echo 'linkage not known')"
if [[ ${SERVICE:-1} != 0 ]]; then
  printf '\n### The service\n\n'
  HOLDFAST=$holdfast bench/service.sh
fi
if [[ ${VOLUMES:-1} != 0 ]]; then
  printf '\n### Volumes\n\n'
  bench/volume.sh
fi
