package report

import (
	"fmt"
	"strings"
	"time"

	"holdfast/internal/source"
)

// Live is how a live source has changed since its facts were recorded. Nothing of it accuses the backup.
type Live struct {
	Where string `json:"where"` // which source, without any secret
	// Taken is the time of the one view that the live source was read in, by its own clock.
	Taken    time.Time `json:"taken"`
	Compared int       `json:"compared"`
	Same     int       `json:"same"`
	// Rows are the tables, files and large objects that changed, came or went, and of those that did not a few.
	Rows    []LiveRow `json:"rows,omitempty"`
	Unshown int       `json:"rows_unshown,omitempty"`
	// Changes is every other change, a line each: sequences, columns, privileges, definitions.
	Changes []string `json:"changes,omitempty"`
	// Error says why the live source could not be read; nothing else is set then.
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// LiveRow is one line of the table "then, now, change".
type LiveRow struct {
	Class string `json:"class"`
	Name  string `json:"name"`
	Then  int64  `json:"then"`
	Now   int64  `json:"now"`
	Unit  string `json:"unit"` // rows or bytes
	State string `json:"state"`
}

// The states of a row.
const (
	LiveSame    = "same" // digest included
	LiveChanged = "changed"
	LiveNew     = "new"
	LiveGone    = "gone"
)

// NewLive compares what was recorded with what is live now. Of rows that are the same at most limit are kept per class.
func NewLive(where string, then, now source.Facts, limit int) *Live {
	live := &Live{Where: where, Taken: now.Taken}
	type key struct{ class, name string }
	drifted := map[key]bool{}
	for _, drift := range source.Drifts(then.Facts, now.Facts) {
		drifted[key{drift.Class, drift.Name}] = true
		if drift.Class == "definition" && (drift.Then == nil || drift.Now == nil) {
			continue // that the object came or went is told by its entry in the schema
		}
		if !countable(drift.Then) && !countable(drift.Now) {
			live.Changes = append(live.Changes, drift.String())
			continue
		}
		row := LiveRow{Class: drift.Class, Name: drift.Name, State: LiveChanged, Unit: "bytes"}
		switch {
		case drift.Then == nil:
			row.State = LiveNew
		case drift.Now == nil:
			row.State = LiveGone
		}
		row.Then, _ = count(drift.Then)
		row.Now, row.Unit = count(drift.Now)
		if drift.Now == nil {
			row.Then, row.Unit = count(drift.Then)
		}
		live.Rows = append(live.Rows, row)
	}
	kept := map[string]int{}
	for _, fact := range then.Facts {
		if fact.Rule == source.Listed {
			continue
		}
		live.Compared++
		if drifted[key{fact.Class, fact.Name}] {
			continue
		}
		live.Same++
		if !countable(&fact) {
			continue
		}
		if kept[fact.Class]++; kept[fact.Class] > limit {
			live.Unshown++
			continue
		}
		n, unit := count(&fact)
		live.Rows = append(live.Rows, LiveRow{Class: fact.Class, Name: fact.Name, Then: n, Now: n, Unit: unit, State: LiveSame})
	}
	return live
}

// countable reports whether a fact has rows or bytes to show.
func countable(fact *source.Fact) bool {
	return fact != nil && fact.Rule == source.Exact && fact.Digest != ""
}

func count(fact *source.Fact) (n int64, unit string) {
	if fact == nil {
		return 0, "bytes"
	}
	if fact.Class == "table" {
		return fact.Rows, "rows"
	}
	return fact.Bytes, "bytes"
}

// Drifted counts what changed, of everything that was compared.
func (l *Live) Drifted() int {
	n := len(l.Changes)
	for _, row := range l.Rows {
		if row.State != LiveSame {
			n++
		}
	}
	return n
}

// String sums it up in one line.
func (l *Live) String() string {
	if l.Error != "" {
		return "the live source was not compared: " + l.Error
	}
	counts := map[string]map[string]int{}
	for _, row := range l.Rows {
		if row.State != LiveSame {
			if counts[row.State] == nil {
				counts[row.State] = map[string]int{}
			}
			counts[row.State][row.Class]++
		}
	}
	var parts []string
	for _, state := range []string{LiveChanged, LiveNew, LiveGone} {
		for _, class := range []string{"table", "file", "image", "large object"} {
			if n := counts[state][class]; n > 0 {
				parts = append(parts, fmt.Sprintf("%s %s", plural(n, class), state))
			}
		}
	}
	if n := len(l.Changes); n > 0 {
		parts = append(parts, plural(n, "other change"))
	}
	if len(parts) == 0 {
		return fmt.Sprintf("nothing changed in %s since the backup, all %d facts are the same", l.Where, l.Compared)
	}
	return fmt.Sprintf("since the backup, in %s: %s; %d of %d facts are the same", l.Where, strings.Join(parts, ", "), l.Same, l.Compared)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// String tells the row in one line.
func (r LiveRow) String() string {
	switch r.State {
	case LiveNew, LiveGone:
		return fmt.Sprintf("%s %s is %s (%d %s)", r.Class, r.Name, r.State, r.Then+r.Now, r.Unit)
	case LiveSame:
		return fmt.Sprintf("%s %s: %d %s, the same", r.Class, r.Name, r.Now, r.Unit)
	}
	return fmt.Sprintf("%s %s: %d %s then, %d now, %s", r.Class, r.Name, r.Then, r.Unit, r.Now, r.Change())
}

// Change tells how much came or went.
func (r LiveRow) Change() string {
	switch {
	case r.State != LiveChanged:
		return r.State
	case r.Then != r.Now:
		return fmt.Sprintf("%+d", r.Now-r.Then)
	}
	return "other content"
}

// Lines are all changes, a line each, at most limit of them, with how many more there are.
func (l *Live) Lines(limit int) []string {
	var lines []string
	for _, row := range l.Rows {
		if row.State != LiveSame {
			lines = append(lines, row.String())
		}
	}
	lines = append(lines, l.Changes...)
	if len(lines) > limit {
		lines = append(lines[:limit:limit], fmt.Sprintf("and %d more", len(lines)-limit))
	}
	return lines
}

// heading begins the part of the report.
func (l *Live) heading() string {
	if l.Error != "" {
		return "Live source"
	}
	return "Live source, read at " + l.Taken.UTC().Format(timeLayout)
}

const liveNote = "What changed in the live source since the backup was made. It says nothing about the backup, and fails nothing."

func markdownLive(b *strings.Builder, l *Live) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n%s.\n", cell(l.heading()), liveNote, cell(l.String()))
	if len(l.Rows) > 0 {
		b.WriteString("\n| | name | then | now | change |\n|---|---|---:|---:|---|\n")
		for _, row := range l.Rows {
			fmt.Fprintf(b, "| %s | %s | %d %s | %d | %s |\n", cell(row.Class), cell(row.Name), row.Then, row.Unit, row.Now, row.Change())
		}
	}
	if l.Unshown > 0 {
		fmt.Fprintf(b, "\nAnd %d more that are the same.\n", l.Unshown)
	}
	if len(l.Changes) > 0 {
		b.WriteString("\nOther changes:\n\n")
		for _, line := range l.Changes {
			fmt.Fprintf(b, "- %s\n", cell(line))
		}
	}
}
