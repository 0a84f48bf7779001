package notify

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// healthchecksLimit is how many bytes of a text are kept of a ping.
const healthchecksLimit = 10_000

// HealthchecksOptions is where a [Healthchecks] leads.
type HealthchecksOptions struct {
	URL   holdfast.Secret // of the check, by its UUID or its slug
	Reach Reach
}

// Healthchecks pings a check of Healthchecks, hosted or one's own. As a channel it shows the last message alone: give each check one
// thing to watch. See https://healthchecks.io/docs/http_api.
type Healthchecks struct{ *client }

var uuidRule = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// NewHealthchecks checks options. It connects to nothing.
func NewHealthchecks(o HealthchecksOptions) (*Healthchecks, error) {
	c, err := newClient("healthchecks", o.URL.Reveal(), o.Reach)
	if err != nil {
		return nil, err
	}
	c.base = c.base.JoinPath() // without "..", as the paths that are made of it
	c.base.Path, c.base.RawPath = strings.TrimRight(c.base.Path, "/"), strings.TrimRight(c.base.RawPath, "/")
	return &Healthchecks{c}, nil
}

// Send pings a failure for an alarm and a failure, success for a resolution and a success, and for a test a line in the log of the
// check.
func (h *Healthchecks) Send(ctx context.Context, m Message) error {
	m = m.clean()
	signal := ""
	switch {
	case m.Kind == Test:
		signal = "log"
	case !m.up():
		signal = "fail"
	}
	return h.ping(ctx, signal, "", m.fit(m.heading(), healthchecksLimit, inBytes))
}

// Start pings that a run began.
func (h *Healthchecks) Start(ctx context.Context, run string) error {
	return h.ping(ctx, "start", run, "")
}

// End pings success for exit status 0, and the exit status itself for others that a program can have. The service measures
// how long a run took by itself, from its two pings.
func (h *Healthchecks) End(ctx context.Context, run string, exit int, _ time.Duration, text string) error {
	signal := ""
	switch {
	case exit > 0 && exit <= 255:
		signal = strconv.Itoa(exit)
	case exit != 0:
		signal = "fail"
	}
	return h.ping(ctx, signal, run, cut(plain(text), healthchecksLimit, inBytes))
}

func (h *Healthchecks) ping(ctx context.Context, signal, run, text string) error {
	target := *h.base
	if signal != "" {
		target = *h.base.JoinPath(signal)
	}
	if run != "" {
		if !uuidRule.MatchString(run) {
			return h.failed(errors.New("the run is not named by a UUID, which the service would refuse"))
		}
		query := target.Query()
		query.Set("rid", run)
		target.RawQuery = query.Encode()
	}
	got, err := h.ask(ctx, http.MethodPost, &target, http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, []byte(text))
	if err != nil {
		return err
	}
	// The hosted service says 200 to a check that does not exist, and to a ping that it drops, and what it did in words behind OK.
	switch said := strings.TrimSpace(got.body); {
	case got.status == http.StatusOK && said == "OK", got.status == http.StatusCreated && said == "Created":
		return nil
	case strings.HasPrefix(said, "OK (not found)"):
		return holdfast.WithHint(h.wrong(got, "there is no such check"), "look at the address of the check")
	case strings.HasPrefix(said, "OK (rate limited)"):
		return holdfast.WithHint(h.wrong(got, "did not take it"), "it takes five pings a minute of one check")
	default:
		return h.wrong(got, `not "OK" alone`)
	}
}
