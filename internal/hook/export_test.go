package hook

import (
	"context"
	"crypto/x509"
	"time"

	"holdfast"
)

// WithGrace shortens the time from SIGTERM to SIGKILL.
func (c Command) WithGrace(d time.Duration) Command { c.grace = d; return c }

// WithRoots trusts other certificates than the system's.
func (p Page) WithRoots(roots *x509.CertPool) Page { p.roots = roots; return p }

// Do does one step alone, and returns what it printed and what was warned of.
func Do(ctx context.Context, step Step, secrets ...holdfast.Secret) (said, warned []string, err error) {
	said, err = step.do(ctx, world{mask: NewMask(secrets), warn: func(message string) { warned = append(warned, message) }})
	return said, warned, err
}

// Filtered passes text through a filter in pieces of the given size, and through an excerpt.
func (m *Mask) Filtered(text string, piece int) []string {
	var kept excerpt
	f := m.filter(&kept)
	for len(text) > 0 {
		n := min(piece, len(text))
		_, _ = f.Write([]byte(text[:n]))
		text = text[n:]
	}
	f.flush()
	return kept.lines()
}
