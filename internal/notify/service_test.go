package notify_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/notify"
)

// run is a UUID, as runs are named by.
const run = "0b3c8a52-6f3e-4b0f-9a55-1f2d7c1e9b10"

// service is one service that is reached over HTTP, with an own secret in every place that may hold one.
type service struct {
	name    string
	open    func(base string, reach notify.Reach) (notify.Channel, error)
	status  int
	kind    string // content type of the good answer; "" is none
	body    string
	secrets []string
	wrong   []string // bodies of answers with status 200 that are none
}

func secret(text string) holdfast.Secret { return holdfast.NewSecret(text) }

var services = []service{
	{
		name: "webhook", status: 200, secrets: []string{"canary-path-1", "canary-query-1", "canary sign&1", "canary-bearer-1"},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewWebhook(notify.WebhookOptions{
				URL: secret(base + "/hooks/canary-path-1?key=canary-query-1"), Secret: secret("canary sign&1"),
				Authorization: secret("Bearer canary-bearer-1"), Reach: reach,
			})
		},
	},
	{
		name: "slack", status: 200, kind: "text/html", body: "ok", secrets: []string{"T-canary-1", "canary-slack-1"},
		wrong: []string{"", "no_service", `{"ok":true}`},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewSlack(notify.SlackOptions{URL: secret(base + "/services/T-canary-1/canary-slack-1"), Reach: reach})
		},
	},
	{
		name: "discord", status: 204, secrets: []string{"canary-discord-1", "canary-thread-1"}, wrong: []string{"", "ok", `{"id":"1"}`},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewDiscord(notify.DiscordOptions{
				URL: secret(base + "/api/webhooks/1/canary-discord-1?wait=true&thread_id=canary-thread-1"), Reach: reach,
			})
		},
	},
	{
		name: "telegram", status: 200, kind: "application/json", body: `{"ok":true,"result":{"message_id":1}}`, secrets: []string{"4242:canary-telegram-1"},
		wrong: []string{"", "ok", `{"ok":false,"description":"chat not found"}`, `{"ok":"true"}`, `[]`},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewTelegram(notify.TelegramOptions{Token: secret("4242:canary-telegram-1"), Chat: "-100777", Server: base, Reach: reach})
		},
	},
	{
		name: "ntfy", status: 200, kind: "application/json", body: `{"id":"xE73Iyuabi","event":"message"}`,
		secrets: []string{"canary-topic-1", "tk_canary-token-1"},
		wrong:   []string{"", "ok", `{"id":""}`, `{"event":"message"}`},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewNtfy(notify.NtfyOptions{Server: base, Topic: secret("canary-topic-1"), Token: secret("tk_canary-token-1"), Reach: reach})
		},
	},
	{
		name: "alertmanager", status: 200, secrets: []string{"canary pass\"1"},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewAlertmanager(notify.AlertmanagerOptions{URL: base + "/am/", User: "holdfast", Password: secret("canary pass\"1"), Reach: reach})
		},
	},
	{
		name: "kuma", status: 200, kind: "application/json", body: `{"ok":true}`, secrets: []string{"canaryKuma1"},
		wrong: []string{"", "OK", `{"ok":false,"msg":"Monitor not found or not active."}`},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewKuma(notify.KumaOptions{URL: secret(base + "/api/push/canaryKuma1?status=up&msg=OK&ping="), Reach: reach})
		},
	},
	{
		name: "healthchecks", status: 200, kind: "text/html", body: "OK", secrets: []string{"5b1f0c1e-canary-hc"},
		wrong: []string{"", "OK (not found)", "OK (rate limited)", "Created", "OKAY"},
		open: func(base string, reach notify.Reach) (notify.Channel, error) {
			return notify.NewHealthchecks(notify.HealthchecksOptions{URL: secret(base + "/5b1f0c1e-canary-hc/"), Reach: reach})
		},
	},
}

