#!/usr/bin/env bash
# Measures the service: what 500 idle jobs cost, how late what is due is started, how long Prometheus waits, and how long a start takes with
# years of history. Writes a Markdown table to standard output. Nothing here fails because something was slow.
#
#   JOBS=500 IDLE=310 bench/service.sh       what `make bench` does; IDLE seconds have one look at the stores in them
#
# HOLDFAST   the binary to measure (default bin/holdfast)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-500} idle=${IDLE:-310} holdfast=${HOLDFAST:-$PWD/bin/holdfast}
[[ -x $holdfast ]] || make build >&2
work=$(mktemp -d /var/tmp/holdfast-bench-service.XXXXXX)
port=$((20000 + RANDOM % 20000)) service=0
finish() {
  ((service == 0)) || { kill "$service" 2>/dev/null && wait "$service" 2>/dev/null; } || true
  rm -rf "$work"
}
trap finish EXIT
say() { printf '%s\n' "$*" >&2; }
go build -o "$work/history" ./bench/cmd/history
mkdir -p "$work/tiny" && echo content >"$work/tiny/file"
recipient=$("$holdfast" key new --out "$work/identity.txt" 2>/dev/null | tail -n 1)

# configuration NAME COUNT WORKERS SCHEDULE: COUNT jobs of one tiny source.
configuration() {
  {
    printf 'version: 1\nhost: bench\nstate: %s\nservice: {listen: "127.0.0.1:%d", workers: %d}\n' "$work/$1" "$port" "$3"
    printf 'keys: {ops: {recipient: %s}}\nstores: {main: {kind: local, path: %s}}\nsources: {tiny: {kind: files, paths: [%s]}}\njobs:\n' "$recipient" "$work/$1-store" "$work/tiny"
    for n in $(seq 0 $(($2 - 1))); do
      printf '  job-%03d: {sources: [tiny], store: main, recipients: [ops], keep: {daily: 7}, schedule: {%s}}\n' "$n" "$4"
    done
  } >"$work/$1.yaml"
  "$holdfast" --config "$work/$1.yaml" -q backup job-000 --create-store >/dev/null
}

# start NAME: starts the service, and says how many milliseconds it took until it had looked at everything.
start() {
  local began=$(($(date +%s%N) / 1000000))
  "$holdfast" --config "$work/$1.yaml" serve 2>"$work/$1.log" &
  service=$!
  until curl -fs "http://127.0.0.1:$port/readyz" >/dev/null; do
    kill -0 "$service" || { cat "$work/$1.log" >&2; exit 1; }
    sleep 0.02
  done
  took=$(($(date +%s%N) / 1000000 - began))
}

stop() {
  kill "$service"
  wait "$service"
  service=0
}

ticks() { awk '{print $14 + $15}' "/proc/$service/stat"; }

printf '| of the service | measured | aim |\n|---|---|---|\n'

say "== $jobs idle jobs, $idle seconds"
later=$(date -d '+12 hours' '+%-M %-H')
configuration idle "$jobs" 2 "backup: \"$later * * *\", verify: \"$later * * *\", prune: \"$later * * *\""
start idle
sleep 20 # what a start costs is another number
before=$(ticks)
sleep "$idle"
after=$(ticks)
printf '| %d jobs idle for %d s, of one core | %s %% | under 1 %% |\n' "$jobs" "$idle" "$(awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v s="$idle" 'BEGIN {printf "%.2f", 100 * t / hz / s}')"
for _ in $(seq 20); do
  curl -s -o /dev/null -w '%{time_total}\n' "http://127.0.0.1:$port/metrics"
done | sort -n | awk -v n="$jobs" '{t[NR] = $1} END {printf "| /metrics with %d jobs: median, slowest of %d | %.1f ms, %.1f ms | under 50 ms |\n", n, NR, 1000 * t[int((NR + 1) / 2)], 1000 * t[NR]}'
printf '| memory of it, most | %d MB | under 120 MB |\n' "$(awk '/^VmHWM/ {print int($2 / 1024)}' "/proc/$service/status")"
stop

say "== $jobs jobs, each due once a minute"
configuration busy "$jobs" 8 'backup: "* * * * *", jitter: 55s, verify: never, prune: never, drill: never, drill_old: never, key_check: never'
start busy
sleep 150
stop
sed -nE 's/.*msg=started task=[^ ]*\/backup .* attempt=1 late=([0-9.]+)s.*/\1/p' "$work/busy.log" | tail -n +2 | sort -n |
  awk '{t[NR] = $1} END {printf "| due to started, %d runs of tiny backups, 8 workers: median, 99th percentile, most | %.1f s, %.1f s, %.1f s | under 2 s |\n", NR, t[int((NR + 1) / 2)], t[int(NR * 0.99)], t[NR]}'

# When the row was made, and when a worker had it, by the queue's own times. A worker was free when fewer than all were at something at the due time.
lateness() { # WHAT COLUMN CONDITION AIM
  sqlite3 "$work/busy/serve/queue.db" "WITH r AS (SELECT julianday(json_extract(args, '\$.due')) AS due, julianday(created_at) AS made, julianday(attempted_at) AS began,
    julianday(finalized_at) AS ended FROM river_job WHERE attempt = 1) SELECT ($2 - due) * 86400 FROM r WHERE $3 ORDER BY 1" |
    awk -v what="$1" -v aim="$4" '{t[NR] = $1} END {printf "| %s, %d runs: median, 99th percentile, most | %.3f s, %.3f s, %.3f s | %s |\n", what, NR, t[int((NR + 1) / 2)], t[int(NR * 0.99)], t[NR], aim}'
}
lateness 'due to ready' made 'made > 0' 'under 1 s'
lateness 'due to started, with a free worker' began '(SELECT count(*) FROM r AS o WHERE o.began <= r.due AND o.ended > r.due) < 8' 'under 2 s'

say '== a start with 10,000 runs of history'
configuration old 10 2 "backup: \"$later * * *\""
"$work/history" -state "$work/old" -count 10000 -jobs 10
start old
printf '| start with 10,000 runs of history, until everything was looked at | %d ms | under 2 s |\n' "$took"
stop
