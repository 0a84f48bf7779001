package hook_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/hook"
)

func TestPage(t *testing.T) {
	const canary = "canary-6f1d0c55"
	mux := http.NewServeMux()
	answer := func(path string, status int, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.Header.Get("User-Agent") != "holdfast" {
				status = http.StatusTeapot
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	answer("/good", 200, `{"ok":true}`)
	answer("/empty", 204, "")
	answer("/ill", 503, "database is away, tried "+canary+"\x1b[31m and\n\nthen "+strings.Repeat("more ", 100))
	answer("/late", 200, strings.Repeat("x", 1<<20)+"ok")
	mux.Handle("/moved", http.RedirectHandler("/good?token="+canary, http.StatusFound))
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "begin")
	})
	mux.HandleFunc("/rude", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	})
	plain := httptest.NewServer(mux)
	t.Cleanup(plain.Close)
	sealed := httptest.NewTLSServer(mux)
	t.Cleanup(sealed.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(sealed.Certificate())
	nobody := httptest.NewServer(mux)
	nobody.Close()

	const soon = time.Second
	for _, test := range []struct {
		name string
		page hook.Page
		want []string // parts of the error; none: it is healthy
	}{
		{"good", hook.Page{URL: plain.URL + "/good"}, nil},
		{"good, with its body", hook.Page{URL: plain.URL + "/good", Body: `"ok":true`}, nil},
		{"another status that is expected", hook.Page{URL: plain.URL + "/empty", Status: 204}, nil},
		{"a redirect that is expected", hook.Page{URL: plain.URL + "/moved", Status: 302}, nil},
		{"over TLS", hook.Page{URL: sealed.URL + "/good"}.WithRoots(trusted), nil},
		{"wrong status", hook.Page{URL: plain.URL + "/ill"}, []string{"was not healthy within 1s: it answered 503 Service Unavailable, not 200; the body begins \"database is away, tried ********�[31m and then more more", "…\""}},
		{"a redirect", hook.Page{URL: plain.URL + "/moved"}, []string{"it answered 302 Found (to /good?token=********), not 200"}},
		{"wrong body", hook.Page{URL: plain.URL + "/good", Body: "ready"}, []string{`it answered 200 OK, without "ready" in its body; the body begins "{\"ok\":true}"`}},
		{"empty body", hook.Page{URL: plain.URL + "/empty", Status: 204, Body: "x"}, []string{"the body is empty"}},
		{"a body that is too long to be searched", hook.Page{URL: plain.URL + "/late", Body: "ok"}, []string{`without "ok" in its body`}},
		{"a body that is cut", hook.Page{URL: plain.URL + "/cut", Body: "end"}, []string{"it answered 200 OK, and then no more of its body: unexpected EOF"}},
		{"slow", hook.Page{URL: plain.URL + "/slow", Timeout: 50 * time.Millisecond}, []string{"no answer within 50ms"}},
		{"no answer", hook.Page{URL: plain.URL + "/rude"}, []string{"no answer: "}},
		{"nobody there", hook.Page{URL: nobody.URL + "/good"}, []string{"no answer: dial tcp 127.0.0.1:", "connection refused"}},
		{"a certificate nobody trusts", hook.Page{URL: sealed.URL + "/good"}, []string{"no answer: tls: failed to verify certificate: x509: certificate signed by unknown authority"}},
		{"TLS with one who speaks none", hook.Page{URL: strings.Replace(plain.URL, "http:", "https:", 1) + "/good"}.WithRoots(trusted), []string{"no answer: http: server gave HTTP response to HTTPS client"}},
		{"a host that does not exist", hook.Page{URL: "http://no-such-host.invalid/"}, []string{"no answer: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.want != nil {
				test.page.Within = soon
			}
			_, _, err := hook.Do(t.Context(), test.page, holdfast.NewSecret(canary))
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want %q in it", err, part)
				}
			}
			if err != nil && (strings.Contains(err.Error(), canary) || strings.ContainsRune(err.Error(), 0x1b) || len(err.Error()) > 500) {
				t.Errorf("got %q", err)
			}
		})
	}
}

// An application needs a while; its page is asked again until it answers as expected.
func TestPageBecomesHealthy(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	if _, _, err := hook.Do(t.Context(), hook.Page{URL: server.URL, Within: patience}); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

func TestPageInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		cancel(holdfast.ErrInterrupted)
	}))
	defer server.Close()
	if _, _, err := hook.Do(ctx, hook.Page{URL: server.URL, Within: patience}); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("got %v", err)
	}
}
