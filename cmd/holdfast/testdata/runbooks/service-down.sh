# At night somebody changed the site of the web server, and a migration dropped a table.
before() {
  living
  facts >/tmp/before.facts
  nginx -s stop
  while [[ -e /run/nginx.pid ]]; do sleep 0.05; done
  sed -i 's/proxy_pass/proxypass/' /etc/nginx/sites-available/app.conf
  psql -XAtq -d app -c 'DROP TABLE app.users CASCADE' 2>/dev/null
}

after() {
  healthy
  facts | grep -av 'app.conf.before_' >/tmp/after.facts
  diff /tmp/before.facts /tmp/after.facts
}
