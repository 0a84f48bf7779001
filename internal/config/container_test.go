package config_test

import (
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/config"
)

const inside = `version: 1
engine: unix:///run/podman/podman.sock
stores:
  main: {kind: local, path: /srv/backups}
sources:
  db:
    kind: postgres
    `

// jobOf makes a file of a postgres source that holds keys.
func fileOf(keys string) string {
	return inside + keys + "\njobs:\n  app: {sources: [db], store: main, seal: none, drill: {container: always, image: \"postgres:17\"}}\n"
}

func TestContainerKeys(t *testing.T) {
	for _, test := range []struct{ keys, conn string }{
		{"container: shop-db-1", "docker://shop-db-1/"},
		{"container: 4f5d6e\n    database: app\n    user: o'brien@x\n    port: 5433", "docker://o%27brien%40x@4f5d6e/app?port=5433"},
		{"container: {name: db}\n    database: 'a b/c'", "docker://db/a%20b/c"},
		{"container: {service: db, project: shop}\n    database: app", "docker:///app?project=shop&service=db"},
		{"container: {label: tier=data & more}", "docker:///?label=tier%3Ddata+%26+more"},
		{"url: docker://boss@db/app", "docker://boss@db/app"},
	} {
		c := parse(t, fileOf(test.keys))
		if got := c.Sources[0].Postgres.Conn; got != test.conn {
			t.Errorf("%s: %s, want %s", test.keys, got, test.conn)
		}
		if !config.InContainer(c.Sources[0].Postgres.Conn) {
			t.Errorf("%s is not in a container", test.keys)
		}
		if c.Engine != "unix:///run/podman/podman.sock" || c.Jobs[0].Drill.Container != config.ContainerAlways || c.Jobs[0].Drill.Image != "postgres:17" {
			t.Errorf("engine %q, drill %+v", c.Engine, c.Jobs[0].Drill)
		}
	}
	shown := setting(t, parse(t, fileOf("container: db\n    database: app")), "sources.db.container")
	if shown.Value != "docker://db/app" || !strings.HasSuffix(shown.Origin, ":8:16") {
		t.Errorf("shown as %+v", shown)
	}
}

func TestContainerMistakes(t *testing.T) {
	for _, test := range []struct{ keys, want string }{
		{"container: 'a b'", "f.yaml:8:16: sources.db.container: is not the name of a container: letters, digits, _, . and -"},
		{"container: [db]", "f.yaml:8:16: sources.db.container: must be a name or section"},
		{"container: db\n    host: h", "f.yaml:9:11: sources.db.host: has no meaning beside container, whose server is reached from inside"},
		{"container: db\n    sslmode: require", "sources.db.sslmode: has no meaning beside container"},
		{"container: db\n    url: postgres://h/d", "sources.db.url: has no meaning beside container"},
		{"container: {}", "f.yaml:8:16: sources.db.container: exactly one of name, service and label says which one is meant; none of them is given"},
		{"container: {name: a, label: b}", "exactly one of name, service and label says which one is meant; name and label are given"},
		{"container: {name: a, project: b}", "sources.db.container.project: has a meaning only beside service"},
		{"container: {label: '=x'}", "sources.db.container.label: is not a label: KEY or KEY=VALUE"},
		{"container: {nmae: a}", `sources.db.container: unknown key "nmae"; did you mean "name"?`},
		{"url: docker://u:" + canary + "@db/app", "f.yaml:8:10: sources.db.url: holds a password; take it out and refer to it"},
	} {
		_, err := config.Parse("f.yaml", []byte(fileOf(test.keys)), noEnv, now)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v, want %q", test.keys, err, test.want)
		}
	}
	_, err := config.Parse("f.yaml", []byte("version: 1\nengine: tcp://10.0.0.1:2375\n"), noEnv, now)
	if err == nil || !strings.Contains(err.Error(), "f.yaml:2:9: engine: must be a unix socket") {
		t.Errorf("%v", err)
	}
}

func TestContainerByFlag(t *testing.T) {
	for _, test := range []struct{ text, name string }{
		{"docker://db/app", "app"}, {"docker://boss@db", "boss"}, {"docker://shop-db-1", "shop-db-1"}, {"docker:///?service=db", "postgres"},
	} {
		c := resolve(t, config.Inputs{NoFile: true, Environ: []string{"PGDATABASE=other", "HOLDFAST_ENGINE=/run/x.sock"},
			Flags: config.Flags{Sources: []string{test.text}, To: "/srv/backups", Seal: "none"}})
		src := c.Jobs[0].Sources[0]
		if src.Kind != holdfast.KindPostgres || src.Postgres.Conn != test.text || string(src.Name) != test.name || c.Engine != "/run/x.sock" {
			t.Errorf("%s is %+v, engine %q", test.text, src, c.Engine)
		}
	}
	flags := config.Flags{Sources: []string{"docker://u:" + canary + "@db/app"}, To: "/srv/backups", Seal: "none"}
	c := resolve(t, config.Inputs{NoFile: true, Flags: flags})
	if strings.Contains(shown(c), canary) || c.Sources[0].Postgres.Conn != "docker://u@db/app" || len(c.Warnings) == 0 {
		t.Errorf("a password is shown or not warned of:\n%s%q", shown(c), c.Warnings)
	}
	if _, err := config.Resolve(config.Inputs{NoFile: true, Flags: config.Flags{Engine: "ssh://host"}, Now: now}); err == nil {
		t.Error("an engine on another host was taken")
	}
}
