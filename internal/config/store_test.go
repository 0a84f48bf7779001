package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/config"
	"holdfast/internal/retention"
)

const offsite = `version: 1
keys: {ops: {recipient: ` + recipient + `}}
stores:
  main: {kind: local, path: /srv/backups}
  s3:
    kind: s3
    endpoint: https://s3.fr-par.scw.cloud
    region: fr-par
    bucket: acme
    prefix: web1
    access_key: {env: S3_ID}
    secret_key: {file: /etc/holdfast/s3}
    sse: kms
    kms_key: alias/b
    storage_class: STANDARD_IA
    lock: compliance
    lock_for: 30d
    part_size: 64MB
    parts: 8
    bandwidth: 20MB
    stall: 90s
  box: {kind: sftp, host: box.example, port: 23, user: u1, path: backups, key_file: /etc/holdfast/box, known_hosts: [/etc/holdfast/known_hosts], timeout: 10s}
  old: {kind: rsync, host: old.example, user: b, path: /srv/b, key_file: /k}
sources: {auth: {kind: sqlite, path: /srv/auth.db}}
jobs:
  app:
    sources: [auth]
    store: main
    mirrors: [s3, box, old]
    recipients: [ops]
    keep:
      daily: 7
      weekly: 4
      monthly: 12
      yearly: forever
      within: 2d
      min_age: 12h
      interval: 1d
      zone: Europe/Berlin
      kinds: {hourly: {last: 24}, manual: {within: 90d}}
      stores: {box: {daily: 30}, s3: {forever: true, kinds: {hourly: {last: 1}}}}
`

func TestStoresAndRules(t *testing.T) {
	c := parse(t, offsite)
	job, err := c.Job("app")
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, store := range append([]config.Store{job.Store}, job.Mirrors...) {
		addresses = append(addresses, store.Name+" "+store.Address())
	}
	if diff := cmp.Diff([]string{
		"main /srv/backups", "s3 s3://acme/web1?endpoint=https://s3.fr-par.scw.cloud", "box sftp://u1@box.example:23/./backups", "old rsync://b@old.example/srv/b",
	}, addresses); diff != "" {
		t.Error(diff)
	}
	s3 := job.Mirrors[0]
	if s3.Bandwidth != 20<<20 || s3.Stall != 90*time.Second || s3.S3.PartSize != 64<<20 || s3.S3.Parts != 8 || s3.S3.PathStyle || s3.S3.SSE != "kms" ||
		s3.S3.Lock != "compliance" || s3.S3.LockFor != 30*24*time.Hour || s3.S3.AccessKey.String() != "env:S3_ID" || s3.S3.SecretKey.String() != "file:/etc/holdfast/s3" {
		t.Errorf("s3 is %+v", s3)
	}
	if box := job.Mirrors[1].SSH; box.Port != 23 || box.KeyFile != "/etc/holdfast/box" || len(box.KnownHosts) != 1 || box.Timeout != 10*time.Second || box.Agent != "" {
		t.Errorf("box is %+v", box)
	}
	main, box, bucket := job.Keep.For("main"), job.Keep.For("box"), job.Keep.For("s3")
	if want := (retention.Rule{Daily: 7, Weekly: 4, Monthly: 12, Yearly: -1, Within: 48 * time.Hour}); main.Default != want {
		t.Errorf("in main %+v is kept, want %+v", main.Default, want)
	}
	if main.MinAge != 12*time.Hour || main.Interval != 24*time.Hour || main.Zone.String() != "Europe/Berlin" || main.Kinds["hourly"].Last != 24 || main.Kinds["manual"].Within != 90*24*time.Hour {
		t.Errorf("in main %+v", main)
	}
	if want := (retention.Rule{Daily: 30}); box.Default != want || box.Kinds["hourly"].Last != 24 || box.MinAge != main.MinAge {
		t.Errorf("in box %+v", box)
	}
	if want := (retention.Rule{Forever: true}); bucket.Default != want || bucket.Kinds["hourly"].Last != 1 || len(bucket.Kinds) != 1 {
		t.Errorf("in s3 %+v", bucket)
	}
	shown := shown(c)
	for _, line := range []string{
		"stores.s3.secret_key = file:/etc/holdfast/s3 (", "stores.s3.part_size = 64MB (", "stores.s3.lock_for = 30d (", "stores.box.port = 23 (", "jobs.app.mirrors = s3, box, old (",
		"jobs.app.keep.yearly = forever (", "jobs.app.keep.kinds.hourly.last = 24 (", "jobs.app.keep.stores.box.daily = 30 (", "jobs.app.keep.zone = Europe/Berlin (",
	} {
		if !strings.Contains(shown, line) {
			t.Errorf("config show has no line %q:\n%s", line, shown)
		}
	}
}

