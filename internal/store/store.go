// Package store keeps objects under names, and is the only place that retries.
//
// A [Driver] knows one protocol; [Store] wraps it with retries and counters and is what everybody else uses. It is
// not its job to know what a backup is.
//
// Names are slash-separated, relative, clean paths of letters, digits and "._-", segments not beginning
// with a dot: see [CheckName].
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"
	"time"

	"holdfast"
)

// Sentinels a driver wraps, beside fs.ErrNotExist and fs.ErrPermission. Any other error may be retried.
var (
	// ErrExists: an object of that name with other bytes is stored already. Names are write-once.
	ErrExists = errors.New("an object of this name exists with other content")
	// ErrFull: the store has no room.
	ErrFull = errors.New("the store is full")
	// ErrReadOnly: the store takes no writes.
	ErrReadOnly = errors.New("the store is read-only")
	// ErrRetained: the store refuses to delete before a retention time. See [RetainedError].
	ErrRetained = errors.New("the store retains this object")
	// ErrNoStore: the store itself is not there: no such bucket, no such folder at the far side. It is never
	// fs.ErrNotExist, which speaks of one object.
	ErrNoStore = errors.New("there is no store")
)

// RetainedError is an [ErrRetained] that knows its end.
type RetainedError struct {
	Until time.Time // zero: not known
}

func (e *RetainedError) Error() string {
	if e.Until.IsZero() {
		return ErrRetained.Error()
	}
	return ErrRetained.Error() + " until " + e.Until.UTC().Format(time.RFC3339)
}

// Is makes it an [ErrRetained].
func (e *RetainedError) Is(target error) bool { return target == ErrRetained }

// LaterError is a failure whose server said when to ask again (Retry-After). It is tried again, not before that.
type LaterError struct {
	After time.Duration
	Err   error
}

func (e *LaterError) Error() string { return e.Err.Error() }

// Unwrap is the failure itself.
func (e *LaterError) Unwrap() error { return e.Err }

// Object is what a listing tells.
type Object struct {
	Name     string
	Size     int64
	Modified time.Time
	// Hidden: the store shows it in its history alone. Something other than a prune deleted it.
	Hidden bool
	// Versions counts the contents that the name has had, where a store keeps them; more than one means that
	// something wrote over it. Open reads the oldest, which is the one that was put first. 0: not kept, or one.
	Versions int
}

// Driver keeps objects under names.
//
// Laws, tested by storetest:
//   - Names are write-once: there is no overwrite. A second Put of the same bytes succeeds; of other bytes it fails
//     with ErrExists and leaves the stored object as it was.
//   - Put reads r to its end and returns only when the object is durable under its name. It never shows part of an
//     object: when r fails, or ctx ends, nothing is stored. The caller keeps ownership of r.
//   - Open reads length bytes from offset; length -1 reads to the end. The caller closes the reader. A missing name is
//     fs.ErrNotExist, at Open.
//   - List yields every object whose name begins with prefix, ordered by name. A prefix nothing has is an empty list.
//     A store that is not there is an error, never an empty list.
//   - Delete of a missing name succeeds.
//   - All methods are safe for concurrent use.
//   - Errors are classified, and nothing else: a sentinel of this package, fs.ErrNotExist and fs.ErrPermission are final,
//     everything else may be tried again. No error and no log line holds a secret.
//   - Only a [Retrier] tries again. A driver that takes a stream in pieces may give each piece to one.
type Driver interface {
	Put(ctx context.Context, name string, r io.Reader) error
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	Delete(ctx context.Context, name string) error
}

// Linker is a Driver that can make an address from which anybody reads one object, without credentials, until it expires.
type Linker interface {
	Link(ctx context.Context, name string, expires time.Duration) (holdfast.Secret, error)
}

// Inspector is a Driver that can tell how its store is set up, for doctor. Nothing is changed.
type Inspector interface {
	Inspect(ctx context.Context, about Inspection) ([]Finding, error)
}

// Inspection is what the set-up of a store is held against.
type Inspection struct {
	// Keep is the longest time for which retention keeps a backup in this store. 0: not known, or for ever.
	Keep time.Duration
	// WriteOnly: this host only makes backups, so that credentials which can delete are too many.
	WriteOnly bool
}

// Finding is one thing that Inspect saw.
type Finding struct {
	Severity Severity
	Message  string // one sentence
	Fix      string // what to do
}

// Severity of a finding.
type Severity string

// The severities: a backup would fail, a person should know, and all is well.
const (
	Fails Severity = "fails"
	Warns Severity = "warns"
	Fine  Severity = "fine"
)

// Spacer is a Driver that knows how many bytes its store can still take.
type Spacer interface {
	Free(ctx context.Context) (int64, error)
}

// Retainer is a Driver whose store may refuse to delete an object for a time.
type Retainer interface {
	// Retained is a [RetainedError] when the store would refuse to delete name now, and nil when it would not or when it cannot be
	// asked.
	Retained(ctx context.Context, name string) error
}

// Janitor is a Driver whose store collects what calls that were cut left behind, such as parts of uploads.
type Janitor interface {
	// Sweep removes what is older than age and returns how much it removed, with a name for what that was.
	Sweep(ctx context.Context, age time.Duration) (n int, what string, err error)
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// CheckName refuses names outside the rule in the package's doc, and names beyond 512 bytes. Drivers call it first.
func CheckName(name string) error {
	if len(name) > 512 || !nameRule.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("object name %q is not valid", name)
	}
	return nil
}
