package notify_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
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

// A status of 200 with other words than the service's own is no acknowledgement.
func TestNotAcknowledged(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		page := "<!doctype html><title>502 Bad Gateway</title> " + strings.Join(s.secrets, " ")
		for _, body := range append(s.wrong, page) {
			sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
				if body == page {
					w.Header().Set("Content-Type", "text/html; charset=utf-8")
				}
				io.WriteString(w, body)
			})
			channel := s.must(t, sink.URL, notify.Reach{})
			s.failure(t, channel, channel.Send(t.Context(), alarm), "answered 200 OK, but ")
			if beat, ok := channel.(notify.Beat); ok {
				s.failure(t, channel, beat.End(t.Context(), run, 0, 0, ""), "answered 200 OK, but ")
			}
		}
	})
}

// What a server repeats of a request is not shown, in whatever way it spells it.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		for _, spell := range []func(string) string{strings.Clone, url.QueryEscape, url.PathEscape, html.EscapeString, func(word string) string {
			quoted := fmt.Sprintf("%q", word)
			return quoted[1 : len(quoted)-1]
		}} {
			sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Token", s.secrets[0])
				w.WriteHeader(http.StatusInternalServerError)
				fmt.Fprintf(w, "\x1b[31mcannot\r\n\r\n%s by %s: ", spell(r.RequestURI), spell(r.Header.Get("Authorization")))
				for _, word := range s.secrets {
					fmt.Fprintf(w, "<%s> ", spell(word))
				}
				io.WriteString(w, strings.Repeat("and more ", 100_000))
			})
			channel := s.must(t, sink.URL, notify.Reach{})
			err := channel.Send(t.Context(), alarm)
			s.failure(t, channel, err, `answered 500 Internal Server Error: "`, "cannot ", "********")
			if _, shown, _ := strings.Cut(err.Error(), `: "`); len([]rune(shown)) > 120+len(`"`)+10 {
				t.Errorf("too much is shown: %s", shown)
			}
		}
	})
}

// Of two secrets that begin alike the whole of the longer one is hidden.
func TestSecretsThatBeginAlike(t *testing.T) {
	sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "no backup-zebra for backup")
	})
	channel, err := notify.NewNtfy(notify.NtfyOptions{Server: sink.URL, Topic: secret("backup"), Token: secret("backup-zebra")})
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.Send(t.Context(), alarm); err == nil || !strings.Contains(err.Error(), `"no ******** for ********"`) {
		t.Errorf("got %v", err)
	}
}

// A secret is hidden as servers in other languages spell it: PHP, Python, Ruby, JavaScript.
func TestSpellings(t *testing.T) {
	const token = `can/ary"1'é😀&`
	for _, spelt := range []string{
		token, `can\/ary\"1'\u00e9\ud83d\ude00&`, `can/ary\"1'\u00e9\ud83d\ude00&`, `can\/ary\"1'é😀&`, "can/ary&quot;1&#039;é😀&amp;",
		"can/ary&quot;1&#x27;é😀&amp;", "can/ary&quot;1&#39;é😀&amp;", "can/ary&#34;1&#39;é😀&amp;",
	} {
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "no "+spelt+" here")
		})
		channel, err := notify.NewWebhook(notify.WebhookOptions{URL: secret(sink.URL), Authorization: secret("Bearer " + token)})
		if err != nil {
			t.Fatal(err)
		}
		if err := channel.Send(t.Context(), alarm); err == nil || !strings.HasSuffix(err.Error(), `: "no ******** here"`) {
			t.Errorf("%s: got %v", spelt, err)
		}
	}
}

