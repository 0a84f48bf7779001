package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/seal"
)

const whole = `version: 1
host: web1
state: /var/lib/hf
log: {file: log/holdfast.log}
keys:
  ops: {recipient: ` + recipient + `, holder: "Anna, +49", expires: 2027-11-22, created: 2026-01-02, retired: [{ids: [age1a, age1b], holder: Otto, since: 2024-01-01, until: 2026-01-02}]}
  pw: {passphrase: {file: /etc/holdfast/pass}}
stores:
  main: {kind: local, path: /srv/backups}
sources:
  db:
    kind: postgres
    host: /var/run/postgresql
    port: 5433
    user: app user
    database: 0123
    sslmode: disable
    password: env:DB_PASSWORD
    exclude_tables: [a, "b*"]
    globals: false
    lock_wait: 10s
  auth: &sqlite {kind: sqlite, path: auth.db}
  auth2: {<<: *sqlite, path: auth2.db, max_lock: 1h30m}
  config: {kind: files, paths: [/etc/nginx, {path: /srv/x.js, optional: true}], exclude: [node_modules, preset:caches], one_filesystem: false}
jobs:
  app:
    sources: [db, auth, config]
    store: main
    recipients: [ops]
    compression: gzip
    level: 6
    workers: 2
    drill: {scratch: /mnt/scratch, every: 2w, assertions: [{source: db, sql: select true}], bin_dirs: [/usr/lib/postgresql/17/bin]}
  pass: {sources: [auth2], store: main, recipients: [pw]}
  open: {sources: [auth2], store: main, seal: none, compression: none}
`

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("/etc/hf/holdfast.yaml", []byte(text), noEnv, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func resolve(t *testing.T, in config.Inputs) *config.Config {
	t.Helper()
	in.Now = now
	c, err := config.Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shown returns the settings as lines, those that depend on the machine left out.
func shown(c *config.Config) string {
	var out strings.Builder
	for _, s := range c.Show() {
		fmt.Fprintf(&out, "%s = %s (%s)\n", s.Path, s.Value, s.Origin)
	}
	return out.String()
}

func setting(t *testing.T, c *config.Config, path string) config.Setting {
	t.Helper()
	for _, s := range c.Show() {
		if s.Path == path {
			return s
		}
	}
	t.Fatalf("%s is not shown in:\n%s", path, shown(c))
	return config.Setting{}
}

func TestShowFile(t *testing.T) {
	const want = `host = web1 (/etc/hf/holdfast.yaml:2:7)
state = /var/lib/hf (/etc/hf/holdfast.yaml:3:8)
signer = /var/lib/hf/signer (default)
log.file = /etc/hf/log/holdfast.log (/etc/hf/holdfast.yaml:4:13)
audit.file = /var/lib/hf/audit.log (default)
audit.keep = 396d (default)
audit.syslog = auto (default)
service.workers = 2 (default)
service.retries = 2 (default)
service.retry_wait = 10m (default)
service.stall = 2h (default)
service.zone = local (default)
alarms.size = 30 (default)
alarms.duration = 3 (default)
alarms.disk_days = 14 (default)
alarms.key_days = 30 (default)
alarms.resend = 1d (default)
alarms.calm = 15m (default)
alarms.runbooks = docs/runbooks/alerts (default)
keys.ops.recipient = ` + recipient + ` (/etc/hf/holdfast.yaml:6:20)
keys.ops.holder = Anna, +49 (/etc/hf/holdfast.yaml:6:92)
keys.ops.created = 2026-01-02 (/etc/hf/holdfast.yaml:6:135)
keys.ops.expires = 2027-11-22 (/etc/hf/holdfast.yaml:6:114)
keys.ops.retired[0].ids = age1a, age1b (/etc/hf/holdfast.yaml:6:163)
keys.ops.retired[0].holder = Otto (/etc/hf/holdfast.yaml:6:187)
keys.ops.retired[0].since = 2024-01-01 (/etc/hf/holdfast.yaml:6:200)
keys.ops.retired[0].until = 2026-01-02 (/etc/hf/holdfast.yaml:6:219)
keys.pw.passphrase = file:/etc/holdfast/pass (/etc/hf/holdfast.yaml:7:20)
keys.pw.format = age (default)
stores.main.kind = local (/etc/hf/holdfast.yaml:9:16)
stores.main.path = /srv/backups (/etc/hf/holdfast.yaml:9:29)
sources.db.kind = postgres (/etc/hf/holdfast.yaml:12:11)
sources.db.optional = false (default)
sources.db.secret = false (default)
sources.db.host = /var/run/postgresql (/etc/hf/holdfast.yaml:13:11)
sources.db.port = 5433 (/etc/hf/holdfast.yaml:14:11)
sources.db.user = app user (/etc/hf/holdfast.yaml:15:11)
sources.db.database = 0123 (/etc/hf/holdfast.yaml:16:15)
sources.db.sslmode = disable (/etc/hf/holdfast.yaml:17:14)
sources.db.password = env:DB_PASSWORD (/etc/hf/holdfast.yaml:18:15)
sources.db.all_databases = false (default)
sources.db.exclude_tables = a, b* (/etc/hf/holdfast.yaml:19:21)
sources.db.globals = false (/etc/hf/holdfast.yaml:20:14)
sources.db.lock_wait = 10s (/etc/hf/holdfast.yaml:21:16)
sources.db.stall = 5m (default)
sources.auth.kind = sqlite (/etc/hf/holdfast.yaml:22:24)
sources.auth.optional = false (default)
sources.auth.secret = false (default)
sources.auth.path = /etc/hf/auth.db (/etc/hf/holdfast.yaml:22:38)
sources.auth.max_lock = 30s (default)
sources.auth2.kind = sqlite (/etc/hf/holdfast.yaml:22:24)
sources.auth2.optional = false (default)
sources.auth2.secret = false (default)
sources.auth2.path = /etc/hf/auth2.db (/etc/hf/holdfast.yaml:23:30)
sources.auth2.max_lock = 1h30m (/etc/hf/holdfast.yaml:23:50)
sources.config.kind = files (/etc/hf/holdfast.yaml:24:18)
sources.config.optional = false (default)
sources.config.secret = false (default)
sources.config.paths = /etc/nginx, /srv/x.js (optional) (/etc/hf/holdfast.yaml:24:32)
sources.config.exclude = node_modules, preset:caches (/etc/hf/holdfast.yaml:24:90)
sources.config.one_filesystem = false (/etc/hf/holdfast.yaml:24:137)
sources.config.tolerate_unreadable = false (default)
jobs.app.sources = db, auth, config (/etc/hf/holdfast.yaml:27:14)
jobs.app.store = main (/etc/hf/holdfast.yaml:28:12)
jobs.app.keep = everything: nothing is ever deleted (default)
jobs.app.recipients = ops (/etc/hf/holdfast.yaml:29:17)
jobs.app.seal = age (the recipients)
jobs.app.compression = gzip (/etc/hf/holdfast.yaml:30:18)
jobs.app.level = 6 (/etc/hf/holdfast.yaml:31:12)
jobs.app.workers = 2 (/etc/hf/holdfast.yaml:32:14)
jobs.app.schedule = never: it is run by hand (default)
jobs.app.drill.scratch = /mnt/scratch (/etc/hf/holdfast.yaml:33:22)
jobs.app.drill.allow_disk_scratch = false (default)
jobs.app.drill.every = 14d (/etc/hf/holdfast.yaml:33:43)
jobs.app.drill.bin_dirs = /usr/lib/postgresql/17/bin (/etc/hf/holdfast.yaml:33:103)
jobs.app.drill.container = auto (default)
jobs.app.drill.assertions[0].source = db (/etc/hf/holdfast.yaml:33:69)
jobs.app.drill.assertions[0].sql = select true (/etc/hf/holdfast.yaml:33:78)
jobs.app.drill.assertions[0].name = select true (default)
jobs.pass.sources = auth2 (/etc/hf/holdfast.yaml:34:19)
jobs.pass.store = main (/etc/hf/holdfast.yaml:34:35)
jobs.pass.keep = everything: nothing is ever deleted (default)
jobs.pass.recipients = pw (/etc/hf/holdfast.yaml:34:53)
jobs.pass.seal = age (the recipients)
jobs.pass.compression = zstd (default)
jobs.pass.level = 1 (default)
jobs.pass.workers = 0 (default)
jobs.pass.schedule = never: it is run by hand (default)
jobs.pass.drill.scratch = /dev/shm (default)
jobs.pass.drill.allow_disk_scratch = false (default)
jobs.pass.drill.every = 90d (default)
jobs.pass.drill.container = auto (default)
jobs.open.sources = auth2 (/etc/hf/holdfast.yaml:35:19)
jobs.open.store = main (/etc/hf/holdfast.yaml:35:35)
jobs.open.keep = everything: nothing is ever deleted (default)
jobs.open.seal = none (/etc/hf/holdfast.yaml:35:47)
jobs.open.compression = none (/etc/hf/holdfast.yaml:35:66)
jobs.open.level = 0 (default)
jobs.open.workers = 0 (default)
jobs.open.schedule = never: it is run by hand (default)
jobs.open.drill.scratch = /dev/shm (default)
jobs.open.drill.allow_disk_scratch = false (default)
jobs.open.drill.every = 90d (default)
jobs.open.drill.container = auto (default)
`
	if diff := cmp.Diff(want, shown(parse(t, whole))); diff != "" {
		t.Error(diff)
	}
}

func TestParsedValues(t *testing.T) {
	c := parse(t, whole)
	job, err := c.Job("app")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := job.Sources[0].Postgres.Conn, "host=/var/run/postgresql port=5433 user='app user' dbname=0123 sslmode=disable"; got != want {
		t.Errorf("connection is %q, want %q", got, want)
	}
	if got := job.Drill.Every; got != 14*24*time.Hour {
		t.Errorf("a drill is due every %v, want two weeks", got)
	}
	if job.Compression != seal.Gzip || job.Level != 6 || job.Workers != 2 || job.Store.Path != "/srv/backups" {
		t.Errorf("job is %+v", job)
	}
	if open, err := c.Job("open"); err != nil || open.Level != 0 || open.Seal != config.SealNone || len(open.Recipients) != 0 {
		t.Errorf("open job is %+v, %v", open, err)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if c.Store.Name != "main" {
		t.Errorf("the only store is not what commands work on: %+v", c.Store)
	}
}

func TestJobByName(t *testing.T) {
	c := parse(t, whole)
	for name, want := range map[holdfast.JobName]string{
		"":     "bad usage: several jobs are configured and none is named",
		"nope": `bad usage: job "nope" is not configured`,
	} {
		_, err := c.Job(name)
		if err == nil || err.Error() != want || !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("job %q: %v, want %s", name, err, want)
		}
		if hint := holdfast.Hint(err); !strings.Contains(hint, "app, open, pass") {
			t.Errorf("job %q: hint %q does not list the jobs", name, hint)
		}
	}
	single := parse(t, base+"jobs: {j: {sources: [db, env], store: main, recipients: [ops]}}\n")
	if job, err := single.Job(""); err != nil || job.Name != "j" {
		t.Errorf("the only job is not taken: %v, %v", job.Name, err)
	}
	if _, err := parse(t, "version: 1\n").Job(""); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("no job at all: %v", err)
	}
}

func TestStoreByName(t *testing.T) {
	c := parse(t, "version: 1\nstores: {b: {kind: local, path: /b}, a: {kind: local, path: a}}\n")
	if store, err := c.StoreNamed("a"); err != nil || store.Path != "/etc/hf/a" {
		t.Errorf("store a is %+v, %v", store, err)
	}
	for _, name := range []string{"", "c"} {
		_, err := c.StoreNamed(name)
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), "a, b") {
			t.Errorf("store %q: %v (%s)", name, err, holdfast.Hint(err))
		}
	}
	if _, err := parse(t, "version: 1\n").StoreNamed(""); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("no store at all: %v", err)
	}
}

