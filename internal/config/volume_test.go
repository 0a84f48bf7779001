package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/volume"
)

// withJobs is a good file up to its volumes, in 12 lines.
const withJobs = base + `jobs:
  app: {sources: [db, env], store: main, recipients: [ops]}
  open: {sources: [db], store: main, seal: none}
volumes:
`

// two are the custodians that a volume should have.
const two = "holders: [{name: Anna, role: operational}, {name: Ben, role: recovery}]"

const volumes = withJobs + `  pg-data:
    device: /srv/pg-data.luks
    mount: /srv/pg-data/
    filesystem: xfs
    owner: postgres:dba
    mode: 0750
    data: main/17
    job: app
    source: db
    server:
      stop: [systemctl, stop, postgresql@17-main]
      start: [/usr/bin/systemctl, start, postgresql@17-main]
      health: [pg_isready, -q]
      user: postgres
      unit: postgresql@17-main.service
      grace: 2m
    holders:
      - {name: Anna, contact: "+49 30 123456", role: operational, mfa: true, since: 2026-01-02}
      - {name: Ben, role: recovery}
      - {name: Carl, role: operational, since: 2025-01-02, until: 2026-01-02}
    tell: ["DPO, +49 30 654321"]
  shop_1:
    device: /dev/disk/by-path/pci-0000:00:1f.2-ata-1
    mount: /srv/pg-data2
    job: app
    server: {compose: shop/compose.yaml, service: db, container_data: /srv/data}
    ` + two + `
`

