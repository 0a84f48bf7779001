package migration

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast"
)

// What a watching means by nothing.
const (
	DefaultWatch = time.Hour
	DefaultEvery = time.Minute
)

// Watching says how a migrated server is watched.
type Watching struct {
	For   time.Duration // 0: DefaultWatch
	Every time.Duration // 0: DefaultEvery
	// Logs returns the lines of the server's log since a moment that a person should see. nil: none.
	Logs func(ctx context.Context, since time.Time) ([]string, error)
}

// FindingKind says what was seen.
type FindingKind string

// The kinds of findings.
const (
	FindingHealth  FindingKind = "health"
	FindingLog     FindingKind = "log"
	FindingLatency FindingKind = "latency" // the shortest of the last Options.Runs measurements is too long: applications are in, so single ones may be
	FindingPlace   FindingKind = "place"   // the server does not run on the volume
)

// Finding is one thing that a watch saw: that something is wrong, when it begins and, but for the latency, each time it is wrong in other words.
type Finding struct {
	Time time.Time
	Kind FindingKind
	Text string
}

// Watch looks at a migrated server until its time is over or ctx ends, which is no error. Each finding is observed as a warning at once. It
// changes nothing: what to do is for a person to decide. Errors wrap [holdfast.ErrUsage] if nothing was migrated.
func (m Migration) Watch(ctx context.Context, w Watching) ([]Finding, error) {
	s, found, err := m.load()
	if err != nil {
		return nil, err
	}
	if !found || s.Course != moving || s.Done != Watched {
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no migrated server to watch", holdfast.ErrUsage), "it is watched between migrate and finish")
	}
	if w.For == 0 {
		w.For = DefaultWatch
	}
	if w.Every == 0 {
		w.Every = DefaultEvery
	}
	ctx, cancel := context.WithTimeout(ctx, w.For)
	defer cancel()
	watch := &watch{run: &run{Migration: m, s: s}, w: w, since: m.w.Now(), last: map[FindingKind]string{}}
	ticker := time.NewTicker(w.Every)
	defer ticker.Stop()
	for {
		watch.round(ctx)
		select {
		case <-ctx.Done():
			return watch.found, nil
		case <-ticker.C:
		}
	}
}

type watch struct {
	*run
	w     Watching
	since time.Time // until when the log was read
	took  []time.Duration
	last  map[FindingKind]string
	found []Finding
}

func (w *watch) round(ctx context.Context) {
	w.see(ctx, FindingPlace, w.onSide(ctx, Sealed))
	err := w.Migration.w.Health(ctx)
	w.see(ctx, FindingHealth, err)
	if err == nil {
		w.latency(ctx)
	}
	if w.w.Logs == nil {
		return
	}
	now := w.Migration.w.Now()
	lines, err := w.w.Logs(ctx, w.since)
	if err != nil {
		w.see(ctx, FindingLog, fmt.Errorf("read the server's log: %w", err))
		return
	}
	w.since = now
	delete(w.last, FindingLog)
	for _, line := range lines {
		w.tell(FindingLog, line)
	}
}

func (w *watch) latency(ctx context.Context) {
	took, err := w.Migration.w.Probe(ctx)
	if err != nil {
		w.see(ctx, FindingLatency, fmt.Errorf("measure the fixed queries: %w", err))
		return
	}
	w.took = append(w.took, took)
	if len(w.took) < w.o.Runs {
		return
	}
	w.took = w.took[len(w.took)-w.o.Runs:]
	over := overhead(w.s.Before, slices.Min(w.took))
	if !w.o.slow(w.s.Before, slices.Min(w.took)) {
		delete(w.last, FindingLatency)
	} else if w.last[FindingLatency] == "" {
		w.see(ctx, FindingLatency, fmt.Errorf("the fixed queries take %s, and took %s on the old directory: %.0f %% more; %.0f %% are allowed",
			slices.Min(w.took), w.s.Before, over*100, w.o.Overhead*100))
	}
}

// see tells what is wrong once, and again only in other words or after it was well.
func (w *watch) see(ctx context.Context, kind FindingKind, err error) {
	switch {
	case ctx.Err() != nil: // what the end of the watch cut off says nothing
	case err == nil:
		delete(w.last, kind)
	case w.last[kind] != err.Error():
		w.last[kind] = err.Error()
		w.tell(kind, holdfast.Sentence(err))
	}
}

func (w *watch) tell(kind FindingKind, text string) {
	w.found = append(w.found, Finding{w.Migration.w.Now(), kind, text})
	w.warn(fmt.Sprintf("%s: %s", kind, text))
}
