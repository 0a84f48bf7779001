# A disk that dies: the SQLite file, the cluster's control file, and the newest backup are damaged.
before() {
  living
  facts >/tmp/before.facts
  systemctl stop app
  holdfast backup app -q --reason 'nobody knows yet'
  local object
  object=$(ls -d /srv/backups/data/app/* | tail -n 1)/db.sql.zst.age
  flip "$object" $(($(stat -c %s "$object") / 2))
  sqlite3 /srv/app/db/auth.db 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
  dd if=/dev/urandom of=/srv/app/db/auth.db bs=4096 seek=2 count=6 conv=notrunc status=none
  pg_ctlcluster 15 main stop
  dd if=/dev/zero of=/var/lib/postgresql/15/main/global/pg_control bs=512 count=1 conv=notrunc status=none
}

# flip FILE OFFSET: one bit, as a disk does it.
flip() {
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
  chmod u+w "$1"
  printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

after() {
  healthy
  facts >/tmp/after.facts
  diff /tmp/before.facts /tmp/after.facts
  [[ -e /srv/app/db/auth.db.damaged && -d /var/lib/postgresql/15/main.broken ]]
}