func each(t *testing.T, test func(t *testing.T, s service)) {
	t.Helper()
	for _, s := range services {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func (s service) must(t *testing.T, base string, reach notify.Reach) notify.Channel {
	t.Helper()
	channel, err := s.open(base, reach)
	if err != nil {
		t.Fatal(err)
	}
	return channel
}

// answer is the good one.
func (s service) answer(w http.ResponseWriter) {
	if s.kind != "" {
		w.Header().Set("Content-Type", s.kind)
	}
	w.WriteHeader(s.status)
	io.WriteString(w, s.body)
}

// hush fails when text shows a secret, in whatever spelling, or is no line for a terminal.
func (s service) hush(t *testing.T, text string) {
	t.Helper()
	for _, word := range s.secrets {
		for _, spelling := range []string{word, url.PathEscape(word), url.QueryEscape(word)} {
			if strings.Contains(text, spelling) {
				t.Errorf("%q shows %q", text, spelling)
			}
		}
	}
	if strings.Contains(strings.ToLower(text), "canary") {
		t.Errorf("%q shows a part of a secret", text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(text) > 700 {
		t.Errorf("not fit to be shown: %q", text)
	}
}

// failure checks an error of a channel: it names the channel, holds want, and no secret.
func (s service) failure(t *testing.T, channel notify.Channel, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("sent, and nobody took it")
	}
	for _, part := range append(want, channel.String()+": ") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want %q in it", err, part)
		}
	}
	for _, form := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", holdfast.Hint(err))} {
		s.hush(t, form)
	}
}

// request is what a service got.
type request struct {
	method, uri string
	header      http.Header
	body        string
}

// sink is a server that keeps what it got, and answers as told.
type sink struct {
	*httptest.Server

	mu  sync.Mutex
	got []request // guarded by mu
}

func newSink(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *sink {
	t.Helper()
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.got = append(s.got, request{r.Method, r.RequestURI, r.Header.Clone(), string(body)})
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

var (
	since = time.Date(2026, 10, 4, 5, 0, 0, 0, time.FixedZone("", 2*3600))
	now   = time.Date(2026, 10, 7, 3, 4, 5, 6, time.UTC)
)

// The messages that are told in tests.
var (
	alarm = notify.Message{
		Kind: notify.Alarm, Severity: notify.Critical, Alarm: "drill-failed", Host: "db1", Job: "orders", Store: "offsite",
		Title: "the newest backup does not restore", Text: "2 of 14 tables differ.\nThe last good drill was 3 days ago.",
		Hint: "look at the report: holdfast report orders", Runbook: "https://runbooks.example.com/drill_failed?job=orders&a=b",
		Since: since, Time: now, Key: "drill-failed/orders/offsite",
	}
	resolved = with(alarm, func(m *notify.Message) {
		m.Kind, m.Title, m.Text, m.Hint = notify.Resolved, "the newest backup restores again", "", ""
	})
	locked = notify.Message{
		Kind: notify.Alarm, Severity: notify.Critical, Alarm: "volume_locked", Host: "db1", Volume: "pg-data",
		Title: "volume pg-data is locked", Text: "what is on it cannot be reached", Hint: "`holdfast volume unlock pg-data`", Time: now, Key: "volume_locked///pg-data/",
	}
	success = notify.Message{
		Kind: notify.Success, Severity: notify.Info, Host: "db1", Job: "orders", Title: "backup abcdefghjk is stored", Time: now,
	}
	failure = notify.Message{
		Kind: notify.Failure, Severity: notify.Warning, Host: "db1", Job: "orders", Title: "no backup was made", Text: "exit status 5", Time: now,
	}
	probe   = notify.Message{Kind: notify.Test, Host: "db1", Title: "can you read this?", Time: now}
	hostile = notify.Message{
		Kind: notify.Alarm, Severity: notify.Warning, Alarm: "stale\r\nX-Alarm: 1", Host: "db1\nBcc: all@example.com\r\n\r\nbody",
		Job: "<@everyone>", Store: "a\x00b\u2028c\u202ed", Volume: "v\r\nX-Volume: 1",
		Title: "<!channel> & \"quotes\"\r\nSubject: other\x1b[31m",
		Text:  "one\r\ntwo\x07\n.\n<b>&amp;</b> \xff", Hint: "a\nb", Time: now, Key: "k\n1",
	}
)

func with(m notify.Message, change func(*notify.Message)) notify.Message {
	change(&m)
	return m
}