// A redirect is not followed, wherever it leads, and where it leads is not told.
func TestRedirects(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		other := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
		for _, location := range []string{
			"http://169.254.169.254/latest/meta-data?token=" + s.secrets[0], other.URL + "/canary", "http://127.0.0.1:1/canary", "/canary-elsewhere",
			"https://user:canary@example.com/canary#canary", "//example.com/canary", "", "::canary",
		} {
			for _, status := range []int{301, 302, 303, 307, 308} {
				sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", location)
					w.WriteHeader(status)
				})
				channel := s.must(t, sink.URL, notify.Reach{AllowPrivate: true})
				s.failure(t, channel, channel.Send(t.Context(), alarm), fmt.Sprintf("answered %d ", status), "redirects are not followed")
				if n := len(sink.requests()); n != 1 {
					t.Errorf("%d requests", n)
				}
			}
		}
		if n := len(other.requests()); n != 0 {
			t.Errorf("%d requests were redirected", n)
		}
	})
}

func TestNoAnswer(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		hijack := func(said string) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, said)
				conn.Close()
			}
		}
		for name, test := range map[string]struct {
			answer func(http.ResponseWriter, *http.Request)
			want   string
		}{
			"it hangs up":      {hijack(""), "no answer: EOF"},
			"it speaks else":   {hijack(strings.Join(s.secrets, " ") + "\x1b\r\n"), "malformed HTTP"},
			"it ends too soon": {hijack("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + s.body), "unexpected EOF"},
			"it changes the subject": {func(w http.ResponseWriter, r *http.Request) { // and leaves the connection open
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n")
				go func() {
					defer conn.Close()
					_, _ = io.Copy(io.Discard, conn) // until the client hangs up
				}()
			}, "answered 101 Switching Protocols"},
			"endless headers": {hijack("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), "headers exceeded"},
		} {
			t.Run(name, func(t *testing.T) {
				sink := newSink(t, test.answer)
				channel := s.must(t, sink.URL, notify.Reach{})
				s.failure(t, channel, channel.Send(t.Context(), alarm), test.want)
			})
		}
		t.Run("nobody is there", func(t *testing.T) {
			nobody := httptest.NewServer(nil)
			nobody.Close()
			channel := s.must(t, nobody.URL, notify.Reach{})
			s.failure(t, channel, channel.Send(t.Context(), alarm), "connection refused")
		})
		t.Run("no such host", func(t *testing.T) {
			channel := s.must(t, "https://no-such-host.invalid", notify.Reach{})
			s.failure(t, channel, channel.Send(t.Context(), alarm), "no-such-host.invalid")
		})
	})
}

// slow answers when the request is given up, with a call to begun before.
func slow(t *testing.T, begun func()) *sink {
	return newSink(t, func(_ http.ResponseWriter, r *http.Request) {
		begun()
		<-r.Context().Done()
	})
}

func TestInterrupted(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		ctx, cancel := context.WithCancelCause(t.Context())
		sink := slow(t, func() { cancel(holdfast.ErrInterrupted) })
		channel := s.must(t, sink.URL, notify.Reach{})
		err := channel.Send(ctx, alarm)
		s.failure(t, channel, err)
		if !errors.Is(err, holdfast.ErrInterrupted) || len(sink.requests()) != 1 {
			t.Errorf("got %v after %d requests", err, len(sink.requests()))
		}
	})
}

func TestTooSlow(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		sink := slow(t, func() {})
		channel := s.must(t, sink.URL, notify.Reach{})
		notify.Hurry(channel, 50*time.Millisecond)
		s.failure(t, channel, channel.Send(t.Context(), alarm), "no answer within 50ms")
	})
}

func TestCertificates(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.answer(w) }))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)

		channel := s.must(t, server.URL, notify.Reach{})
		s.failure(t, channel, channel.Send(t.Context(), alarm), "no answer: tls: failed to verify certificate")

		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		notify.Trust(channel, roots)
		if err := channel.Send(t.Context(), alarm); err != nil {
			t.Error(err)
		}
		other := s.must(t, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), notify.Reach{})
		notify.Trust(other, roots)
		s.failure(t, other, other.Send(t.Context(), alarm), "certificate is valid for")
	})
}

