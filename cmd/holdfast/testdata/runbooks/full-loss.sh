# One machine lives, its store is copied away, and it is gone. The page begins on another one.
before() {
  living
  mkdir -p /mnt/copy
  cp -a /srv/backups /mnt/copy/backups
  facts >/mnt/before.facts
}

elsewhere() {
  bare
}

after() {
  healthy
  facts >/mnt/after.facts
  diff /mnt/before.facts /mnt/after.facts
}
