// Package report holds what a drill found, and renders it for people: Markdown and HTML.
//
// It hides the wording and the layout of a proof report. It is not its job to find anything out, or to store it. A
// report carries inner names (tables, files): it is stored sealed, or written where the reader of the data wants it.
package report

import (
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/source"
)

// Drill is the record of one drill.
type Drill struct {
	Verdict  holdfast.Verdict `json:"verdict"`
	Who      string           `json:"who"`
	Host     string           `json:"host"`
	Version  string           `json:"version"`
	Started  time.Time        `json:"started"`
	Finished time.Time        `json:"finished"`
	Next     time.Time        `json:"next_due"`
	Backup   Backup           `json:"backup"`
	File     *File            `json:"file,omitempty"` // of another tool, when that was drilled and no backup
	Checks   []Check          `json:"checks"`
	Sources  []Source         `json:"sources"`
	Issues   []string         `json:"issues"`
	Phases   []Phase          `json:"phases"`
	Opted    []string         `json:"opted,omitempty"` // safety that was given up by explicit choice

	PromisedRTO time.Duration `json:"promised_rto,omitempty"` // 0: nothing was promised
	PromisedRPO time.Duration `json:"promised_rpo,omitempty"`
}

// Backup is what the report says of the backup that was drilled.
type Backup struct {
	ID            holdfast.BackupID `json:"id"`
	Job           holdfast.JobName  `json:"job"`
	Host          string            `json:"host"`
	Time          time.Time         `json:"time"`
	Reason        string            `json:"reason,omitempty"`
	Complete      bool              `json:"complete"`
	Stored        int64             `json:"stored_bytes"`
	Plain         int64             `json:"plain_bytes"`
	Digest        string            `json:"manifest_sha256"`
	Signer        string            `json:"signer"`
	SignerTrusted bool              `json:"signer_trusted"`
	Missing       []string          `json:"missing,omitempty"`
}

// Result of one check.
type Result string

// The results.
const (
	Passed  Result = "passed"
	Failed  Result = "failed"
	Unknown Result = "not tested"
	None    Result = "none"
)

// Check is one line of the checklist.
type Check struct {
	Name   string `json:"name"` // integrity, secrets, config, data, start, health, assertions
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"`
}

// Phase is a named part of the time it took: together they are the recovery time.
type Phase struct {
	Name    string        `json:"name"`
	Elapsed time.Duration `json:"nanoseconds"`
}

// Source is what was found of one source.
type Source struct {
	Name        holdfast.SourceName `json:"name"`
	Kind        holdfast.Kind       `json:"kind"`
	Secret      bool                `json:"secret"`
	Rows        []Row               `json:"rows"`
	Unshown     int                 `json:"rows_unshown,omitempty"` // rows that are the same and were left out of Rows
	Differences []string            `json:"differences,omitempty"`
	Texts       []string            `json:"texts,omitempty"` // "text differs", fails nothing
	Listed      []string            `json:"listed,omitempty"`
	Exclusions  []string            `json:"exclusions,omitempty"`
	Notes       []string            `json:"notes,omitempty"`
	Compared    int                 `json:"compared"`
	Told        bool                `json:"told,omitempty"` // compared with what a file says of itself, and not with facts
	Error       string              `json:"error,omitempty"`
	Hint        string              `json:"hint,omitempty"`
	CannotTest  bool                `json:"cannot_test,omitempty"` // Error says what is missing, and accuses nothing
	Damaged     bool                `json:"damaged,omitempty"`     // Error says that what is stored is not what was written
	Leftover    string              `json:"leftover,omitempty"`    // what the drill made and could not remove
	Started     bool                `json:"started"`               // its throwaway stood
	Properties  map[string]string   `json:"properties,omitempty"`
	Assertions  []Assertion         `json:"assertions,omitempty"`
	Live        *Live               `json:"live,omitempty"` // nil: nothing live was compared
}

// Row is one line of the table "stored, restored, difference".
type Row struct {
	Class    string `json:"class"`
	Name     string `json:"name"`
	Stored   int64  `json:"stored"`
	Restored int64  `json:"restored"`
	Unit     string `json:"unit"`             // rows or bytes
	Same     bool   `json:"same"`             // digest included
	Untold   bool   `json:"untold,omitempty"` // nobody said how much is stored: Stored means nothing
}

// Assertion is a user's own check.
type Assertion struct {
	Name   string `json:"name"`
	Query  string `json:"query"`
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"`
}

// RPO is how much time the backup would have lost at the moment of the drill. Backups made within one second get times
// one after another, so that a drill at once may begin before the time of its backup.
func (d *Drill) RPO() time.Duration {
	if d.File != nil {
		return max(0, d.Started.Sub(d.File.Made))
	}
	return max(0, d.Started.Sub(d.Backup.Time))
}

// RTO is how long it took until everything stood again, checks included.
func (d *Drill) RTO() time.Duration {
	var sum time.Duration
	for _, phase := range d.Phases {
		sum += phase.Elapsed
	}
	return sum
}

// Differences counts what fails, what only differs in text, and all that was compared.
func (d *Drill) Differences() (failing, texts, compared int) {
	for _, src := range d.Sources {
		failing += len(src.Differences)
		texts += len(src.Texts)
		compared += src.Compared
	}
	return failing, texts, compared
}

// Rows pairs the countable facts of both sides for the table of the report. Classes with neither rows nor bytes are left
// to Differences. At most limit rows that are the same are kept per class, and unshown counts the others; rows that differ
// are always kept.
func Rows(stored, restored []source.Fact, limit int) (rows []Row, unshown int) {
	type key struct{ class, name string }
	back := make(map[key]source.Fact, len(restored))
	for _, fact := range restored {
		back[key{fact.Class, fact.Name}] = fact
	}
	kept := make(map[string]int)
	for _, fact := range stored {
		if fact.Rule != source.Exact || fact.Digest == "" {
			continue
		}
		other, found := back[key{fact.Class, fact.Name}]
		row := Row{Class: fact.Class, Name: fact.Name, Stored: fact.Bytes, Restored: other.Bytes, Unit: "bytes"}
		if fact.Class == "table" {
			row.Stored, row.Restored, row.Unit = fact.Rows, other.Rows, "rows"
		}
		row.Same = found && fact.Rows == other.Rows && fact.Bytes == other.Bytes && fact.Digest == other.Digest && fact.Text == other.Text
		if row.Same {
			if kept[fact.Class] >= limit {
				unshown++
				continue
			}
			kept[fact.Class]++
		}
		rows = append(rows, row)
	}
	return rows, unshown
}

// Size prints bytes for people, in powers of 1000.
func Size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	value, unit := float64(n), 0
	for value >= 999.5 && unit < len(units)-1 {
		value /= 1000
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// Span prints a duration for people.
func Span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d.Round(100*time.Millisecond) >= time.Minute:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
