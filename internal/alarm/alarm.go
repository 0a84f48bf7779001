// Package alarm decides which findings are told, and when: it remembers what was told, so that an alarm that lasts is told again only after
// a while, one that ended is told once, and one that comes and goes is not told each time.
//
// Its laws: it is pure, and what it remembers is a value that encodes to JSON; what nobody took stays due; a finding that holds is never
// forgotten; quiet hours hold back warnings, and never what is critical. It is not its job to judge (health) or to send (notify).
package alarm

import (
	"slices"
	"strings"
	"time"

	"holdfast/internal/health"
)

// What a Policy says by default.
const (
	DefaultResend = 24 * time.Hour
	DefaultCalm   = 15 * time.Minute
)

// Policy says how often what is told.
type Policy struct {
	Resend time.Duration // of an alarm that lasts; 0: DefaultResend
	Calm   time.Duration // how long a finding must be gone to count as ended; 0: DefaultCalm
	Quiet  bool          // whether now is in the quiet hours
}

func (p Policy) filled() Policy {
	if p.Resend == 0 {
		p.Resend = DefaultResend
	}
	if p.Calm == 0 {
		p.Calm = DefaultCalm
	}
	return p
}

const (
	// flaps is how often an alarm must have begun within flapTime to be held back.
	flaps    = 3
	flapTime = 24 * time.Hour
	// flapCalm is how long one that is held back must be gone.
	flapCalm = 6 * time.Hour
)

// Book is what is remembered. Its zero value remembers nothing. It is not safe for concurrent use.
type Book struct {
	Entries map[string]*Entry `json:"entries"` // by the finding's key
	Looked  time.Time         `json:"looked"`  // when it was last looked
}

// Entry is one alarm that holds, or that ended a short while ago.
type Entry struct {
	Finding health.Finding `json:"finding"`         // as it was last found
	First   time.Time      `json:"first"`           // when it was first found
	Seen    time.Time      `json:"seen"`            // when it was last found
	Told    time.Time      `json:"told"`            // when somebody last took it; zero: nobody did
	Began   []time.Time    `json:"began,omitempty"` // when it began, within the last day
	Over    bool           `json:"over,omitempty"`  // it ended, and is remembered for how often it began
}

// Due is something that is to be told.
type Due struct {
	Finding health.Finding
	Ended   bool          // it is over
	Again   bool          // it was told before, and lasts
	Often   bool          // it comes and goes: its end is told only when it was gone for hours
	Lasted  time.Duration // since it was first found
	First   time.Time
}

// Look takes in what is found now and returns what is to be told, the worst first, and what ended last. What is told and taken must be marked
// with [Book.Took]; all else is due again the next time.
func (b *Book) Look(now time.Time, findings []health.Finding, p Policy) []Due {
	p = p.filled()
	if b.Entries == nil {
		b.Entries = map[string]*Entry{}
	}
	before := b.Looked
	b.Looked = now
	holds := map[string]bool{}
	var due []Due
	for _, f := range findings {
		key := f.Key()
		if holds[key] {
			continue
		}
		holds[key] = true
		e := b.found(key, f, before, now, p)
		if p.Quiet && f.Alarm.Severity() < health.Critical {
			continue
		}
		switch {
		case e.Told.IsZero():
			due = append(due, e.due(now, false))
		case now.Sub(e.Told) >= p.Resend || now.Before(e.Told):
			d := e.due(now, false)
			d.Again = true
			due = append(due, d)
		}
	}
	for _, key := range b.keys() {
		e := b.Entries[key]
		if holds[key] || now.Sub(e.Seen) < e.calm(now, p) && !now.Before(e.Seen) {
			continue
		}
		if e.Over || e.Told.IsZero() {
			// Nobody heard of its beginning, or somebody did of its end.
			if e.Over = true; now.Sub(e.Seen) > flapTime {
				delete(b.Entries, key)
			}
			continue
		}
		if p.Quiet && e.Finding.Alarm.Severity() < health.Critical {
			continue
		}
		due = append(due, e.due(now, true))
	}
	return due
}

// found takes down that a finding holds. The look before this one was at before.
func (b *Book) found(key string, f health.Finding, before, now time.Time, p Policy) *Entry {
	e := b.Entries[key]
	if e == nil {
		e = &Entry{First: now}
		b.Entries[key] = e
	}
	// It began now if it was not there a while ago. Where nobody looked meanwhile, it lasted.
	if e.Seen.IsZero() || e.Seen.Before(before) && now.Sub(e.Seen) > p.Calm {
		e.Began = append(e.Began, now)
	}
	if e.Over {
		e.First, e.Told, e.Over = now, time.Time{}, false
	}
	e.Began = slices.DeleteFunc(e.Began, func(at time.Time) bool { return now.Sub(at) > flapTime })
	e.Finding, e.Seen = f, now
	return e
}

func (e *Entry) often(now time.Time) bool {
	recent := 0
	for _, at := range e.Began {
		if now.Sub(at) <= flapTime {
			recent++
		}
	}
	return recent >= flaps
}

func (e *Entry) calm(now time.Time, p Policy) time.Duration {
	if e.often(now) {
		return max(p.Calm, flapCalm)
	}
	return p.Calm
}

func (e *Entry) due(now time.Time, ended bool) Due {
	d := Due{Finding: e.Finding, Ended: ended, Often: e.often(now), First: e.First, Lasted: now.Sub(e.First)}
	if ended {
		d.Lasted = e.Seen.Sub(e.First)
	}
	return d
}

// Took marks that somebody took what was due.
func (b *Book) Took(d Due, now time.Time) {
	key := d.Finding.Key()
	e := b.Entries[key]
	switch {
	case e == nil:
	case d.Ended:
		e.Over = true
	default:
		e.Told = now
	}
}

func (b *Book) keys() []string {
	keys := make([]string, 0, len(b.Entries))
	for key := range b.Entries {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
