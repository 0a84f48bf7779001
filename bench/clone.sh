#!/usr/bin/env bash
# Measures the copying of a volume's migration beside rsync, folder to folder on this machine, in interleaved rounds, and writes a Markdown table to standard
# output. Before each measurement, ours and rsync's, everything is written out and the page cache is dropped, which takes root. Nothing here fails because something was slow.
#
#   RUNS=3 bench/clone.sh
#
# SIZE    mebibytes of the tree, which is like a PostgreSQL data folder: segments, WAL and many small relations (1024)
# WORK    folder for it and its copies (default: one under /var/tmp, removed in the end)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-3} size=${SIZE:-1024}
if [[ -n ${WORK:-} ]]; then
  mkdir -p "$WORK" && work=$(cd "$WORK" && pwd)
else
  work=$(mktemp -d /var/tmp/holdfast-bench-clone.XXXXXX)
  trap 'rm -rf "$work"' EXIT
fi
say() { printf '%s\n' "$*" >&2; }
go build -o "$work/clonetree" ./bench/cmd/clonetree

# tree: half of it in one segment, a quarter in WAL of 16 MiB, the rest in 240 relations of all sizes and 800 files of one page.
say "== a tree of $size MiB"
from=$work/from
rm -rf "$from" "$work"/to-* && mkdir -p "$from/base/16384" "$from/base/1" "$from/pg_wal"
head -c $((size / 2))M /dev/urandom >"$from/base/16384/16400"
for n in $(seq $((size / 64))); do
  head -c 16M /dev/urandom >"$from/pg_wal/$(printf '00000001%016X' "$n")"
done
for n in $(seq 240); do
  head -c $((size * n / 120 * 1024 + 8192)) /dev/urandom >"$from/base/16384/$((20000 + n))"
done
for n in $(seq 800); do
  head -c 8192 /dev/urandom >"$from/base/1/$n"
done

cold() { sync && echo 3 >/proc/sys/vm/drop_caches; }
# timed COMMAND…: puts its seconds into $took.
timed() {
  local began=$(($(date +%s%N) / 1000000))
  "$@" >/dev/null
  took=$(awk -v ms=$(($(date +%s%N) / 1000000 - began)) 'BEGIN {printf "%.3f", ms / 1000}')
}

for round in $(seq "$runs"); do
  say "== round $round of $runs"
  rm -rf "$work"/to-* "$work/ledger"
  cold && timed rsync -aHAX --fsync "$from/" "$work/to-rsync/"
  rsync_copy=$took
  cold && read -r copy reread _ < <("$work/clonetree" -ledger "$work/ledger" "$from" "$work/to-clone")
  cold && timed rsync -aHAXc "$from/" "$work/to-rsync/"
  rsync_verify=$took
  # Without a ledger both sides are read, as rsync -c does.
  cold && read -r _ _ verify < <("$work/clonetree" "$from" "$work/to-clone")
  cold && read -r _ _ second < <("$work/clonetree" -ledger "$work/ledger" -still "$from" "$work/to-clone")
  diff -r "$from" "$work/to-clone"
  echo "$rsync_copy $copy $reread $rsync_verify $verify $second" | tee -a "$work/measurements" >&2
done

# column N: its values in order; ratio A B: of column A by column B, within each round, the median.
median() { sort -n | awk '{t[NR] = $1} END {print t[int((NR + 1) / 2)]}'; }
column() { awk -v c="$1" '{print $c}' "$work/measurements" | median; }
ratio() { awk -v a="$1" -v b="$2" '{printf "%.2f\n", $a / $b}' "$work/measurements" | median; }
printf '| %d MiB, %d rounds, median | seconds | times as fast as rsync | aim |\n|---|---|---|---|\n' "$size" "$runs"
printf '| `rsync -aHAX --fsync` | %s | | |\n| copy, until it is on the disk | %s | %s | 0.9 |\n' "$(column 1)" "$(column 2)" "$(ratio 1 2)"
printf '| the copy read again from the disk, after that | %s | | |\n' "$(column 3)"
printf '| `rsync -aHAXc` over the finished copy | %s | | |\n| both sides read and compared, without a ledger | %s | %s | 0.9 |\n' "$(column 4)" "$(column 5)" "$(ratio 4 5)"
printf '| second pass of an unchanged tree | %s | | under 3 s |\n' "$(column 6)"