func TestStoreFromText(t *testing.T) {
	for _, c := range []struct{ text, want, wrong string }{
		{"/srv/b/", "/srv/b", ""},
		{"s3://acme/web1?endpoint=http://127.0.0.1:9000&region=x&path_style=true", "s3://acme/web1?endpoint=http://127.0.0.1:9000", ""},
		{"s3://acme", "s3://acme", ""},
		{"sftp://u1@box.example:23/./backups", "sftp://u1@box.example:23/./backups", ""},
		{"sftp://u1@box.example/~/backups?key_file=/k", "sftp://u1@box.example/./backups", ""},
		{"rsync://b@h/srv/b", "rsync://b@h/srv/b", ""},
		{"sftp://u1:" + canary + "@h/b", "", "an address with a password can be seen by everyone on this host"},
		{"sftp://h/b", "", "write sftp://USER@HOST:PORT/PATH"},
		{"sftp://u@-oProxyCommand=x/b", "", "must not begin with a dash"},
		{"ftp://u@h/b", "", "no store is reached by ftp://; known: a folder, s3://, sftp://, rsync://"},
		{"s3://acme?bucket=x", "", `unknown part "bucket"`},
		{"s3://acme/../x", "", `"../x" is not a folder in a bucket`},
		{"s3://acme?endpoint=ftp://h", "", "endpoint: must be the address of a server"},
		{"s3://%zz" + canary, "", "the address of the store is not readable"},
	} {
		store, err := config.StoreFromText(c.text, nil)
		switch {
		case c.wrong == "" && (err != nil || store.Address() != c.want):
			t.Errorf("%s: %q, error %v; want %q", c.text, store.Address(), err, c.want)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), canary)):
			t.Errorf("%s: error %v, want %q", c.text, err, c.wrong)
		}
	}
}

func TestMirrorsByFlagAndVariable(t *testing.T) {
	environ := []string{"HOLDFAST_SOURCE=sqlite:/srv/auth.db", "HOLDFAST_STORE=/srv/b", "HOLDFAST_RECIPIENT=" + recipient, "HOLDFAST_MIRRORS=/mnt/a sftp://u@h/./b"}
	for _, c := range []struct {
		flags config.Flags
		want  string
	}{
		{config.Flags{}, "/mnt/a sftp://u@h/./b"},
		{config.Flags{Mirrors: []string{"/mnt/c"}}, "/mnt/c"},
	} {
		job, err := resolve(t, config.Inputs{NoFile: true, Environ: environ, Flags: c.flags}).Job("")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, mirror := range job.Mirrors {
			got = append(got, mirror.Address())
		}
		if strings.Join(got, " ") != c.want || job.Store.Address() != "/srv/b" {
			t.Errorf("store %s, mirrors %q, want %q", job.Store.Address(), got, c.want)
		}
	}
}

// Whatever a template says of a store, the reader takes as the same store.
func TestTemplatesOfStores(t *testing.T) {
	for _, text := range []string{"/srv/b", "s3://acme/web1?endpoint=https://s3.example&region=x&path_style=true", "sftp://u1@box.example:23/./backups?key_file=/k&known_hosts=/h"} {
		store, err := config.StoreFromText(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		mirror := store
		store.Name, mirror.Name, mirror.Kind, mirror.Path = "main", "copy", config.StoreLocal, "/mnt/copy"
		src, err := config.SourceFromText("sqlite:/srv/a.db", nil)
		if err != nil {
			t.Fatal(err)
		}
		job := config.Job{Name: "app", Store: store, Mirrors: []config.Store{mirror}, Sources: []config.Source{src}, Recipients: []config.Key{{Name: "ops", Recipients: []string{recipient}}}}
		again, err := parse(t, string(config.Template(config.TemplateOptions{Job: job}))).Job("app")
		if err != nil {
			t.Fatal(err)
		}
		if again.Store.Address() != store.Address() || again.Store.S3.Region != store.S3.Region || again.Store.SSH.KeyFile != store.SSH.KeyFile || again.Store.S3.PathStyle != store.S3.PathStyle ||
			len(again.Mirrors) != 1 || again.Mirrors[0].Path != "/mnt/copy" {
			t.Errorf("%s came back as %+v", text, again.Store)
		}
	}
}
