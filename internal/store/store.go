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
)

// Sentinels a driver wraps, beside fs.ErrNotExist and fs.ErrPermission. Any other error may be retried.
var (
	// ErrExists: an object of that name with other bytes is stored already. Names are write-once.
	ErrExists = errors.New("an object of this name exists with other content")
	// ErrFull: the store has no room.
	ErrFull = errors.New("the store is full")
	// ErrReadOnly: the store takes no writes.
	ErrReadOnly = errors.New("the store is read-only")
	// ErrRetained: the store refuses to delete before a retention time.
	ErrRetained = errors.New("the store retains this object")
)

// Object is what a listing tells.
type Object struct {
	Name     string
	Size     int64
	Modified time.Time
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
type Driver interface {
	Put(ctx context.Context, name string, r io.Reader) error
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	Delete(ctx context.Context, name string) error
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// CheckName refuses names outside the rule in the package's doc, and names beyond 512 bytes. Drivers call it first.
func CheckName(name string) error {
	if len(name) > 512 || !nameRule.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("object name %q is not valid", name)
	}
	return nil
}
