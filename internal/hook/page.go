package hook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast"
)

const (
	// DefaultStatus, DefaultAnswer and DefaultWithin are what a Page means by nothing.
	DefaultStatus = http.StatusOK
	DefaultAnswer = 10 * time.Second
	DefaultWithin = time.Minute

	// again is the pause between two requests.
	again = time.Second
	// bodyLimit is how much of a body is looked at, and bodyShown how much of it is shown.
	bodyLimit = 1 << 20
	bodyShown = 200
)

// Page is a step of health: a request that must be answered as expected, within some time, since an application that was
// started is not there at once. Certificates are checked, redirects are not followed, no proxy is used.
type Page struct {
	URL     string        // http or https, without a password
	Status  int           // 0: DefaultStatus
	Body    string        // text that the body must contain, within its first MiB; "" is any
	Timeout time.Duration // of one request; 0: DefaultAnswer
	Within  time.Duration // of all of them; 0: DefaultWithin

	roots *x509.CertPool // of tests; nil: the system's
}

func (p Page) String() string { return "GET " + p.URL }

// Check has nothing to look at: whether the page answers is known when it is asked.
func (p Page) Check() error { return nil }

func (p Page) do(ctx context.Context, w world) ([]string, error) {
	if p.Status == 0 {
		p.Status = DefaultStatus
	}
	if p.Timeout == 0 {
		p.Timeout = DefaultAnswer
	}
	if p.Within == 0 {
		p.Within = DefaultWithin
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport, Timeout: p.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	timed, cancel := context.WithTimeout(ctx, p.Within)
	defer cancel()
	var seen error
	for {
		err := p.ask(timed, client, w.mask)
		if err == nil {
			return nil, nil
		}
		// What the end of the time cut off says less than what was answered before.
		if seen == nil || timed.Err() == nil {
			seen = err
		}
		select {
		case <-time.After(again):
		case <-timed.Done():
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if timed.Err() != nil {
			return nil, holdfast.WithHint(fmt.Errorf("was not healthy within %s: %w", p.Within, seen), "see what the application logs")
		}
	}
}

// ask makes one request. Its error says what was seen.
func (p Page) ask(ctx context.Context, client *http.Client, mask *Mask) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "holdfast")
	answer, err := client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			if wrapped.Timeout() {
				return fmt.Errorf("no answer within %s", min(p.Timeout, p.Within))
			}
			err = wrapped.Err
		}
		return fmt.Errorf("no answer: %s", mask.Text(printable(err.Error())))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, bodyLimit))
	saw := fmt.Sprintf("it answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if to := answer.Header.Get("Location"); to != "" {
		saw += fmt.Sprintf(" (to %s)", mask.Text(printable(to)))
	}
	switch {
	case answer.StatusCode != p.Status:
		return fmt.Errorf("%s, not %d%s", saw, p.Status, begin(body, mask))
	case strings.Contains(string(body), p.Body):
		return nil
	case err != nil:
		return fmt.Errorf("%s, and then no more of its body: %s", saw, mask.Text(printable(err.Error())))
	}
	return fmt.Errorf("%s, without %q in its body%s", saw, mask.Text(p.Body), begin(body, mask))
}

// begin shows how a body begins.
func begin(body []byte, mask *Mask) string {
	text := strings.Join(strings.Fields(printable(mask.Text(string(body)))), " ")
	if text == "" {
		return "; the body is empty"
	}
	if runes := []rune(text); len(runes) > bodyShown {
		text = string(runes[:bodyShown]) + "…"
	}
	return fmt.Sprintf("; the body begins %q", text)
}
