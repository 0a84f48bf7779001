package notify

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"holdfast"
)

const (
	// kumaLimit keeps the address, which holds the text, well below what servers take.
	kumaLimit = 500
	// kumaLongest is the longest duration that Uptime Kuma takes; it refuses a push with a longer one.
	kumaLongest = 24 * time.Hour
)

// KumaOptions is where a [Kuma] leads.
type KumaOptions struct {
	URL   holdfast.Secret // of the push monitor, with or without its example query
	Reach Reach
}

// Kuma pushes to a monitor of Uptime Kuma, which is up or down. As a channel it shows the last message alone: give each monitor
// one thing to watch. See https://github.com/louislam/uptime-kuma, its monitor type Push.
type Kuma struct{ *client }

// NewKuma checks options. It connects to nothing.
func NewKuma(o KumaOptions) (*Kuma, error) {
	c, err := newClient("kuma", o.URL.Reveal(), o.Reach)
	if err != nil {
		return nil, err
	}
	return &Kuma{c}, nil
}

// Send pushes down for an alarm and a failure, and up for all else.
func (k *Kuma) Send(ctx context.Context, m Message) error {
	m = m.clean()
	return k.push(ctx, m.up(), m.alone(), "")
}

// Start does nothing: a monitor has no state for it.
func (k *Kuma) Start(context.Context, string) error { return nil }

// End pushes up for exit status 0, and down for all others.
func (k *Kuma) End(ctx context.Context, _ string, exit int, took time.Duration, text string) error {
	took = min(max(took, 0), kumaLongest)
	return k.push(ctx, exit == 0, oneLine(ended(exit, text)), strconv.FormatInt(took.Milliseconds(), 10))
}

func (k *Kuma) push(ctx context.Context, up bool, text, ping string) error {
	status := "down"
	if up {
		status = "up"
	}
	target := *k.base
	query := target.Query()
	query.Set("status", status)
	query.Set("msg", cut(text, kumaLimit, inBytes))
	query.Set("ping", ping)
	target.RawQuery = query.Encode()
	got, err := k.ask(ctx, http.MethodGet, &target, nil, nil)
	if err != nil {
		return err
	}
	if !saysOK(got.body) {
		return k.wrong(got, `without "ok": true`)
	}
	return nil
}
