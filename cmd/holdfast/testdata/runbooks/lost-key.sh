# One of two copies cannot be found; what lies in its place is another key.
before() {
  living
  install -d -m 700 /mnt/old
  holdfast key new -q -o /mnt/old/identity.txt >/dev/null 2>&1
  cp /mnt/recovery/allowed_signers /mnt/old/
}

after() {
  healthy
  [[ ! -e /mnt/new-identity.txt ]]
  holdfast restore --latest --identity /mnt/safe-two/identity.txt --source secrets --to /dev/shm/after --confirm RESTORE --no-hooks
  cmp /dev/shm/after/srv/app/.env /srv/app/.env
}
