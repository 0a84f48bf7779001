#!/usr/bin/env bash
# Measures what there is to measure of volumes without a device mapper, folder to folder on this machine, and writes Markdown tables to standard
# output: the copying of a migration beside rsync (clone.sh), a whole move of a server's directory by phases, and the parts of `volume create`
# that do not need the kernel. What an emulated machine takes means nothing. Nothing here fails because something was slow.
#
#   RUNS=3 bench/volume.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
testbed/install.sh >&2
bench/clone.sh

printf '\n| a move of a server with about 1 GB, folder to folder | |\n|---|---|\n'
go test ./internal/cli -run '^$' -bench '^BenchmarkMove$' -benchtime "${RUNS:-3}x" | awk '
  /^BenchmarkMove/ {
    for (i = 3; i < NF; i += 2) if ($(i + 1) !~ /op$/) printf "| %s | %s |\n", $(i + 1), $i
  }'

work=$(mktemp -d /var/tmp/holdfast-bench-volume.XXXXXX)
trap 'rm -rf "$work"' EXIT
seconds() {
  local began
  began=$(date +%s%N)
  "$@" >/dev/null 2>&1
  awk -v ns=$(($(date +%s%N) - began)) 'BEGIN {printf "%.2f", ns / 1e9}'
}
printf 'calamity capitol getting violet cruelly creature sister swinging' >"$work/one"
printf 'lividly backpedal buckshot poncho evolution flight tinsmith anvil' >"$work/two"
kdf=(--pbkdf argon2id --pbkdf-memory 1024 --pbkdf-force-iterations 4)
printf '\n| the parts of creating a volume of 1 GiB, without the key derivation | seconds |\n|---|---|\n'
printf '| the file, allocated | %s |\n' "$(seconds fallocate -l 1G "$work/vol")"
printf '| header with the first key | %s |\n' "$(seconds cryptsetup luksFormat --batch-mode --type luks2 --cipher aes-xts-plain64 --key-size 512 --key-file "$work/one" "${kdf[@]}" "$work/vol")"
printf '| second key | %s |\n' "$(seconds cryptsetup luksAddKey --batch-mode --key-file "$work/one" "${kdf[@]}" "$work/vol" "$work/two")"
printf '| ext4 on a plain file of that size, all tables written | %s |\n' "$(fallocate -l 1G "$work/plain" && seconds mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$work/plain")"
