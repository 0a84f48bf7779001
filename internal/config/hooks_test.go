package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/hook"
)

const hooked = base + `jobs:
  j:
    sources: [db, env]
    store: main
    recipients: [ops]
    hooks:
      backup:
        before:
          - run: [systemctl, stop, app, stop]
          - {run: [/bin/sleep, 5, "", "*"], dir: work, user: app, timeout: 2m, env: {A: b c, N: 8080, TOKEN: {env: TOKEN}, EMPTY: ""}}
        after: [{run: [systemctl, start, app]}]
      restore:
        health:
          - http: {url: "https://app.example.org/health"}
          - http: {url: "http://127.0.0.1:1/x?y=z", status: 302, body: "a: b", timeout: 1s, within: 2m}
          - run: [nginx, -t]
`

func TestHooks(t *testing.T) {
	env := func(name string) (string, bool) { return canary, name == "TOKEN" }
	c, err := config.Parse("/etc/hf/holdfast.yaml", []byte(hooked), env, now)
	if err != nil {
		t.Fatal(err)
	}
	hooks := c.Jobs[0].Hooks
	want := config.Hooks{
		Backup: config.HookSet{
			Before: []config.Hook{
				{Run: []string{"systemctl", "stop", "app", "stop"}, Timeout: time.Minute},
				{Run: []string{"/bin/sleep", "5", "", "*"}, Dir: "/etc/hf/work", User: "app", Timeout: 2 * time.Minute, Env: []config.HookVariable{
					{Name: "A", Text: "b c"}, {Name: "N", Text: "8080"}, {Name: "TOKEN"}, {Name: "EMPTY"},
				}},
			},
			After: []config.Hook{{Run: []string{"systemctl", "start", "app"}, Timeout: time.Minute}},
		},
		Restore: config.HookSet{Health: []config.Hook{
			{Page: config.HookPage{URL: "https://app.example.org/health", Status: 200, Timeout: 10 * time.Second, Within: time.Minute}, Timeout: time.Minute},
			{Page: config.HookPage{URL: "http://127.0.0.1:1/x?y=z", Status: 302, Body: "a: b", Timeout: time.Second, Within: 2 * time.Minute}, Timeout: time.Minute},
			{Run: []string{"nginx", "-t"}, Timeout: time.Minute},
		}},
	}
	if diff := cmp.Diff(want, hooks, cmpopts.IgnoreFields(config.HookVariable{}, "Secret")); diff != "" {
		t.Error(diff)
	}
	steps, err := config.Steps(t.Context(), slices.Concat(hooks.Backup.Before, hooks.Restore.Health))
	if err != nil || len(steps) != 5 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	command, ok := steps[1].(hook.Command)
	if !ok || strings.Join(command.Env, "|") != "A=b c|N=8080|TOKEN="+canary+"|EMPTY=" || command.User != "app" || command.Dir != "/etc/hf/work" {
		t.Errorf("the second step is %v", steps[1])
	}
	if page, ok := steps[3].(hook.Page); !ok || page.Status != 302 || page.Within != 2*time.Minute {
		t.Errorf("the fourth step is %v", steps[3])
	}
	if err := checkSchema(t, []byte(hooked)); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	shown := ""
	for _, setting := range c.Show() {
		shown += setting.Path + " = " + setting.Value + " (" + setting.Origin + ")\n"
	}
	for _, line := range []string{
		`jobs.j.hooks.backup.before[1].run = ["/bin/sleep","5","","*"] (/etc/hf/holdfast.yaml:18:19)`,
		`jobs.j.hooks.backup.before[1].env = A=b c, N=8080, TOKEN=env:TOKEN, EMPTY= (/etc/hf/holdfast.yaml:18:85)`,
		`jobs.j.hooks.backup.before[1].timeout = 2m (/etc/hf/holdfast.yaml:18:76)`,
		`jobs.j.hooks.restore.health[0].http.within = 1m (default)`,
		`jobs.j.hooks.restore.health[1].http.status = 302 (/etc/hf/holdfast.yaml:23:61)`,
	} {
		if !strings.Contains(shown, line+"\n") {
			t.Errorf("%s is not shown in\n%s", line, shown)
		}
	}
	if strings.Contains(shown, canary) {
		t.Error("a secret is shown")
	}
}

