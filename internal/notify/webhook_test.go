package notify_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/notify"
)

// mac is HMAC-SHA256 as RFC 2104 defines it, for keys of up to 64 bytes.
func mac(key, text string) string {
	inner, outer := make([]byte, 64), make([]byte, 64)
	copy(inner, key)
	copy(outer, key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	first := sha256.Sum256(append(inner, text...))
	second := sha256.Sum256(append(outer, first[:]...))
	return hex.EncodeToString(second[:])
}

// The vector is of openssl dgst -sha256 -hmac.
func TestSign(t *testing.T) {
	const want = "t=1791342245,v1=0fff5b9966d769c1ec50c3216d9c08e7be82fb9266ad104085245086731d28bc"
	if got := notify.Sign("whsec_1 2", time.Unix(1791342245, 999), `{"kind":"test"}`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A receiver that follows the description takes what was signed, and nothing that was changed.
func TestSignature(t *testing.T) {
	const key = "a key of\nsome lines ü"
	sink := newSink(t, func(http.ResponseWriter, *http.Request) {})
	channel, err := notify.NewWebhook(notify.WebhookOptions{URL: secret(sink.URL), Secret: secret(key)})
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now().Unix()
	if err := channel.Send(t.Context(), hostile); err != nil {
		t.Fatal(err)
	}
	got := sink.requests()[0]
	stamp, signature, ok := strings.Cut(strings.TrimPrefix(got.header.Get("X-Holdfast-Signature"), "t="), ",v1=")
	if !ok || signature != mac(key, stamp+"."+got.body) {
		t.Errorf("%q does not sign the body", got.header.Get("X-Holdfast-Signature"))
	}
	if signature == mac(key, stamp+"."+got.body+" ") || signature == mac(key, "0"+stamp+"."+got.body) {
		t.Error("everything is taken")
	}
	if at, err := strconv.ParseInt(stamp, 10, 64); err != nil || at < before || at > time.Now().Unix() {
		t.Errorf("signed at %s: %v", stamp, err)
	}
	open, err := notify.NewWebhook(notify.WebhookOptions{URL: secret(sink.URL)})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Send(t.Context(), alarm); err != nil {
		t.Fatal(err)
	}
	if header := sink.requests()[1].header; header.Get("X-Holdfast-Signature") != "" || header.Get("Authorization") != "" {
		t.Errorf("without a secret: %v", header)
	}
}

func TestExpect(t *testing.T) {
	for _, test := range []struct{ name, kind, body, expect, want string }{
		{name: "an empty answer"},
		{name: "a text", kind: "text/plain", body: "sign in"},
		{"a page", "text/html; charset=utf-8", "<html>Sign in</html>", "", `answered 200 OK, but with a page, not an acknowledgement: "<html>Sign in</html>"`},
		{"a page in XHTML", "Application/XHTML+xml", "<html/>", "", "with a page"},
		{"a page that calls itself a text", "text/plain", "\n<!DOCTYPE html>\n<title>Sign in", "", "with a page"},
		{"a page of a malformed type", "text/html; charset=utf-8; charset=iso-8859-1", "Sign in", "", "with a page"},
		{"a page without a type", "none", "<html>Sign in</html>", "", "with a page"},
		{name: "what is expected", kind: "application/json", body: `{"status": "queued"}`, expect: `"queued"`},
		{name: "what is expected, by a server that calls everything HTML", kind: "text/html", body: "taken", expect: "taken"},
		{"something else", "application/json", `{"status": "error"}`, `"queued"`, `answered 200 OK, but without "\"queued\""`},
		{"nothing", "", "", "taken", `without "taken"`},
		{"what is expected, too late", "text/plain", strings.Repeat(".", 64<<10) + "taken", "taken", `without "taken"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
				switch test.kind {
				case "":
				case "none":
					w.Header()["Content-Type"] = nil
				default:
					w.Header().Set("Content-Type", test.kind)
				}
				io.WriteString(w, test.body)
			})
			channel, err := notify.NewWebhook(notify.WebhookOptions{URL: secret(sink.URL), Expect: test.expect})
			if err != nil {
				t.Fatal(err)
			}
			err = channel.Send(t.Context(), alarm)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