func TestVolumes(t *testing.T) {
	c, err := config.Parse("/etc/hf/holdfast.yaml", []byte(volumes), noEnv, now)
	if err != nil {
		t.Fatal(err)
	}
	date := func(text string) time.Time {
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	want := []config.Volume{
		{
			Name: "pg-data", Device: "/srv/pg-data.luks", Mount: "/srv/pg-data", Filesystem: volume.XFS, Owner: "postgres:dba", Mode: 0o750, Data: "main/17", Job: "app", Source: "db",
			Server: config.VolumeServer{
				Stop: []string{"systemctl", "stop", "postgresql@17-main"}, Start: []string{"/usr/bin/systemctl", "start", "postgresql@17-main"}, Health: []string{"pg_isready", "-q"},
				User: "postgres", Unit: "postgresql@17-main.service", ContainerData: "/var/lib/postgresql/data", Grace: 2 * time.Minute,
			},
			Holders: []config.Holder{
				{Name: "Anna", Contact: "+49 30 123456", Role: "operational", MFA: true, Since: date("2026-01-02")},
				{Name: "Ben", Role: "recovery"},
				{Name: "Carl", Role: "operational", Since: date("2025-01-02"), Until: date("2026-01-02")},
			},
			Tell: []string{"DPO, +49 30 654321"},
		},
		{
			Name: "shop_1", Device: "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", Mount: "/srv/pg-data2", Filesystem: volume.Ext4, Owner: "999", Mode: 0o700, Data: "pgdata", Job: "app",
			Server:  config.VolumeServer{Compose: "/etc/hf/shop/compose.yaml", Service: "db", ContainerData: "/srv/data", Grace: time.Minute},
			Holders: []config.Holder{{Name: "Anna", Role: "operational"}, {Name: "Ben", Role: "recovery"}},
		},
	}
	if diff := cmp.Diff(want, c.Volumes); diff != "" {
		t.Error(diff)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("it warns: %q", c.Warnings)
	}
	if err := checkSchema(t, []byte(strings.Replace(volumes, "0750", `"0750"`, 1))); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	shown := map[string]string{}
	for _, setting := range c.Show() {
		shown[setting.Path] = setting.Value + " " + setting.Origin
	}
	for path, want := range map[string]string{
		"volumes.pg-data.mode":             "0750 /etc/hf/holdfast.yaml:18:11",
		"volumes.pg-data.server.health":    `["pg_isready","-q"] /etc/hf/holdfast.yaml:25:15`,
		"volumes.pg-data.holders[2].until": "2026-01-02 /etc/hf/holdfast.yaml:32:67",
		"volumes.shop_1.owner":             "999 default",
		"volumes.shop_1.server.grace":      "1m default",
		"volumes.shop_1.server.compose":    "/etc/hf/shop/compose.yaml /etc/hf/holdfast.yaml:38:23",
	} {
		if shown[path] != want {
			t.Errorf("%s is %q, want %q", path, shown[path], want)
		}
	}
}

func TestVolumeByName(t *testing.T) {
	several := parse(t, volumes)
	one := parse(t, withJobs+"  v: {device: /v, mount: /m, job: app, "+two+"}\n")
	none := parse(t, "version: 1\n")
	for _, test := range []struct {
		c                *config.Config
		name, want, hint string
	}{
		{several, "shop_1", "shop_1", ""},
		{one, "v", "v", ""},
		{one, "", "v", ""},
		{several, "", "several volumes are configured and none is named", "name one of: pg-data, shop_1"},
		{several, "pg", `volume "pg" is not configured`, "known volumes: pg-data, shop_1"},
		{none, "v", "no volume is configured", "describe one under volumes: see docs/configuration.md"},
		{none, "", "no volume is configured", "describe one under volumes: see docs/configuration.md"},
	} {
		v, err := test.c.Volume(test.name)
		if err != nil {
			if got := holdfast.Sentence(err); got != test.want || holdfast.Hint(err) != test.hint || !errors.Is(err, holdfast.ErrUsage) {
				t.Errorf("%q: %s (%s), want %s (%s)", test.name, got, holdfast.Hint(err), test.want, test.hint)
			}
			continue
		}
		if v.Name != test.want || test.hint != "" {
			t.Errorf("%q: it is %q, want %q", test.name, v.Name, test.want)
		}
	}
}

func TestVolumeMistakes(t *testing.T) {
	const good = "device: /v, mount: /m, job: app"
	tests := []struct{ name, text, want string }{
		{"name", "  PG: {" + good + "}\n", `f.yaml:13:3: volume name "PG" is not valid; use lower-case letters, digits, - and _, at most 41 of them, such as pg-data`},
		{"long name", "  " + strings.Repeat("a", 42) + ": {" + good + "}\n", `f.yaml:13:3: volume name "` + strings.Repeat("a", 42) + `" is not valid; use lower-case letters, digits, - and _, at most 41 of them, such as pg-data`},
		{"text", "  v: /srv/x\n", "f.yaml:13:6: volumes.v: must be a section with the keys device, mount, filesystem, owner, mode, data, job, source, server, holders, tell"},
		{"nothing", "  v: {}\n", `f.yaml:13:6: volumes.v: key "device" is missing` + "\n" + `f.yaml:13:6: volumes.v: key "mount" is missing` + "\n" + `f.yaml:13:6: volumes.v: key "job" is missing`},
		{"near key", "  v: {" + good + ", holder: []}\n", `f.yaml:13:40: volumes.v: unknown key "holder"; did you mean "holders"? Known: device, mount, filesystem, owner, mode, data, job, source, server, holders, tell`},
		{"relative device", "  v: {device: v.luks, mount: /m, job: app}\n", `f.yaml:13:15: volumes.v.device: must be an absolute path, not "v.luks"`},
		{"relative mount", "  v: {device: /v, mount: m, job: app}\n", `f.yaml:13:26: volumes.v.mount: must be an absolute path, not "m"`},
		{"home", "  v: {device: ~/v, mount: /m, job: app}\n", `f.yaml:13:15: volumes.v.device: ~ is not expanded; write the whole path`},
		{"root", "  v: {device: /dev/sdb, mount: //, job: app}\n", "f.yaml:13:32: volumes.v.mount: must be a folder of its own, not /"},
		{"device on itself", "  v: {device: /m/../m/v, mount: /m, job: app}\n", "f.yaml:13:15: volumes.v.device: is below /m, where volume v is mounted"},
		{"device is the mount", "  v: {device: /m, mount: /m, job: app}\n", "f.yaml:13:15: volumes.v.device: is below /m, where volume v is mounted"},
		{"device on another", "  v: {device: /w/v, mount: /m, job: app}\n  w: {device: /x, mount: /w, job: app}\n", "f.yaml:13:15: volumes.v.device: is below /w, where volume w is mounted"},
		{"one mount", "  v: {" + good + "}\n  w: {device: /x, mount: /m/., job: app}\n", "f.yaml:14:26: volumes.w.mount: /m and /m of volume v must be apart, neither in the other"},
		{"mount in another", "  v: {" + good + "}\n  w: {device: /x, mount: /m/w, job: app}\n", "f.yaml:14:26: volumes.w.mount: /m/w and /m of volume v must be apart, neither in the other"},
		{"mount around another", "  v: {device: /v, mount: /m/w, job: app}\n  w: {device: /x, mount: /m, job: app}\n", "f.yaml:14:26: volumes.w.mount: /m and /m/w of volume v must be apart, neither in the other"},
		{"one device", "  v: {" + good + "}\n  w: {device: /x/../v, mount: /w, job: app}\n", "f.yaml:14:15: volumes.w.device: is the one of volume v too"},
		{"file system", "  v: {" + good + ", filesystem: ext3}\n", `f.yaml:13:52: volumes.v.filesystem: "ext3" is not allowed; did you mean "ext4"? Known: ext4, xfs`},
		{"owner", "  v: {" + good + ", owner: 'post gres'}\n", `f.yaml:13:47: volumes.v.owner: must be a user such as postgres or 999, or with its group such as postgres:postgres, not "post gres"`},
		{"no group", "  v: {" + good + ", owner: 'postgres:'}\n", `f.yaml:13:47: volumes.v.owner: must be a user such as postgres or 999, or with its group such as postgres:postgres, not "postgres:"`},
		{"two groups", "  v: {" + good + ", owner: 'a:b:c'}\n", `f.yaml:13:47: volumes.v.owner: must be a user such as postgres or 999, or with its group such as postgres:postgres, not "a:b:c"`},
		{"nobody in particular", "  v: {" + good + ", owner: 4294967295}\n", `f.yaml:13:47: volumes.v.owner: must be a user such as postgres or 999, or with its group such as postgres:postgres, not "4294967295"`},
		{"open mode", "  v: {" + good + ", mode: '0770'}\n", `f.yaml:13:46: volumes.v.mode: must be permissions in octal such as 0700 or 0750, with all for the owner and no writing for others, not "0770"`},
		{"world's mode", "  v: {" + good + ", mode: 0702}\n", `f.yaml:13:46: volumes.v.mode: must be permissions in octal such as 0700 or 0750, with all for the owner and no writing for others, not "0702"`},
		{"closed mode", "  v: {" + good + ", mode: '0500'}\n", `f.yaml:13:46: volumes.v.mode: must be permissions in octal such as 0700 or 0750, with all for the owner and no writing for others, not "0500"`},
		{"decimal mode", "  v: {" + good + ", mode: 700}\n", `f.yaml:13:46: volumes.v.mode: must be permissions in octal such as 0700 or 0750, with all for the owner and no writing for others, not "700"`},
		{"mode of more bits", "  v: {" + good + ", mode: '01700'}\n", `f.yaml:13:46: volumes.v.mode: must be permissions in octal such as 0700 or 0750, with all for the owner and no writing for others, not "01700"`},
		{"data that leaves", "  v: {" + good + ", data: ../x}\n", `f.yaml:13:46: volumes.v.data: must be a folder below the mount such as pgdata, without a leading slash and without . and .., not "../x"`},
		{"data at the root", "  v: {" + good + ", data: /pgdata}\n", `f.yaml:13:46: volumes.v.data: must be a folder below the mount such as pgdata, without a leading slash and without . and .., not "/pgdata"`},
		{"data in the mount", "  v: {" + good + ", data: .}\n", `f.yaml:13:46: volumes.v.data: must be a folder below the mount such as pgdata, without a leading slash and without . and .., not "."`},
		{"data in what fsck finds", "  v: {" + good + ", data: lost+found/x}\n", `f.yaml:13:46: volumes.v.data: must be a folder below the mount such as pgdata, without a leading slash and without . and .., not "lost+found/x"`},
		{"job", "  v: {device: /v, mount: /m, job: ap}\n", `f.yaml:13:35: volumes.v.job: unknown job "ap"; did you mean "app"? Known: app, open`},
		{"unsealed job", "  v: {device: /v, mount: /m, job: open}\n", `f.yaml:13:35: volumes.v.job: job "open" has seal: none, and a copy of a header is never stored unsealed; name a job with recipients`},
		{"copies on the volume itself", "  v: {device: /v, mount: /srv, job: app}\n", `f.yaml:13:37: volumes.v.job: all stores of job "app" are below /srv, so the copies of the header would be locked into what they open; name a job with another store or mirror`},
		{"files as source", "  v: {" + good + ", source: env}\n", `f.yaml:13:48: volumes.v.source: "env" is no PostgreSQL source of job app; known: db`},
		{"server is text", "  v: {" + good + ", server: postgresql}\n", "f.yaml:13:48: volumes.v.server: must be a section with the keys stop, start, health, user, unit, compose, service, container_data, grace"},
		{"relative program", "  v: {" + good + ", server: {stop: [bin/stop], start: [x]}}\n", `f.yaml:13:56: volumes.v.server.stop[0]: "bin/stop" must be an absolute path, or a name without a slash`},
		{"command in one text", "  v: {" + good + ", server: {stop: [x], start: [pg_ctl start]}}\n", `f.yaml:13:68: volumes.v.server.start[0]: "pg_ctl start" holds a blank; write the program and each argument as an element of its own: [systemctl, stop, app]`},
		{"empty command", "  v: {" + good + ", server: {health: []}}\n", "f.yaml:13:57: volumes.v.server.health: needs the program at least"},
		{"stop alone", "  v: {" + good + ", server: {stop: [x]}}\n", "f.yaml:13:48: volumes.v.server: stop and start are given together or not at all"},
		{"service alone", "  v: {" + good + ", server: {service: db}}\n", "f.yaml:13:48: volumes.v.server: compose and service are given together or not at all"},
		{"unit and compose", "  v: {" + good + ", server: {unit: a.service, compose: /c, service: db}}\n", "f.yaml:13:75: volumes.v.server.compose: give either unit or compose"},
		{"service's name", "  v: {" + good + ", server: {compose: /c, service: 'd b'}}\n", "f.yaml:13:71: volumes.v.server.service: is not the name of a service: letters, digits, _, . and -"},
		{"unit without ending", "  v: {" + good + ", server: {unit: postgresql}}\n", `f.yaml:13:55: volumes.v.server.unit: must be the name of a systemd service such as postgresql@17-main.service, not "postgresql"`},
		{"template of units", "  v: {" + good + ", server: {unit: postgresql@.service}}\n", `f.yaml:13:55: volumes.v.server.unit: must be the name of a systemd service such as postgresql@17-main.service, not "postgresql@.service"`},
		{"unit in a folder", "  v: {" + good + ", server: {unit: ../x.service}}\n", `f.yaml:13:55: volumes.v.server.unit: must be the name of a systemd service such as postgresql@17-main.service, not "../x.service"`},
		{"no grace", "  v: {" + good + ", server: {grace: 0s}}\n", `f.yaml:13:56: volumes.v.server.grace: must be a duration such as 60s, 5m, 2h, 90d or 2w, not "0s"`},
		{"holder of nothing", "  v: {" + good + ", holders: [{name: Anna}]}\n", `f.yaml:13:50: volumes.v.holders[0]: key "role" is missing`},
		{"holder's role", "  v: {" + good + ", holders: [{name: Anna, role: recover}]}\n", `f.yaml:13:69: volumes.v.holders[0].role: "recover" is not allowed; did you mean "recovery"? Known: operational, recovery`},
		{"left before", "  v: {" + good + ", holders: [{name: Anna, role: recovery, since: 2026-01-02, until: 2026-01-02}]}\n", "f.yaml:13:105: volumes.v.holders[0].until: must be after since, 2026-01-02"},
		{"told twice", "  v: {" + good + ", tell: [a, a]}\n", `f.yaml:13:50: volumes.v.tell[1]: "a" comes twice`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := config.Parse("f.yaml", []byte(withJobs+test.text), noEnv, now)
			if err == nil {
				t.Fatal("it was taken")
			}
			if err.Error() != test.want {
				t.Errorf("\n got %s\nwant %s", err, test.want)
			}
			if !config.IsMistake(err) {
				t.Error("it is no mistake of the configuration")
			}
		})
	}
}

