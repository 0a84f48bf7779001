# What every machine has: the base of a Debian on which nothing of the application is.
bare() {
  cp "$FILES/systemctl" /usr/local/bin/systemctl
  chmod 755 /usr/local/bin/systemctl
  rm -f /etc/nginx/sites-enabled/default /run/nginx.pid
  pg_dropcluster --stop 15 main 2>/dev/null || true
}

# The application as it was on a good day, with its backups: the job of docs/runbooks/README.md.
living() {
  bare
  pg_createcluster 15 main --start >/dev/null
  runuser -u postgres -- createuser --superuser root
  createdb app
  adduser --system --group --quiet --no-create-home --home /srv/app app
  "$BIN/sampleapp" 'postgres:///app?host=/var/run/postgresql' /srv/app
  cp "$FILES/server.js" /srv/app/server.js
  printf 'NODE_ENV=production\nPORT=3000\nDATABASE_URL=postgres://sample_writer:sample@127.0.0.1/app\nSESSION_SECRET=canary-session\n' >/srv/app/.env
  rm -r /srv/app/deploy /srv/app/node_modules /srv/app/logs /srv/app/.cache /srv/app/.env.production
  chown -R app: /srv/app/db
  chmod 750 /srv/app/db
  chmod 640 /srv/app/db/auth.db
  install -d -m 700 /srv/app/secrets/tls
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=app.example.org -keyout /srv/app/secrets/tls/app.key -out /srv/app/secrets/tls/app.crt 2>/dev/null
  chmod 600 /srv/app/secrets/tls/app.key
  chown app: /srv/app/.env /srv/app/secrets
  chmod 750 /srv/app/secrets
  cat >/etc/nginx/sites-available/app.conf <<'SITE'
server {
  listen 127.0.0.1:443 ssl;
  server_name app.example.org;
  ssl_certificate /srv/app/secrets/tls/app.crt;
  ssl_certificate_key /srv/app/secrets/tls/app.key;
  location / { proxy_pass http://127.0.0.1:3000; }
}
SITE
  ln -s ../sites-available/app.conf /etc/nginx/sites-enabled/app.conf
  cat >/etc/systemd/system/app.service <<'UNIT'
[Unit]
Description=The application
After=network.target postgresql.service

[Service]
User=app
WorkingDirectory=/srv/app
EnvironmentFile=/srv/app/.env
ExecStart=/usr/bin/node server.js

[Install]
WantedBy=multi-user.target
UNIT
  systemctl start app
  systemctl start nginx
  install -d -m 755 /mnt/release /mnt/recovery
  tar -cf /mnt/release/app.tar -C /srv/app server.js package.json ecosystem.config.js

  # What init does by itself, with the configuration that the pages are about.
  install -m 755 "$BIN/holdfast" /usr/local/bin/holdfast
  cp "$BIN/holdfast" /mnt/recovery/holdfast
  install -d -m 755 /etc/holdfast
  cp "$FILES/holdfast.yaml" /etc/holdfast/holdfast.yaml
  holdfast key new -q -o /mnt/recovery/identity.txt >/etc/holdfast/ops.pub 2>/dev/null
  holdfast config check
  holdfast backup app -q --create-store
  echo "$(hostname) $(cut -d' ' -f1,2 /var/lib/holdfast/signer.pub)" >/mnt/recovery/allowed_signers
  holdfast drill -q --identity /mnt/recovery/identity.txt
  healthy
}

# healthy waits until the application answers through its web server.
healthy() {
  local try
  for ((try = 0; try < 600; try++)); do
    [[ $(curl -sk --resolve app.example.org:443:127.0.0.1 https://app.example.org/health) == *'"database":"ok"'* ]] && return
    sleep 0.1
  done
  echo "the application is not healthy: $(curl -sk http://127.0.0.1:3000/health); $(tail -n 5 /var/log/app.log)" >&2
  return 1
}

# facts writes down what must be the same afterwards: every row, every file with owner and mode.
facts() {
  psql -XAtq -d app <<'SQL'
SELECT count(*), md5(string_agg(u::text, ' ' ORDER BY id)) FROM app.users u;
SELECT count(*), sum(hashtext(o::text)) FROM app.operations o;
SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1;
SQL
  sqlite3 /srv/app/db/auth.db 'SELECT count(*), sum(length(value)) FROM settings' 'PRAGMA integrity_check'
  local path
  for path in /srv/app/config /srv/app/data /srv/app/.env /srv/app/secrets /srv/app/db/auth.db /etc/nginx /etc/holdfast /etc/systemd/system/app.service; do
    find "$path" -printf '%p %y %m %u:%g %l\n' | sort
    find "$path" -type f -not -name auth.db -print0 | sort -z | xargs -0 sha256sum
  done
}