func TestConcurrentUse(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
		channel := s.must(t, sink.URL, notify.Reach{})
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if err := channel.Send(t.Context(), alarm); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if n := len(sink.requests()); n != 8 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestNames(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		channel := s.must(t, "https://notify.example.com:8443", notify.Reach{})
		if got := channel.String(); got != s.name+" notify.example.com:8443" {
			t.Errorf("it is called %q", got)
		}
		s.hush(t, fmt.Sprint(channel))
	})
}

func TestAddresses(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		for _, test := range []struct {
			base  string
			reach notify.Reach
			want  string // "": it is good
		}{
			{base: "https://example.com"},
			{base: "https://192.168.1.7:8443"},
			{base: "http://localhost:9093"},
			{base: "http://127.0.0.1:9093"},
			{base: "http://[::1]:9093"},
			{base: "http://example.com", reach: notify.Reach{AllowPlain: true}},
			{"http://example.com", notify.Reach{}, "not https"},
			{"http://example.com", notify.Reach{AllowPrivate: true}, "not https"},
			{"http://192.168.1.7", notify.Reach{}, "not https"},
			{"http://localhost.example.com", notify.Reach{}, "not https"},
			{"ftp://example.com", notify.Reach{AllowPlain: true}, "not an http or https URL"},
			{"https://", notify.Reach{}, "not an http or https URL"},
			{"example.com", notify.Reach{}, "not an http or https URL"},
			{"https://exa mple.com", notify.Reach{}, "not an http or https URL"},
			{"https://me:canary@example.com", notify.Reach{}, "user name"},
			{"https://example.com:0", notify.Reach{}, "port"},
			{"https://example.com:70000", notify.Reach{}, "port"},
			{"https://169.254.169.254", notify.Reach{AllowPrivate: true}, "link-local"},
			{"https://[fe80::1]", notify.Reach{AllowPrivate: true}, "link-local"},
			{"https://[fd00:ec2::254]", notify.Reach{AllowPrivate: true}, "link-local"},
			{"https://[::ffff:169.254.169.254]", notify.Reach{AllowPrivate: true}, "link-local"},
			{"https://[64:ff9b::a9fe:a9fe]", notify.Reach{AllowPrivate: true}, "link-local"},
			{"https://100.100.100.200", notify.Reach{AllowPrivate: true}, "metadata service"},
		} {
			_, err := s.open(test.base, test.reach)
			if test.want == "" {
				if err != nil {
					t.Errorf("%s: %v", test.base, err)
				}
				continue
			}
			if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), test.want) || holdfast.Hint(err) == "" {
				t.Errorf("%s: got %v (%s), want %q", test.base, err, holdfast.Hint(err), test.want)
				continue
			}
			s.hush(t, err.Error()+holdfast.Hint(err))
		}
	})
}