// Every secret that the configuration refers to is known to the mask; one that is not there is no obstacle.
func TestKnownSecrets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pass")
	if err := os.WriteFile(file, []byte("of a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `version: 1
keys:
  pw: {passphrase: {file: ` + file + `}}
  gone: {passphrase: {file: ` + dir + `/gone}}
stores: {main: {kind: local, path: /srv}}
sources:
  db: {kind: postgres, password: {exec: [echo, of a program]}}
  other: {kind: postgres, password: {env: OTHER}}
jobs:
  j:
    sources: [db]
    store: main
    recipients: [pw]
    hooks:
      backup: {before: [{run: [x], env: {A: {env: HOOK}, B: plain}}]}
      restore: {health: [{run: [x], env: {C: {env: HEALTH}}}]}
`
	env := func(name string) (string, bool) {
		value, found := map[string]string{"OTHER": "of a variable", "HOOK": "of a hook", "HEALTH": "of health", "PGPASSWORD": "of PostgreSQL"}[name]
		return value, found
	}
	c, err := config.Parse("f.yaml", []byte(text), env, now)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, secret := range c.KnownSecrets(t.Context()) {
		got = append(got, secret.Reveal())
	}
	slices.Sort(got)
	if want := []string{"of PostgreSQL", "of a file", "of a hook", "of a program", "of a variable", "of health"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// A password within a URL is one as well.
	c, err = config.Resolve(config.Inputs{NoFile: true, Now: now, Environ: []string{"HOLDFAST_SOURCE=postgres://u:within@h/d\npostgres://u:another@h/e"}})
	if err != nil {
		t.Fatal(err)
	}
	if known := c.KnownSecrets(t.Context()); len(known) != 2 || known[0].Reveal() != "within" || known[1].Reveal() != "another" {
		t.Errorf("%d secrets are known", len(known))
	}
	if _, err := config.Steps(t.Context(), []config.Hook{{Run: []string{"x"}, Env: []config.HookVariable{{Name: "A", Secret: config.SecretFile(dir + "/gone")}}}}); err == nil ||
		!strings.HasPrefix(holdfast.Sentence(err), "variable A of a hook: read secret: open ") {
		t.Errorf("got %v", err)
	}
}

func TestHookMistakes(t *testing.T) {
	for _, test := range []struct{ name, hooks, want string }{
		{"a text instead of a list", "{backup: {before: [{run: systemctl stop app}]}}", `jobs.j.hooks.backup.before[0].run: must be a list of the program and its arguments: [a, b]`},
		{"empty", "{backup: {before: [{run: []}]}}", `jobs.j.hooks.backup.before[0].run: needs the program at least`},
		{"empty program", `{backup: {before: [{run: ["", x]}]}}`, `jobs.j.hooks.backup.before[0].run[0]: must not be empty`},
		{"a flag as argument", `{backup: {before: [{run: [x, true]}]}}`, `jobs.j.hooks.backup.before[0].run[1]: must be a text, not true; quote it if it is meant as text`},
		{"NUL", `{backup: {before: [{run: [x, "a\0b"]}]}}`, `jobs.j.hooks.backup.before[0].run[1]: must not hold a NUL character`},
		{"health of a backup", "{backup: {health: []}}", `jobs.j.hooks.backup: unknown key "health"; known: before, after`},
		{"neither", "{restore: {health: [{timeout: 5s}]}}", `jobs.j.hooks.restore.health[0]: a health check has exactly one of run and http; neither is given`},
		{"a page's user", `{restore: {health: [{http: {url: "http://h/"}, user: x}]}}`, `jobs.j.hooks.restore.health[0].user: is about a program, and this check is of a page`},
		{"no address", `{restore: {health: [{http: {url: "h:80"}}]}}`, `jobs.j.hooks.restore.health[0].http.url: must be an address such as http://127.0.0.1:8080/health`},
		{"another scheme", `{restore: {health: [{http: {url: "ftp://h/` + canary + `"}}]}}`, `jobs.j.hooks.restore.health[0].http.url: must be an address such as http://127.0.0.1:8080/health`},
		{"no variables", `{backup: {before: [{run: [x], env: [A=b]}]}}`, `jobs.j.hooks.backup.before[0].env: must be a section of variables: {NAME: value}`},
		{"no name", `{backup: {before: [{run: [x], env: {"A B": c}}]}}`, `jobs.j.hooks.backup.before[0].env: "A B" is no name of a variable`},
		{"no secret", `{backup: {before: [{run: [x], env: {A: {` + canary + `: c}}}]}}`, `jobs.j.hooks.backup.before[0].env.A: unknown key; write {env: NAME}, {file: PATH} or {exec: [program, argument]}`},
		{"no time", `{backup: {before: [{run: [x], timeout: 0s}]}}`, `jobs.j.hooks.backup.before[0].timeout: must be a duration such as 60s, 5m, 2h, 90d or 2w, not "0s"`},
		{"unknown", `{backups: {}}`, `jobs.j.hooks: unknown key "backups"; did you mean "backup"? Known: backup, restore`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := config.Parse("f.yaml", []byte(base+"jobs: {j: {sources: [db], store: main, recipients: [ops], hooks: "+test.hooks+"}}\n"), noEnv, now)
			if err == nil {
				t.Fatal("it was taken")
			}
			if _, text, _ := strings.Cut(err.Error(), " "); text != test.want {
				t.Errorf("\n got %s\nwant %s", text, test.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Error("it repeats a secret")
			}
		})
	}
}
