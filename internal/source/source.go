// Package source declares what a driver of a data source promises: to capture one consistent view, to bring it back,
// and to say in comparable facts what it saw.
//
// It hides how facts are compared. It is not its job to know any kind of data: drivers live in sub-packages.
package source

import (
	"context"
	"io"
	"strings"

	"holdfast"
)

// Hint tells a repository how the bytes of an item behave over time.
type Hint string

// The hints.
const (
	Stream Hint = "stream" // no structure known
	Pages  Hint = "pages"  // changes in place, in pages aligned to 64 KiB
)

// Source is something to back up. Its methods are safe for concurrent use, but two captures of one source may wait
// for each other.
type Source interface {
	// Capture pins one consistent view of the source until the capture is closed. It fails rather than capture part
	// of what was asked for. Errors carry a hint (holdfast.WithHint) that says what to do.
	Capture(ctx context.Context, observe holdfast.Observer) (Capture, error)
	// Diagnose looks for what would make a capture fail or be incomplete, all of it in one go. An error means that
	// it could not look at all.
	Diagnose(ctx context.Context) ([]Finding, error)
}

// Capture is one pinned view. An archive opens the items one after another, in order; Open itself is safe for
// concurrent use.
type Capture interface {
	// Items lists what will be stored, in the order of restoring. It does not read the data.
	Items() []Item
	// Facts tells what was in the bytes that were read. It may be called once every item has been read to its end
	// and closed without an error; before that it fails.
	Facts(ctx context.Context) (Facts, error)
	// Close releases the view. A failed Close means that the view may not have held: the source is then absent from
	// the backup.
	Close() error
}

// Item is one stream of a capture.
type Item struct {
	// Name is the object's name before the suffixes of compression and sealing: "app.sql", "auth.sqlite",
	// "config.tar". It begins with the source's name.
	Name string
	Hint Hint
	// Size is the number of bytes expected, for progress only; 0 when not known.
	Size int64
	// Open starts reading. The reader's Close reports whether the bytes were whole (exit statuses, trailers): an
	// item is good only when Read reached io.EOF and Close returned nil.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Finding is one thing that Diagnose saw.
type Finding struct {
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`       // one sentence
	Fix      string   `json:"fix,omitempty"` // what to do: a command, a GRANT line, a setting
}

// Severity of a finding.
type Severity string

// The severities: a backup would fail, a person should know, and all is well.
const (
	Fails Severity = "fails"
	Warns Severity = "warns"
	Fine  Severity = "fine"
)

// Stored is what a backup holds of one source, as a restore sees it.
type Stored struct {
	Source holdfast.SourceName
	Kind   holdfast.Kind
	Secret bool // restore with modes that only the owner can read
	Facts  Facts
	Items  []StoredItem
}

// StoredItem is one stored stream, opened as plaintext. The reader authenticates before it hands a byte on, and its
// Read returns io.EOF only after the whole stored object was checked against its recorded digest.
type StoredItem struct {
	Name string // as Item.Name
	Size int64  // plain bytes
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Item returns the stored item called name.
func (s Stored) Item(name string) (StoredItem, bool) {
	for _, item := range s.Items {
		if item.Name == name {
			return item, true
		}
	}
	return StoredItem{}, false
}

// Place is where a restore lands: a staging area beside the final place, or a drill's throwaway. Nothing at the
// final place changes before Commit. Methods are called one after another: Restore, Check, then Commit or nothing,
// then Close.
type Place interface {
	// Restore brings the stored items into staging.
	Restore(ctx context.Context, stored Stored) error
	// Check reads back what stands in staging, through the same reader that made the facts at backup time.
	Check(ctx context.Context) (Facts, error)
	// Commit lets staging take the final place and says in one line where the data now is. A drill's throwaway
	// returns an error: it has no final place.
	Commit(ctx context.Context) (string, error)
	// Close removes staging that was not committed, and whatever the place started.
	Close() error
}

// Reversible is a Place that knows, after Commit, how to give what it moved aside its place back.
type Reversible interface {
	// Undo returns the command that does so, for a shell; "" when nothing was moved aside.
	Undo() string
}

// ShellWord quotes text as one word of a shell's command line. Holdfast runs no shell: it is for commands that it prints.
func ShellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if text != "" && strings.TrimFunc(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// Asserter is a Place that can evaluate a user's assertion against what was restored (a SQL query whose first
// column of the first row must be true).
type Asserter interface {
	Assert(ctx context.Context, query string) (bool, error)
}
