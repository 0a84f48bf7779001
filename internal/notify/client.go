package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

const (
	// requestLimit is how long a service may take to answer.
	requestLimit = 10 * time.Second
	// answerLimit is how much of an answer is read, and answerShown how many characters of it are shown.
	answerLimit = 64 << 10
	answerShown = 120
	// causeShown is how much is shown of why a connection failed, which may hold what the other side sent.
	causeShown = 200
)

// client asks one service. A new connection is made each time: messages are rare.
type client struct {
	kind  string
	base  *url.URL
	mask  masker
	reach Reach

	limit    time.Duration  // of tests; 0: the constant
	roots    *x509.CertPool // of tests; nil: the system's
	resolver *net.Resolver  // of tests; nil: the system's
}

// newClient checks an address. secrets are what must not be shown beside the pieces of the address itself.
func newClient(kind, address string, reach Reach, secrets ...holdfast.Secret) (*client, error) {
	base, err := parseAddress(kind, address, reach)
	if err != nil {
		return nil, err
	}
	hidden := pieces(base)
	for _, secret := range secrets {
		hidden = append(hidden, secret.Reveal())
	}
	return &client{kind: kind, base: base, reach: reach, mask: newMasker(hidden)}, nil
}

// parseAddress says what is wrong with an address without repeating it.
func parseAddress(kind, address string, reach Reach) (*url.URL, error) {
	if address == "" {
		return nil, usage(kind, "no address is given", "write the URL that the service shows")
	}
	base, err := url.Parse(address)
	if err != nil || base.Hostname() == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, usage(kind, "the address is not an http or https URL", "write it as the service shows it, from https:// on")
	}
	if base.User != nil || base.Fragment != "" {
		return nil, usage(kind, "the address has a user name or a # in it", "take it out; passwords and tokens have settings of their own")
	}
	if port := base.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, usage(kind, "the port of the address is not valid", "use a port from 1 to 65535")
		}
	}
	if addr, err := netip.ParseAddr(base.Hostname()); err == nil && metadata(embedded(addr)) {
		return nil, usage(kind, "the address is link-local, or else where hosts have their metadata service", "write the address of a host that takes messages")
	}
	if base.Scheme == "http" && !reach.AllowPlain && !loopback(base.Hostname()) {
		return nil, usage(kind, "the address is not https", "use https, or allow plain http for this channel when its network can be trusted")
	}
	return base, nil
}

func usage(kind, what, hint string) error {
	return holdfast.WithHint(fmt.Errorf("%w: %s: %s", holdfast.ErrUsage, kind, what), hint)
}

// checkHeader refuses a secret that cannot stand in a header.
func checkHeader(kind string, secret holdfast.Secret) error {
	if controls(secret.Reveal()) {
		return usage(kind, "a secret has a line break or another control character in it", "look how it was copied")
	}
	return nil
}

func controls(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (c *client) String() string { return c.kind + " " + c.base.Host }

// answer is what a service said to a request that it took.
type answer struct {
	status int
	page   bool // it is HTML
	body   string
}

// encode is JSON as services read it: what Go escapes for HTML would count against their limits.
func encode(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// postJSON posts value. header may be nil.
func (c *client) postJSON(ctx context.Context, target *url.URL, header http.Header, value any) (answer, error) {
	body, err := encode(value)
	if err != nil {
		return answer{}, c.failed(fmt.Errorf("write the message: %w", err))
	}
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	return c.ask(ctx, http.MethodPost, target, header, body)
}

// ask makes one request, and returns an answer of status 2xx. Every other end is an error.
func (c *client) ask(ctx context.Context, method string, target *url.URL, header http.Header, body []byte) (answer, error) {
	limit := c.limit
	if limit == 0 {
		limit = requestLimit
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(timed, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return answer{}, c.failed(errors.New("its address makes no request")) // the cause would repeat the address
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("User-Agent", "holdfast")

	dialer := &net.Dialer{Control: guard{c.base.Hostname(), c.reach.AllowPrivate}.control, Resolver: c.resolver}
	transport := &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: c.roots}, DisableKeepAlives: true, MaxResponseHeaderBytes: answerLimit,
	}
	// An http.Client would look at where a redirect leads, and repeat it in its errors, which name the whole address too.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{}, c.unanswered(ctx, timed, limit, err)
	}
	defer response.Body.Close()
	var said []byte
	if response.StatusCode >= 200 { // what follows a switch of protocols (101) is no body, and no context would end it
		said, err = io.ReadAll(io.LimitReader(response.Body, answerLimit))
	}
	got := answer{response.StatusCode, page(response.Header.Get("Content-Type"), said), string(said)}
	switch {
	case got.status >= 300 && got.status < 400:
		return answer{}, c.redirected(got, response.Header.Get("Location"))
	case got.status < 200 || got.status >= 300:
		return answer{}, holdfast.WithHint(c.wrong(got, ""), hintOf(got.status))
	case err != nil:
		return answer{}, c.unanswered(ctx, timed, limit, err)
	}
	return got, nil
}

// page reports whether an answer is HTML, as it says or as it begins: error pages come with any type, a malformed one, and none.
func page(kind string, body []byte) bool {
	for _, kind := range []string{kind, http.DetectContentType(body)} {
		name, _, _ := strings.Cut(kind, ";")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "text/html", "application/xhtml+xml":
			return true
		}
	}
	return false
}

// failed names the channel.
func (c *client) failed(err error) error { return fmt.Errorf("%s: %w", c, err) }

// wrong is the error of an answer, and why it is none when the status alone does not say it.
func (c *client) wrong(got answer, why string) error {
	text := strings.TrimSpace(fmt.Sprintf("answered %d %s", got.status, http.StatusText(got.status)))
	if why != "" {
		text += ", but " + why
	}
	if said := c.mask.text(got.body, answerShown); said != "" {
		text += fmt.Sprintf(": %q", said)
	}
	return c.failed(errors.New(text))
}

// redirected says which host a redirect leads to, not where there: that may be a secret, or one of the other side.
func (c *client) redirected(got answer, location string) error {
	text := fmt.Sprintf("answered %d %s", got.status, http.StatusText(got.status))
	if to, err := c.base.Parse(location); err == nil && location != "" && to.Host != "" {
		text += ", a redirect to " + c.mask.text(to.Scheme+"://"+to.Host, answerShown)
	}
	return holdfast.WithHint(c.failed(errors.New(text+"; redirects are not followed")),
		"write the address that takes messages itself, with https when it has it")
}

// unanswered is the error of a request without an answer.
func (c *client) unanswered(ctx, timed context.Context, limit time.Duration, err error) error {
	if ctx.Err() != nil {
		return c.failed(context.Cause(ctx))
	}
	if timed.Err() != nil {
		return c.failed(fmt.Errorf("no answer within %s", limit))
	}
	return holdfast.WithHint(c.failed(errors.New("no answer: "+c.mask.text(err.Error(), causeShown))), holdfast.Hint(err))
}

// hintOf says what a status usually means.
func hintOf(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "look whether the address, the token or the password is still valid"
	case http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed:
		return "look whether the address is complete and what it leads to still exists"
	case http.StatusTooManyRequests:
		return "the service takes no more messages for now"
	}
	return "see what the service says about its state"
}
