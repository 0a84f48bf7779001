package config_test

import (
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/config"
)

const channels = base + `
jobs:
  app: {sources: [db], store: main, recipients: [ops]}
channels:
`

func TestChannels(t *testing.T) {
	t.Setenv("HOOK", "https://hooks.example.org/"+canary)
	c, err := config.Parse("f.yaml", []byte(channels+`
  mail: {kind: mail, host: smtp.example.org, from: a@example.org, to: [b@example.org], user: a, password: {env: P}, alarms: [critical]}
  hook: {kind: webhook, url: {env: HOOK}, secret: {file: /s}, runs: [failure], jobs: [app]}
  hc: {kind: healthchecks, url: {env: HOOK}, tasks: [backup, drill]}
  kuma: {kind: kuma, url: {env: HOOK}}
alarms: {size: 50, quiet: ["0 22 * * * for 8h"], zone: Europe/Berlin, resend: 2d}
`), noEnv, now)
	if err != nil {
		t.Fatal(err)
	}
	mail, hook, hc, kuma := c.Channels[0], c.Channels[1], c.Channels[2], c.Channels[3]
	if strings.Join(mail.Severities, " ") != "critical" || mail.Security != "" || mail.Beats() || !mail.Takes("anything") {
		t.Errorf("mail: %+v", mail)
	}
	if len(hook.Severities) != 2 || hook.Runs[0] != "failure" || hook.Takes("other") || !hook.Takes("app") || !hook.Takes("") {
		t.Errorf("hook: %+v", hook)
	}
	if !hc.Beats() || len(hc.Tasks) != 2 || hc.Tasks[1] != holdfast.TaskDrill || len(kuma.Tasks) != 2 || len(hc.Severities) != 0 {
		t.Errorf("pages: %+v, %+v", hc, kuma)
	}
	if a := c.Alarms; a.Size != 50 || a.Resend != 48*time.Hour || a.Zone.String() != "Europe/Berlin" || len(a.Quiet) != 1 || a.Calm != 15*time.Minute {
		t.Errorf("alarms: %+v", a)
	}
	if _, err := c.Channel("mial"); err == nil || !strings.Contains(holdfast.Hint(err), "mail") {
		t.Errorf("an unknown channel: %v, %q", err, holdfast.Hint(err))
	}
	for _, s := range c.Show() {
		if strings.Contains(s.Value, canary) {
			t.Errorf("%s shows a secret", s.Path)
		}
	}
}

func TestRunbooks(t *testing.T) {
	for text, want := range map[string]string{
		"": "docs/runbooks/alerts", "alarms: {runbooks: 'https://wiki.example/holdfast/'}": "https://wiki.example/holdfast",
		"alarms: {runbooks: /usr/local/share/doc/holdfast/runbooks/alerts}": "/usr/local/share/doc/holdfast/runbooks/alerts",
	} {
		c, err := config.Parse("f.yaml", []byte("version: 1\n"+text+"\n"), noEnv, now)
		if err != nil {
			t.Error(err)
		} else if c.Alarms.Runbooks != want {
			t.Errorf("%q: the pages are in %q", text, c.Alarms.Runbooks)
		}
	}
}

func TestChannelMistakes(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"kind", "  a: {kind: pigeon}", `channels.a.kind: "pigeon" is not allowed`},
		{"no kind", "  a: {url: {env: X}}", `key "kind" is missing`},
		{"address in the open", "  a: {kind: slack, url: 'https://hooks.slack.com/" + canary + "'}", "channels.a.url"},
		{"nobody", "  a: {kind: mail, host: h, from: a@b.org}", `key "to" is missing`},
		{"severity", "  a: {kind: slack, url: {env: X}, alarms: [info]}", `channels.a.alarms: "info" is not allowed`},
		{"job", "  a: {kind: slack, url: {env: X}, jobs: [ap]}", `channels.a.jobs: unknown job "ap"; did you mean "app"?`},
		{"task", "  a: {kind: kuma, url: {env: X}, tasks: [dril]}", `channels.a.tasks: "dril" is not allowed`},
		{"server", "  a: {kind: ntfy, topic: {env: X}, server: ntfy.sh}", "channels.a.server: must be an address"},
		{"pages nowhere", "  a: {kind: slack, url: {env: X}}\nalarms: {runbooks: docs/pages}", "alarms.runbooks: must be the address of a folder"},
		{"pages of a query", "  a: {kind: slack, url: {env: X}}\nalarms: {runbooks: 'https://wiki.example/?page='}", "alarms.runbooks: must be the address of a folder"},
		{"pages of another protocol", "  a: {kind: slack, url: {env: X}}\nalarms: {runbooks: 'ftp://wiki.example/pages'}", "alarms.runbooks: must be the address of a folder"},
		{"pages with a password", "  a: {kind: slack, url: {env: X}}\nalarms: {runbooks: 'https://me:" + canary + "@wiki.example/'}", "alarms.runbooks: holds a password"},
		{"key of another kind", "  a: {kind: kuma, url: {env: X}, alarms: [critical]}", `unknown key "alarms"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := config.Parse("f.yaml", []byte(channels+c.text+"\n"), noEnv, now)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error()+holdfast.Hint(err), canary) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
