package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// quarter is the longest time between two looks at what is to be looked at every three months, with some days for whoever was away.
	quarter = 100 * 24 * time.Hour
	// xtsBits is the length of a key of XTS that makes it AES-256: it has two halves (IEEE 1619).
	xtsBits = 512
	// custodians is how many people must be able to open a thing, so that it can still be opened when one of them cannot.
	custodians = 2
)

// Sections are the parts of the report. Each line is made in one place, the rule that says what is missing with it.
func (g GDPR) Sections() []GDPRSection {
	return []GDPRSection{
		g.sealed(), g.keys(), g.places(), g.volumes(), g.rotations(), g.drills(), g.retention(), g.audit(), g.openings(), g.incidents(), g.holders(), g.theft(), g.live(),
	}
}

// Missing are the lines that lack something, in the order of the report.
func (g GDPR) Missing() []GDPRLine {
	return g.lines(func(l GDPRLine) bool { return l.Missing != "" })
}

func (g GDPR) lines(match func(GDPRLine) bool) []GDPRLine {
	var found []GDPRLine
	for _, section := range g.Sections() {
		for _, line := range section.Lines {
			if match(line) {
				found = append(found, line)
			}
		}
	}
	return found
}

// lacks marks a line, the first thing that is missing from it. Lines are made so that a second one has a line of its own.
func (l GDPRLine) lacks(when bool, missing, fix string) GDPRLine {
	if when && l.Missing == "" && l.Unseen == "" {
		l.Missing, l.Fix = missing, fix
	}
	return l
}

// config is where the settings come from.
func (g GDPR) config() string { return cmp.Or(g.Config, "the command line") }

// now is the moment that ages are counted to: the last one of the span, so that the last day of a key or a custodian is one of theirs.
func (g GDPR) now() time.Time {
	if g.Made.Before(g.Until) {
		return g.Made
	}
	return g.Until.Add(-time.Nanosecond)
}

// ago writes a day, and how long ago that was.
func (g GDPR) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	days := int(g.now().Sub(t).Hours() / 24)
	switch {
	case days <= 0:
		return t.UTC().Format(time.DateOnly)
	case days == 1:
		return t.UTC().Format(time.DateOnly) + ", 1 day ago"
	}
	return fmt.Sprintf("%s, %d days ago", t.UTC().Format(time.DateOnly), days)
}

// older reports whether something is longer ago than it may be; what never was is.
func (g GDPR) older(t time.Time, most time.Duration) bool { return t.IsZero() || g.now().Sub(t) > most }

// yearOld reports whether a key is to be replaced for its age.
func (g GDPR) yearOld(made time.Time) bool {
	return !made.IsZero() && !g.now().Before(made.AddDate(1, 0, 0))
}

// last is the newest record that matches, from before the span too.
func (g GDPR) last(match func(GDPRRecord) bool) GDPRRecord {
	for _, r := range slices.Backward(g.Records) {
		if r.Time.Before(g.Until) && match(r) {
			return r
		}
	}
	return GDPRRecord{}
}

// within are the records of the span that match, oldest first.
func (g GDPR) within(match func(GDPRRecord) bool) []GDPRRecord {
	var found []GDPRRecord
	for _, r := range g.Records {
		if !r.Time.Before(g.From) && r.Time.Before(g.Until) && match(r) {
			found = append(found, r)
		}
	}
	return found
}

func (r GDPRRecord) is(events ...string) bool { return slices.Contains(events, r.Event) }

func (r GDPRRecord) good() bool { return r.Result == "good" }

// who is the account, the host and the address that a record names.
func (r GDPRRecord) who() string {
	who := r.Who + "@" + r.Host
	if r.Address != "" && r.Address != "local" {
		who += " from " + r.Address
	}
	return who
}

// about is what a record is about: volume, job, backup.
func (r GDPRRecord) about() string {
	var parts []string
	for _, part := range []struct{ name, value string }{{"volume", r.Volume}, {"job", string(r.Job)}, {"backup", string(r.Backup)}, {"store", r.Store}} {
		if part.value != "" {
			parts = append(parts, part.name+" "+part.value)
		}
	}
	return strings.Join(parts, ", ")
}

// line tells the record: when, who, how it ended, and why.
func (r GDPRRecord) line(article Article) GDPRLine {
	text := fmt.Sprintf("%s, %s: %s", r.Time.UTC().Format("2006-01-02 15:04 UTC"), r.who(), r.Result)
	for _, more := range []string{r.Reason, r.Detail} {
		if more != "" {
			text += "; " + more
		}
	}
	return GDPRLine{What: strings.TrimSpace(r.Event + " " + r.about()), Value: text, Record: r.ID, Article: article}
}

// chains names what the records were read from.
func (g GDPR) chains() string {
	if len(g.Chains) == 0 {
		return "no journal"
	}
	var names []string
	for _, c := range g.Chains {
		names = append(names, c.Name)
	}
	return "journal " + strings.Join(names, ", ")
}

// or is text, or what is said when there is none.
func or(texts []string, none string) string {
	if len(texts) == 0 {
		return none
	}
	return strings.Join(texts, ", ")
}
