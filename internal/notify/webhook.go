package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast"
)

// SignatureHeader is the header that a [Webhook] with a secret signs in.
const SignatureHeader = "X-Holdfast-Signature"

// WebhookOptions is where a [Webhook] leads.
type WebhookOptions struct {
	URL           holdfast.Secret // what stands behind the host is often all that protects it
	Secret        holdfast.Secret // signs what is sent; none: it is not signed
	Authorization holdfast.Secret // the whole value of that header, as "Bearer …"; none: no header
	Expect        string          // what the answer must hold, within its first 64 KiB; "": any answer that is no HTML page
	Reach         Reach
}

// Webhook posts the JSON of a [Message] to a program of the user's own.
//
// With a secret every request has the header
//
//	X-Holdfast-Signature: t=<seconds since 1970>,v1=<signature>
//
// whose signature is the HMAC-SHA256 (RFC 2104), in lower-case hexadecimal, of what stands behind t=, a dot, and the body, byte for
// byte. A receiver takes the body as it came, before it is parsed; computes the same; compares both in constant time, as
// hmac.compare_digest, crypto.timingSafeEqual or hmac.Equal do; and refuses a t that is more than five minutes from its own
// clock, so that an old message cannot be sent again. It should ignore other parts beside t and v1: they may come.
type Webhook struct {
	*client
	secret        holdfast.Secret
	authorization holdfast.Secret
	expect        string
}

// NewWebhook checks options. It connects to nothing.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	if err := checkHeader("webhook", o.Authorization); err != nil {
		return nil, err
	}
	// Of "Bearer x" a server may repeat x alone.
	_, token, _ := strings.Cut(o.Authorization.Reveal(), " ")
	c, err := newClient("webhook", o.URL.Reveal(), o.Reach, o.Secret, o.Authorization, holdfast.NewSecret(token))
	if err != nil {
		return nil, err
	}
	return &Webhook{c, o.Secret, o.Authorization, o.Expect}, nil
}

// Send posts m.
func (w *Webhook) Send(ctx context.Context, m Message) error {
	body, err := encode(m.clean())
	if err != nil {
		return w.failed(fmt.Errorf("write the message: %w", err))
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if !w.authorization.IsZero() {
		header.Set("Authorization", w.authorization.Reveal())
	}
	if !w.secret.IsZero() {
		header.Set(SignatureHeader, sign(w.secret, time.Now(), body))
	}
	got, err := w.ask(ctx, http.MethodPost, w.base, header, body)
	switch {
	case err != nil:
		return err
	case w.expect == "" && got.page:
		return holdfast.WithHint(w.wrong(got, "with a page, not an acknowledgement"),
			"look whether a sign-in or an error page stands before the receiver, or say what its answer must hold")
	case !strings.Contains(got.body, w.expect):
		return w.wrong(got, fmt.Sprintf("without %q", w.mask.text(w.expect, answerShown)))
	}
	return nil
}

// sign is the value of the signature header.
func sign(secret holdfast.Secret, now time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	fmt.Fprintf(mac, "%d.%s", now.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