// TestVolumesAreTheFiles: what a flag makes of jobs for once says nothing of volumes.
func TestVolumesAreTheFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(volumes), 0o600); err != nil {
		t.Fatal(err)
	}
	c := resolve(t, config.Inputs{Path: file, Flags: config.Flags{Seal: "none", Job: "app", Sources: []string{"other=files:/etc"}}})
	if len(c.Volumes) != 2 || c.Volumes[0].Source != "db" {
		t.Errorf("the volumes are %+v", c.Volumes)
	}
}

func TestCustodians(t *testing.T) {
	const few = "volume v has fewer than two custodians: name them under volumes.v.holders"
	tests := []struct {
		name, holders string
		want          []string
	}{
		{"nobody", "", []string{few}},
		{"two", "{name: Anna, role: operational}, {name: Ben, role: recovery}", nil},
		{"one with both keys", "{name: Anna, role: operational}, {name: Anna, role: recovery}", []string{few}},
		{"one key alone", "{name: Anna, role: operational}, {name: Ben, role: operational}", []string{"volume v: nobody has its recovery key; name somebody under volumes.v.holders"}},
		{"last day", "{name: Anna, role: operational}, {name: Ben, role: recovery, until: 2026-11-22}", nil},
		{"day after it", "{name: Anna, role: operational}, {name: Carl, role: operational}, {name: Ben, role: recovery, until: 2026-11-21}",
			[]string{"volume v: whoever had its recovery key has left (Ben, until 2026-11-21); name somebody else, and rotate the key"}},
		{"too few and left", "{name: Anna, role: operational, until: 2026-01-02}, {name: Dora, role: operational, until: 2025-01-02}, {name: Ben, role: recovery}",
			[]string{few, "volume v: whoever had its operational key has left (Anna, until 2026-01-02; Dora, until 2025-01-02); name somebody else, and rotate the key"}},
		{"successor", "{name: Anna, role: operational, until: 2026-01-02}, {name: Carl, role: operational}, {name: Ben, role: recovery}", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := parse(t, withJobs+"  v: {device: /v, mount: /m, job: app, holders: ["+test.holders+"]}\n")
			if diff := cmp.Diff(test.want, c.Warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestVolumeNames: the schema and the reader take the same names, those of package volume.
func TestVolumeNames(t *testing.T) {
	for name, good := range map[string]bool{
		"a": true, "0": true, "a-b_c9": true, "a-": true, "a__": true, strings.Repeat("z", 41): true,
		"": false, "-a": false, "_a": false, "A": false, "aB": false, "a.b": false, "a b": false, "a/b": false, "ä": false, strings.Repeat("z", 42): false,
	} {
		text := []byte(withJobs + "  '" + name + "': {device: /v, mount: /m, job: app}\n")
		_, named := volume.ParseName(name)
		_, read := config.Parse("f.yaml", text, noEnv, now)
		if schema := checkSchema(t, text); (named == nil) != good || (read == nil) != good || (schema == nil) != good {
			t.Errorf("%q: package volume says %v, the reader %v, the schema %v", name, named, read, schema)
		}
	}
}
