# A chmod and a chown that went too far, while users went on uploading.
before() {
  living
  facts >/tmp/before.facts
  systemctl stop app
  chown -R root:root /srv/app
  chmod -R 777 /srv/app
  echo 'uploaded meanwhile' >/srv/app/data/uploads/later.txt
}

after() {
  healthy
  [[ $(</srv/app/data/uploads/later.txt) == 'uploaded meanwhile' ]]
  rm /srv/app/data/uploads/later.txt
  facts >/tmp/after.facts
  diff /tmp/before.facts /tmp/after.facts
}
