# Somebody has emptied the file of secrets, and the application does not start any more.
before() {
  living
  systemctl stop app
  printf 'PORT=3000\n' >/srv/app/.env
  chmod 644 /srv/app/.env
  rm /srv/app/secrets/tls/app.key
}

after() {
  systemctl restart nginx
  healthy
  [[ $(curl -s http://127.0.0.1:3000/health) == *'"session":true'* ]]
  # The old password opens nothing any more.
  ! psql -X -d postgres://sample_writer:sample@127.0.0.1/app -c 'SELECT 1' 2>/dev/null
  [[ ! -e /dev/shm/look ]]
}