func TestEnvironmentAlone(t *testing.T) {
	c, err := config.FromEnvironment([]string{
		"HOLDFAST_SOURCE=postgres://app:" + canary + "@/My_App?host=/run/pg\nservice=reports password='" + canary + "'\n",
		"HOLDFAST_STORE=/srv/backups", "HOLDFAST_RECIPIENT=" + recipient, "HOLDFAST_IDENTITY=/root/id",
		"HOLDFAST_COMPRESSION=gzip", "HOLDFAST_LEVEL=9", "HOLDFAST_STATE=/var/lib/hf", "HOLDFAST_HOST=web1",
		"HOLDFAST_LOG_FILE=/var/log/hf.log", "HOLDFAST_SCRATCH=/mnt/s", "HOLDFAST_SIGNER=/etc/signer",
		"PGSSLMODE=require", "PGPASSWORD=" + canary, "PGDATA=/x", "PGHOST=",
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	const want = `host = web1 (environment HOLDFAST_HOST)
state = /var/lib/hf (environment HOLDFAST_STATE)
signer = /etc/signer (environment HOLDFAST_SIGNER)
log.file = /var/log/hf.log (environment HOLDFAST_LOG_FILE)
audit.file = /var/lib/hf/audit.log (default)
audit.keep = 396d (default)
audit.syslog = auto (default)
service.workers = 2 (default)
service.retries = 2 (default)
service.retry_wait = 10m (default)
service.stall = 2h (default)
service.zone = local (default)
alarms.size = 30 (default)
alarms.duration = 3 (default)
alarms.disk_days = 14 (default)
alarms.key_days = 30 (default)
alarms.resend = 1d (default)
alarms.calm = 15m (default)
alarms.runbooks = docs/runbooks/alerts (default)
identity = /root/id (environment HOLDFAST_IDENTITY)
keys.recipient.recipient = ` + recipient + ` (environment HOLDFAST_RECIPIENT)
stores.default.kind = local (environment HOLDFAST_STORE)
stores.default.path = /srv/backups (environment HOLDFAST_STORE)
sources.my-app.kind = postgres (environment HOLDFAST_SOURCE)
sources.my-app.optional = false (default)
sources.my-app.secret = false (default)
sources.my-app.url = postgres://app@/My_App?host=/run/pg (environment HOLDFAST_SOURCE)
sources.my-app.password = ******** (environment HOLDFAST_SOURCE)
sources.my-app.all_databases = false (default)
sources.my-app.globals = true (default)
sources.my-app.lock_wait = 1m (default)
sources.my-app.stall = 5m (default)
sources.postgres.kind = postgres (environment HOLDFAST_SOURCE)
sources.postgres.optional = false (default)
sources.postgres.secret = false (default)
sources.postgres.url = service=reports (environment HOLDFAST_SOURCE)
sources.postgres.password = ******** (environment HOLDFAST_SOURCE)
sources.postgres.all_databases = false (default)
sources.postgres.globals = true (default)
sources.postgres.lock_wait = 1m (default)
sources.postgres.stall = 5m (default)
jobs.default.sources = my-app, postgres (environment HOLDFAST_SOURCE)
jobs.default.store = default (environment HOLDFAST_STORE)
jobs.default.keep = everything: nothing is ever deleted (default)
jobs.default.recipients = recipient (environment HOLDFAST_RECIPIENT)
jobs.default.seal = age (the recipients)
jobs.default.compression = gzip (environment HOLDFAST_COMPRESSION)
jobs.default.level = 9 (environment HOLDFAST_LEVEL)
jobs.default.workers = 0 (default)
jobs.default.schedule = never: it is run by hand (default)
jobs.default.drill.scratch = /mnt/s (environment HOLDFAST_SCRATCH)
jobs.default.drill.allow_disk_scratch = false (default)
jobs.default.drill.every = 90d (default)
jobs.default.drill.container = auto (default)
PGSSLMODE = require (environment PGSSLMODE)
PGPASSWORD = ******** (environment PGPASSWORD)
`
	if diff := cmp.Diff(want, shown(c)); diff != "" {
		t.Error(diff)
	}
	job, err := c.Job("")
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range job.Sources {
		password, err := src.Postgres.Password.Resolve(t.Context())
		if err != nil || password.Reveal() != canary {
			t.Errorf("the password of %s did not arrive: %v", src.Name, err)
		}
	}
	if c.PostgresPassword.Reveal() != canary {
		t.Error("PGPASSWORD did not arrive")
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v", c), fmt.Sprintf("%+v", *c), fmt.Sprintf("%#v", *c), string(raw), shown(c)} {
		if strings.Contains(text, canary) {
			t.Errorf("a secret shows in %s", text)
		}
	}
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(whole, "  pass: ", "  pass: &p ", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"HOLDFAST_CONFIG=" + file, "HOLDFAST_LEVEL=3", "HOLDFAST_COMPRESSION=zstd", "HOLDFAST_HOST=env", "HOLDFAST_STORE=/env/store"}
	tests := []struct {
		name        string
		in          config.Inputs
		path        string
		value, from string
	}{
		{"file", config.Inputs{Path: file}, "jobs.app.level", "6", file + ":31:12"},
		{"environment over file", config.Inputs{Environ: environ}, "jobs.app.level", "3", "environment HOLDFAST_LEVEL"},
		{"flag over environment", config.Inputs{Environ: environ, Flags: config.Flags{Level: 4}}, "jobs.app.level", "4", "flag --level"},
		{"flag over file", config.Inputs{Path: file, Flags: config.Flags{Host: "flag"}}, "host", "flag", "flag --host"},
		{"host of environment", config.Inputs{Environ: environ}, "host", "env", "environment HOLDFAST_HOST"},
		{"store's path of environment", config.Inputs{Environ: environ}, "stores.default.path", "/env/store", "environment HOLDFAST_STORE"},
		{"store of environment", config.Inputs{Environ: environ}, "jobs.app.store", "default", "environment HOLDFAST_STORE"},
		{"store by name", config.Inputs{Environ: environ, Flags: config.Flags{Store: "main"}}, "jobs.app.store", "main", "flag --store"},
		{"store by its other flag", config.Inputs{Path: file, Flags: config.Flags{To: "/to"}}, "stores.default.path", "/to", "flag --to"},
		{"recipient by key", config.Inputs{Path: file, Flags: config.Flags{Recipients: []string{"pw"}}}, "jobs.app.recipients", "pw", "flag --recipient"},
		{"scratch", config.Inputs{Path: file, Flags: config.Flags{Scratch: "/s"}}, "jobs.app.drill.scratch", "/s", "flag --scratch"},
		{"disk scratch", config.Inputs{Path: file, Flags: config.Flags{AllowDiskScratch: true}}, "jobs.app.drill.allow_disk_scratch", "true", "flag --allow-disk-scratch"},
		{"seal none drops recipients", config.Inputs{Path: file, Flags: config.Flags{Seal: "none"}}, "jobs.app.seal", "none", "flag --seal"},
		{"sources of a job", config.Inputs{Path: file, Flags: config.Flags{Job: "app", Sources: []string{"auth2"}}}, "jobs.app.sources", "auth2", "flag --source"},
		{"no file", config.Inputs{NoFile: true, Environ: environ}, "stores.default.path", "/env/store", "environment HOLDFAST_STORE"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := setting(t, resolve(t, test.in), test.path)
			if want := (config.Setting{Path: test.path, Value: test.value, Origin: test.from}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestSourcesByFlag(t *testing.T) {
	dir := t.TempDir()
	database := filepath.Join(dir, "Users & Co.sqlite3")
	if err := os.WriteFile(database, []byte("SQLite format 3\x00and so on"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		text, name string
		kind       holdfast.Kind
		environ    []string
	}{
		{"postgres://app@db.example.org:5432,db2.example.org:5433/shop", "shop", holdfast.KindPostgres, nil},
		{"postgresql:///?dbname=Grüße", "gr-e", holdfast.KindPostgres, nil},
		{"postgres://", "env-db", holdfast.KindPostgres, []string{"PGDATABASE=env_db"}},
		{"postgres://anna@h", "anna", holdfast.KindPostgres, nil},
		{"host=/run dbname = 'it''s' user=x", "", holdfast.KindPostgres, nil},
		{`host=/run dbname='it\'s'`, "it-s", holdfast.KindPostgres, nil},
		{database, "users-co", holdfast.KindSQLite, nil},
		{"sqlite:/nowhere/auth.db", "auth", holdfast.KindSQLite, nil},
		{"files:/nowhere/.env", "env", holdfast.KindFiles, nil},
		{"/", "files", holdfast.KindFiles, nil},
		{"sqlite:/x/" + strings.Repeat("long", 40) + ".db", strings.Repeat("long", 14), holdfast.KindSQLite, nil},
		{"db=postgres://app@h/shop", "db", holdfast.KindPostgres, nil},
		{"etc=/", "etc", holdfast.KindFiles, nil},
		{"env=secrets:/nowhere/.env", "env", holdfast.KindFiles, nil},
		{"secrets:/nowhere/tls", "tls", holdfast.KindFiles, nil},
		{"sslrootcert=/ca.pem dbname=shop", "shop", holdfast.KindPostgres, nil},
		{"service=shop dbname=app", "app", holdfast.KindPostgres, nil},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			src, err := config.SourceFromText(test.text, test.environ)
			if test.name == "" {
				if !errors.Is(err, holdfast.ErrUsage) {
					t.Fatalf("taken: %+v, %v", src, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(src.Name) != test.name || src.Kind != test.kind {
				t.Errorf("it is %s %s, want %s %s", src.Kind, src.Name, test.kind, test.name)
			}
			if want := strings.Contains(test.text, "secrets:"); src.Secret != want {
				t.Errorf("secret is %v", src.Secret)
			}
		})
	}

	c := resolve(t, config.Inputs{NoFile: true, Flags: config.Flags{
		Sources: []string{"sqlite:/a/x.db", "sqlite:/b/x.db"}, To: "backups", Recipients: []string{recipient, recipient}, Job: "mine",
	}})
	job, err := c.Job("")
	if err != nil {
		t.Fatal(err)
	}
	if job.Name != "mine" || job.Sources[0].Name != "x" || job.Sources[1].Name != "x-2" || !filepath.IsAbs(job.Store.Path) {
		t.Errorf("job is %+v", job)
	}
}

func TestIncompleteJob(t *testing.T) {
	c := resolve(t, config.Inputs{NoFile: true, Flags: config.Flags{Sources: []string{"sqlite:/a.db"}}})
	_, err := c.Job("")
	if !errors.Is(err, holdfast.ErrUsage) || err.Error() != "bad usage: job default has no store and no recipient" {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(holdfast.Hint(err), "--to DIR") || !strings.Contains(holdfast.Hint(err), "--recipient age1") {
		t.Errorf("hint %q", holdfast.Hint(err))
	}
	if len(c.Jobs) != 0 {
		t.Error("an incomplete job stands among the jobs")
	}
	open := resolve(t, config.Inputs{NoFile: true, Flags: config.Flags{Sources: []string{"sqlite:/a.db"}, To: "/x", Seal: "none"}})
	if job, err := open.Job(""); err != nil || job.Seal != config.SealNone {
		t.Errorf("got %+v, %v", job, err)
	}
}

func TestStoreAlone(t *testing.T) {
	c := resolve(t, config.Inputs{NoFile: true, Environ: []string{"HOME=/home/x"}, Flags: config.Flags{Store: "/srv/b", Scratch: "/s", AllowDiskScratch: true}})
	if store, err := c.StoreNamed(""); err != nil || store.Path != "/srv/b" {
		t.Errorf("store is %+v, %v", store, err)
	}
	if d := c.DrillFor("unknown"); d.Scratch != "/s" || !d.AllowDiskScratch || d.Every != 90*24*time.Hour {
		t.Errorf("drill of an unknown job is %+v", d)
	}
	if d := parse(t, whole).DrillFor("app"); d.Scratch != "/mnt/scratch" {
		t.Errorf("drill of a known job is %+v", d)
	}
}

func TestExpiry(t *testing.T) {
	text := func(date string) []byte {
		return []byte(strings.Replace(base, "equnujwj}", "equnujwj, expires: "+date+"}", 1) +
			"jobs: {j: {sources: [db, env], store: main, recipients: [ops]}}\n")
	}
	for date, want := range map[string][]string{
		"2026-11-22": {"key ops expires on 2026-11-22; make its successor now"},
		"2026-12-21": {"key ops expires on 2026-12-21; make its successor now"},
		"2027-02-01": nil,
	} {
		c, err := config.Parse("f.yaml", text(date), noEnv, now)
		if err != nil {
			t.Errorf("%s: %v", date, err)
			continue
		}
		if diff := cmp.Diff(want, c.Warnings); diff != "" {
			t.Errorf("%s: %s", date, diff)
		}
	}
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, text("2026-11-21"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := resolve(t, config.Inputs{Path: file, Seals: true})
	if diff := cmp.Diff([]string{"key ops expired on 2026-11-21"}, c.Warnings); diff != "" {
		t.Error(diff)
	}
	want := file + ":3:93: keys.ops.expires: the key expired on 2026-11-21, and job j seals to it; replace the key (`holdfast key rotate ops`) or extend the date"
	if err := c.MaySeal("j"); !errors.Is(err, holdfast.ErrUsage) || err.Error() != want {
		t.Errorf("an expired key may be sealed to: %v", err)
	}
}

// TestExpiryOfOneJob: one job's key must not keep another from its backup, and what replaces the key by hand counts.
func TestExpiryOfOneJob(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	text := strings.Replace(base, "keys:\n", "keys:\n  old: {recipient: "+recipient+", expires: 2020-01-31}\n", 1) +
		"jobs:\n  a: {sources: [db], store: main, recipients: [old]}\n  b: {sources: [db], store: main, recipients: [ops]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := resolve(t, config.Inputs{Path: file, Seals: true})
	if err := c.MaySeal("a"); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "expired on 2020-01-31") {
		t.Errorf("job a may seal to its expired key: %v", err)
	}
	if err := c.MaySeal("b"); err != nil {
		t.Errorf("job b may not seal: %v", err)
	}
	c = resolve(t, config.Inputs{Path: file, Seals: true, Flags: config.Flags{Recipients: []string{"ops"}}})
	if err := c.MaySeal("a"); err != nil {
		t.Errorf("job a may not seal to another key: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	c := resolve(t, config.Inputs{NoFile: true,
		Environ: []string{"HOLDFAST_COMPRESION=gzip", "HOLDFAST_SOMETHING_ELSE=1", "HOLDFAST_LEVEL=2"},
		Flags:   config.Flags{Sources: []string{"postgres://u:" + canary + "@h/d"}}})
	want := []string{
		"a password on the command line can be seen by everyone on this host while the command runs; use PGPASSWORD, a password file, or HOLDFAST_SOURCE",
		"the variable HOLDFAST_COMPRESION is not known and does nothing; did you mean HOLDFAST_COMPRESSION?",
	}
	if diff := cmp.Diff(want, c.Warnings); diff != "" {
		t.Error(diff)
	}
	unused := parse(t, base+"jobs: {j: {sources: [env], store: main, recipients: [ops]}}\n")
	if want := []string{"source db is in no job, so it is not backed up"}; !slices.Equal(unused.Warnings, want) {
		t.Errorf("warnings are %q", unused.Warnings)
	}
}

func TestSourcesByFlagLeaveTheOthersInTheirJob(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(base+"jobs: {j: {sources: [db, env], store: main, recipients: [ops], drill: {assertions: [{source: db, sql: select true}]}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := resolve(t, config.Inputs{Path: file, Flags: config.Flags{Job: "j", Sources: []string{"env"}}})
	job, err := c.Job("")
	if err != nil {
		t.Fatal(err)
	}
	if len(job.Sources) != 1 || job.Sources[0].Name != "env" || len(job.Drill.Assertions) != 0 || len(c.Warnings) != 0 {
		t.Errorf("job is %+v, warnings %q", job, c.Warnings)
	}
	other := resolve(t, config.Inputs{Path: file, Flags: config.Flags{Sources: []string{"db"}, Recipients: []string{"ops"}}})
	if job, err := other.Job(""); err != nil || job.Name != "default" || job.Store.Name != "main" || len(other.Jobs) != 2 {
		t.Errorf("job beside the file's is %+v, %v", job, err)
	}
}

func TestDefaultPath(t *testing.T) {
	if got := config.DefaultPath([]string{"XDG_CONFIG_HOME=/home/x/.c"}); filepath.Base(got) != "holdfast.yaml" || !filepath.IsAbs(got) {
		t.Errorf("default path is %q", got)
	}
	if got := config.DefaultPath([]string{"HOLDFAST_CONFIG=/c.yaml"}); got != "/c.yaml" {
		t.Errorf("path by variable is %q", got)
	}
}

func TestMissingFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	for name, in := range map[string]config.Inputs{
		"flag":     {Path: missing},
		"variable": {Environ: []string{"HOLDFAST_CONFIG=" + missing}},
		"folder":   {Path: t.TempDir()},
	} {
		_, err := config.Resolve(in)
		if !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%s: %v (%s)", name, err, holdfast.Hint(err))
		}
	}
}

func TestRecipientsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ops.pub")
	if err := os.WriteFile(file, []byte("# ops\n\n"+recipient+"\n"+recipient+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := parse(t, strings.Replace(base, "recipient: "+recipient, "recipient_file: "+file, 1)+
		"jobs: {j: {sources: [db, env], store: main, recipients: [ops]}}\n")
	if got := c.Jobs[0].Recipients[0]; !slices.Equal(got.Recipients, []string{recipient}) || got.File != file {
		t.Errorf("key is %+v", got)
	}
	byVariable := resolve(t, config.Inputs{NoFile: true, Environ: []string{"HOLDFAST_RECIPIENTS_FILE=" + file, "HOLDFAST_SOURCE=sqlite:/a.db", "HOLDFAST_STORE=/s"}})
	if job, err := byVariable.Job(""); err != nil || !slices.Equal(job.Recipients[0].Recipients, []string{recipient}) {
		t.Errorf("job is %+v, %v", job, err)
	}
}
