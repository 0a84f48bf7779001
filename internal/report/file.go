package report

import (
	"fmt"
	"strings"
	"time"

	"holdfast"
)

// File is what the report says of a backup file of another tool. Nothing was recorded when it was made.
type File struct {
	Path   string    `json:"path"`
	What   string    `json:"what"` // content and layers: "SQL, gzip, openpgp"
	Size   int64     `json:"size"`
	SHA256 string    `json:"sha256"`
	Plain  int64     `json:"plain_size"`
	Made   time.Time `json:"made"` // by its name, else by its time of change
	// From says what it was taken from, in the file's own words: "PostgreSQL 15.14, by pg_dump 15.14".
	From string `json:"from,omitempty"`
	// Unauthenticated says that its seal does not notice changed bytes.
	Unauthenticated bool `json:"unauthenticated,omitempty"`
	// Weak tells how its key was made of the passphrase, where whoever has the file can find it by trying.
	Weak string `json:"weak,omitempty"`
	// Holds counts what came out of it.
	Holds string `json:"holds,omitempty"`
	// Imported is the record under which it was imported, if it was.
	Imported string `json:"imported,omitempty"`
}

// title names what was drilled.
func title(d *Drill) string {
	if d.File != nil {
		return "file " + d.File.Path
	}
	return "backup " + string(d.Backup.ID)
}

// claim says in a sentence what the verdict means for what was drilled.
func claim(d *Drill) string {
	switch {
	case d.File == nil:
	case d.Verdict == holdfast.Restores:
		return "The file restores: all that is in it came out of it. Nothing was recorded when it was made, so nobody can say what is missing from it."
	case d.Verdict == holdfast.Failed:
		return "The file does not restore, or not to what it says of itself. The issues tell why."
	case d.Verdict == holdfast.CannotTest:
		return "The drill could not be made. This says nothing about the file; the issues say what is missing."
	}
	return Meaning(d.Verdict)
}

// fileSummary is the head of the report on a file.
func fileSummary(d *Drill) []Line {
	f := d.File
	lines := []Line{
		{"tested by", d.Who + " on " + d.Host + ", holdfast " + d.Version},
		{"started", d.Started.Format(timeLayout)},
		{"finished", d.Finished.Format(timeLayout)},
		{"file", f.Path},
		{"what it is", f.What},
		{"size", fmt.Sprintf("%s, unpacked %s", Size(f.Size), Size(f.Plain))},
		{"SHA-256", f.SHA256},
		{"made, by its name or its time of change", f.Made.UTC().Format(timeLayout)},
	}
	if f.From != "" {
		lines = append(lines, Line{"taken from, as it says", f.From})
	}
	if f.Holds != "" {
		lines = append(lines, Line{"holds", f.Holds})
	}
	if f.Unauthenticated {
		lines = append(lines, Line{"unauthenticated", "openssl enc does not notice changed bytes: what came out may have been altered"})
	}
	if f.Weak != "" {
		lines = append(lines, Line{"weak key derivation", f.Weak + ": whoever has the file can try billions of passphrases a second"})
	}
	if f.Imported != "" {
		lines = append(lines, Line{"imported as", f.Imported})
	}
	return append(lines,
		Line{"recorded when it was made", "nothing: what came out is compared with what the file says of itself"},
		Line{"recovery time (RTO)", Span(d.RTO())},
		Line{"data loss had it been needed (RPO)", Span(d.RPO())})
}

// columns name the two sides of the table of a source.
func (s Source) columns() (before, after string) {
	if s.Told {
		return "in the file", "restored"
	}
	return "stored", "restored"
}

// before is the left side of a row.
func (r Row) before() string {
	if r.Untold {
		return "not told"
	}
	return fmt.Sprintf("%d %s", r.Stored, r.Unit)
}

// sum tells how much was compared.
func (s Source) sum() string {
	if s.Told {
		return fmt.Sprintf("%d compared with what the file says of itself, %d differences.", s.Compared, len(s.Differences))
	}
	return fmt.Sprintf("%d facts compared, %d differences, %d texts differ.", s.Compared, len(s.Differences), len(s.Texts))
}

func headline(d *Drill) string { return strings.ToUpper(string(d.Verdict)) }
