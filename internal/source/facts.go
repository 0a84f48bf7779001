package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Facts is what was recorded of one source while its bytes were read. Facts are stored sealed: they carry inner names.
type Facts struct {
	Kind holdfast.Kind `json:"kind"`
	// Taken is the time of the pinned view by the source's own clock, UTC.
	Taken time.Time `json:"taken"`
	// Properties describe the source as a whole (server version, encoding, collation, LSN lower bound, …).
	// They are shown and used to restore, and are not compared.
	Properties map[string]string `json:"properties,omitempty"`
	// Exclusions lists what the configuration left out, in its own words; they stand in manifest and proof.
	Exclusions []string `json:"exclusions,omitempty"`
	// Notes are remarks for a person: a global that changed meanwhile, a view that is refreshed and not proven.
	Notes []string `json:"notes,omitempty"`
	Facts []Fact   `json:"facts"`
	// Driver holds what only the driver of this kind needs to restore, as JSON.
	Driver []byte `json:"driver,omitempty"`
}

// Rule says how a fact is compared after a restore.
type Rule string

// The rules.
const (
	Exact  Rule = "exact"  // any difference fails the drill
	Text   Rule = "text"   // a difference in Digest or Text alone is shown as "text differs" and fails nothing
	Listed Rule = "listed" // shown, not compared: what is refreshed, not proven
)

// Fact is one countable thing: a table leaf, a sequence, a large object, a file, an entry of the schema.
type Fact struct {
	Class string `json:"class"` // "table", "sequence", "large object", "extension", "schema", "definition", "file", …
	Name  string `json:"name"`  // unique within its class
	Rule  Rule   `json:"rule"`
	// Rows, Bytes and Digest are compared when the rule is Exact; zero where they have no meaning.
	Rows   int64  `json:"rows,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Digest string `json:"digest,omitempty"` // lower-case hexadecimal
	// Text is compared as it stands: a sequence's setval arguments, a file's mode and owner, columns and types.
	Text string `json:"text,omitempty"`
}

// Difference is one disagreement between what was stored and what came back.
type Difference struct {
	Class    string `json:"class"`
	Name     string `json:"name"`
	Rule     Rule   `json:"rule"`
	Stored   *Fact  `json:"stored,omitempty"`   // nil: not stored
	Restored *Fact  `json:"restored,omitempty"` // nil: did not come back
}

// Fails reports whether the difference makes a drill fail.
func (d Difference) Fails() bool { return d.Rule == Exact }

// String tells the difference in one line.
func (d Difference) String() string {
	switch {
	case d.Restored == nil:
		return fmt.Sprintf("%s %s did not come back", d.Class, d.Name)
	case d.Stored == nil:
		return fmt.Sprintf("%s %s came back and was never stored", d.Class, d.Name)
	case d.Rule == Text:
		return fmt.Sprintf("%s %s: text differs", d.Class, d.Name)
	}
	var parts []string
	if a, b := d.Stored.Rows, d.Restored.Rows; a != b {
		parts = append(parts, fmt.Sprintf("%d rows stored, %d restored", a, b))
	}
	if a, b := d.Stored.Bytes, d.Restored.Bytes; a != b {
		parts = append(parts, fmt.Sprintf("%d bytes stored, %d restored", a, b))
	}
	if d.Stored.Text != d.Restored.Text {
		parts = append(parts, fmt.Sprintf("%q stored, %q restored", d.Stored.Text, d.Restored.Text))
	}
	if len(parts) == 0 {
		parts = append(parts, "same counts, other content")
	}
	return fmt.Sprintf("%s %s: %s", d.Class, d.Name, strings.Join(parts, ", "))
}

// Compare lists how restored differs from stored, ordered by class and name. Facts with the rule Listed are left out.
// Two facts of one class and name on one side are a bug of the driver, and are reported as a difference of that name.
func Compare(stored, restored []Fact) []Difference {
	type key struct{ class, name string }
	index := make(map[key]*Fact, len(restored))
	var differences []Difference
	for i := range restored {
		fact := &restored[i]
		if fact.Rule == Listed {
			continue
		}
		k := key{fact.Class, fact.Name}
		if index[k] != nil {
			differences = append(differences, Difference{fact.Class, fact.Name, Exact, nil, fact})
			continue
		}
		index[k] = fact
	}
	for i := range stored {
		fact := &stored[i]
		if fact.Rule == Listed {
			continue
		}
		k := key{fact.Class, fact.Name}
		other, found := index[k]
		delete(index, k)
		if !found {
			differences = append(differences, Difference{fact.Class, fact.Name, fact.Rule, fact, nil})
			continue
		}
		if fact.Rows != other.Rows || fact.Bytes != other.Bytes || fact.Digest != other.Digest || fact.Text != other.Text {
			differences = append(differences, Difference{fact.Class, fact.Name, fact.Rule, fact, other})
		}
	}
	for k, fact := range index {
		differences = append(differences, Difference{k.class, k.name, fact.Rule, nil, fact})
	}
	slices.SortFunc(differences, func(a, b Difference) int {
		if c := strings.Compare(a.Class, b.Class); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return differences
}

// RowSet digests a set of rows without regard to their order: the sum modulo 2^256 of the SHA-256 of each row.
// Equal multisets give equal sums; a row that is missing, doubled or altered changes it. The zero value is the empty
// set. Not safe for concurrent use.
//
// A sum, unlike an exclusive or, does not lose pairs of equal rows. It guards against damage and mistakes, not against
// someone who can choose rows freely: whoever can do that could also forge the data before it was backed up.
type RowSet struct {
	Rows  int64
	Bytes int64
	sum   [4]uint64 // little-endian words
}

// Add adds one row.
func (s *RowSet) Add(row []byte) {
	s.AddSum(sha256.Sum256(row), int64(len(row)))
}

// AddSum adds one row of size bytes by its SHA-256, for a row too long to be held at once.
func (s *RowSet) AddSum(h [sha256.Size]byte, size int64) {
	s.Rows++
	s.Bytes += size
	var carry uint64
	for i := range 4 {
		word := uint64(h[8*i]) | uint64(h[8*i+1])<<8 | uint64(h[8*i+2])<<16 | uint64(h[8*i+3])<<24 |
			uint64(h[8*i+4])<<32 | uint64(h[8*i+5])<<40 | uint64(h[8*i+6])<<48 | uint64(h[8*i+7])<<56
		s.sum[i], carry = bits.Add64(s.sum[i], word, carry)
	}
}

// Merge adds all rows of other.
func (s *RowSet) Merge(other RowSet) {
	s.Rows += other.Rows
	s.Bytes += other.Bytes
	var carry uint64
	for i := range 4 {
		s.sum[i], carry = bits.Add64(s.sum[i], other.sum[i], carry)
	}
}

// Digest returns the sum as 64 hexadecimal digits, least significant byte first.
func (s *RowSet) Digest() string {
	var out [32]byte
	for i, word := range s.sum {
		for j := range 8 {
			out[8*i+j] = byte(word >> (8 * j))
		}
	}
	return hex.EncodeToString(out[:])
}
