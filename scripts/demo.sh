#!/usr/bin/env bash
# Shows the whole loop on a throwaway PostgreSQL server with the sample application under write load: init, backup, list,
# verify, drill, restore, and a drill of a damaged copy, which must fail. Needs root; installs what is missing; stops
# and removes everything it started, but the proof reports in demo-out/.
#
#   SIZE=50MB scripts/demo.sh     how large the sample's database is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD size=${SIZE:-50MB} began=$SECONDS

if [[ -t 1 ]]; then bold=$'\e[1m' green=$'\e[32m' dim=$'\e[2m' off=$'\e[0m'; else bold='' green='' dim='' off=''; fi
section() { printf '\n%s== %s%s\n' "$bold" "$1" "$off"; [[ -z ${2:-} ]] || printf '%s%s%s\n' "$dim" "$2" "$off"; }
run() { # shows a command as one could type it, and runs it
  local words=''
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9@%+=:,./_-]+$ ]]; then words+=" $word"; else words+=" '${word//\'/\'\\\'\'}'"; fi
  done
  printf '%s$%s%s\n' "$green" "$words" "$off"
  "$@"
}
fail() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

work='' started=()
finish() {
  local status=$?
  trap - EXIT
  for process in "${started[@]}"; do
    kill "$process" 2>/dev/null || continue
    while kill -0 "$process" 2>/dev/null; do sleep 0.1; done
  done
  # The files of the demo tell what went wrong.
  if ((status && status != 130)) && [[ -n $work ]]; then echo "demo: failed with status $status; its files are in $work" >&2; else rm -rf "$work"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

section 'Installing what is missing'
testbed/install.sh demo
[[ -x bin/holdfast ]] || make build
work=$(mktemp -d /tmp/holdfast-demo.XXXXXX)
chmod 755 "$work"
go build -o "$work/bin/" ./cmd/sampleapp ./internal/testbed/cmd/throwaway
mkdir -p demo-out
reports=$root/demo-out
began_work=$SECONDS
export PATH=$root/bin:$work/bin:$PATH
# Nothing of this machine's own holdfast or PostgreSQL settings takes part.
for name in $(compgen -e | grep -E '^(HOLDFAST_|PG)' | grep -v '^HOLDFAST_TESTBED$' || true); do unset "$name"; done
cd "$work"

major=$(for installed in /usr/lib/postgresql/*; do echo "${installed##*/}"; done | sort -n | tail -n 1)
section "A PostgreSQL $major server and the sample application" \
  "Made for this demo, gone afterwards: a database of $size, a SQLite file, and the files of a Node service."
mkfifo address
# The inputs of both helpers end with this shell, however that ends.
exec {server_input}> >(exec throwaway -major "$major" -dir "$work/pg" >address)
started+=($!)
read -r server <address
url=${server/\/postgres\?/\/sample\?}
run sampleapp create -url "$url" -dir app -size "$size"
exec {writer_input}> >(exec sampleapp write -url "$url" -sqlite app/db/auth.db -rate 20 {server_input}>&-)
writer=$!
started=("$writer" "${started[@]}")
echo 'From here on a writer keeps changing both databases, 20 transactions a second each.'

section 'Setting up' 'Keys, a store, a configuration, a recovery sheet. In real life operator/ leaves this machine now.'
run holdfast init --config holdfast.yaml --state state --store store --job app --host demo --identity-out operator/identity.txt --yes \
  --source "db=$url" --source auth=sqlite:app/db/auth.db --source config=files:app/config --source data=files:app/data \
  --source secrets=secrets:app/.env
export HOLDFAST_CONFIG=$work/holdfast.yaml

section 'Backing up' 'One consistent view of each source, read once, counted, hashed, compressed, sealed; the application goes on writing.'
run holdfast backup app --reason 'before release 4'
run holdfast list

section 'Verifying' 'Every stored object is read, decrypted and compared with its recorded digest.'
run holdfast verify --level L2 --identity operator/identity.txt

section 'The drill' 'Restored into a server of its own without network, and compared: every row, sequence, large object, definition and file.'
run holdfast drill --identity operator/identity.txt --report "$reports"
run holdfast list

section 'Restoring' 'Into a new database and a new folder, while the application runs.'
run mkdir restored
run holdfast restore --latest --identity operator/identity.txt --to "db=${server/\/postgres\?/\/sample_restored\?}" \
  --to auth=restored/auth.db --to config=restored/config --to data=restored/data --to secrets=restored/secrets --confirm RESTORE
run psql -X -d "${server/\/postgres\?/\/sample_restored\?}" -c 'SELECT count(*) AS operations, max(created_at) AS newest FROM app.operations'
run sqlite3 restored/auth.db 'PRAGMA integrity_check'

section 'Damage' 'One bit in the middle of the copied store flips, as disks do. The drill must fail, with exit code 4, and name the damage.'
run cp -a store damaged
victim=$(find damaged -name 'db.sql.zst.age*' -type f | sort | head -n 1)
[[ -n $victim ]] || fail 'the dump of the database is not in the store'
offset=$(($(stat -c %s "$victim") / 2))
byte=$(od -An -tu1 -j "$offset" -N 1 "$victim" | tr -d ' ')
chmod u+w "$victim"
printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$victim" bs=1 seek="$offset" conv=notrunc status=none
echo "flipped a bit of byte $offset of $victim"
status=0
run holdfast drill --store ./damaged --identity operator/identity.txt --report "$reports/damaged" 2>&1 | tee damaged.txt || status=${PIPESTATUS[0]}
((status == 4)) || fail "the drill of the damaged copy ended with $status, not 4"
grep -q "$(basename "$victim")" damaged.txt || fail "the drill of the damaged copy does not name $(basename "$victim")"

kill -0 "$writer" 2>/dev/null || fail 'the writer ended before its time: the backup was not made under load'
section 'Done' "The backup is proven, and the damaged copy was found out. $((SECONDS - began_work)) s, and $((began_work - began)) s to install and build."
echo "Proof reports: $reports"
find "$reports" -type f -newer "$work/holdfast.yaml" | sort | sed 's/^/  /'