func TestOptions(t *testing.T) {
	const canary = "canary\r\nX: 1"
	for name, open := range map[string]func() (notify.Channel, error){
		"a webhook nowhere": func() (notify.Channel, error) { return notify.NewWebhook(notify.WebhookOptions{}) },
		"a # in the address": func() (notify.Channel, error) {
			return notify.NewSlack(notify.SlackOptions{URL: secret("https://a.example/#canary")})
		},
		"a line break in an address": func() (notify.Channel, error) {
			return notify.NewKuma(notify.KumaOptions{URL: secret("https://a.example/" + canary)})
		},
		"a header in a header": func() (notify.Channel, error) {
			return notify.NewWebhook(notify.WebhookOptions{URL: secret("https://a.example"), Authorization: secret(canary)})
		},
		"a header in ntfy's token": func() (notify.Channel, error) {
			return notify.NewNtfy(notify.NtfyOptions{Topic: secret("t"), Token: secret(canary)})
		},
		"no topic": func() (notify.Channel, error) { return notify.NewNtfy(notify.NtfyOptions{}) },
		"ntfy with a path": func() (notify.Channel, error) {
			return notify.NewNtfy(notify.NtfyOptions{Server: "https://ntfy.sh/canary", Topic: secret("canary")})
		},
		"a topic with a slash": func() (notify.Channel, error) { return notify.NewNtfy(notify.NtfyOptions{Topic: secret("canary/b")}) },
		"no token of a bot":    func() (notify.Channel, error) { return notify.NewTelegram(notify.TelegramOptions{Chat: "1"}) },
		"a token that leads elsewhere": func() (notify.Channel, error) {
			return notify.NewTelegram(notify.TelegramOptions{Token: secret("1:canary/../x"), Chat: "1"})
		},
		"no chat": func() (notify.Channel, error) {
			return notify.NewTelegram(notify.TelegramOptions{Token: secret("1:canary")})
		},
		"both ways to sign in": func() (notify.Channel, error) {
			return notify.NewAlertmanager(notify.AlertmanagerOptions{URL: "https://a.example", User: "u", Password: secret("canary"), Token: secret("canary")})
		},
		"a user without a password": func() (notify.Channel, error) {
			return notify.NewAlertmanager(notify.AlertmanagerOptions{URL: "https://a.example", User: "u"})
		},
		"a password without a user": func() (notify.Channel, error) {
			return notify.NewAlertmanager(notify.AlertmanagerOptions{URL: "https://a.example", Password: secret("canary")})
		},
		"a colon in a user": func() (notify.Channel, error) {
			return notify.NewAlertmanager(notify.AlertmanagerOptions{URL: "https://a.example", User: "a:b", Password: secret("canary")})
		},
		"a header in Alertmanager's token": func() (notify.Channel, error) {
			return notify.NewAlertmanager(notify.AlertmanagerOptions{URL: "https://a.example", Token: secret(canary)})
		},
		"an alarm that ends before it begins": func() (notify.Channel, error) {
			return notify.NewAlertmanager(notify.AlertmanagerOptions{URL: "https://a.example", Lasts: -1})
		},
	} {
		_, err := open()
		if !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%s: got %v", name, err)
		} else if strings.Contains(err.Error()+holdfast.Hint(err), "canary") {
			t.Errorf("%s: %v shows it", name, err)
		}
	}
	for name, open := range map[string]func() (notify.Channel, error){
		"telegram api.telegram.org": func() (notify.Channel, error) {
			return notify.NewTelegram(notify.TelegramOptions{Token: secret("1:canary"), Chat: "@channel_1"})
		},
		"ntfy ntfy.sh": func() (notify.Channel, error) { return notify.NewNtfy(notify.NtfyOptions{Topic: secret("canary")}) },
	} {
		if channel, err := open(); err != nil || channel.String() != name {
			t.Errorf("got %v, %v, want %s", channel, err, name)
		}
	}
}

// What a status means is said beside what was answered.
func TestHints(t *testing.T) {
	hints := map[string]int{}
	for _, status := range []int{401, 403, 404, 410, 429, 500, 503} {
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		channel := services[0].must(t, sink.URL, notify.Reach{})
		err := channel.Send(t.Context(), alarm)
		services[0].failure(t, channel, err, fmt.Sprintf("answered %d %s", status, http.StatusText(status)))
		hints[holdfast.Hint(err)]++
	}
	if len(hints) != 4 || hints[""] != 0 {
		t.Errorf("got %v", hints)
	}
}

// A message that has no JSON is an error, not half a request.
func TestUnwritable(t *testing.T) {
	for _, name := range []string{"webhook", "alertmanager"} {
		for _, s := range services {
			if s.name != name {
				continue
			}
			sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
			channel := s.must(t, sink.URL, notify.Reach{})
			late := with(alarm, func(m *notify.Message) { m.Time = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) })
			s.failure(t, channel, channel.Send(t.Context(), late), "write the message: ")
			if n := len(sink.requests()); n != 0 {
				t.Errorf("%d requests", n)
			}
		}
	}
}
