package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Mirror is a place that takes copies of objects which a store has already. It asks less of a server than [Driver] does: a
// server that allows nothing but rsync can be one. A job's first store is never a mirror.
//
// Laws:
//   - Push copies those objects whose name the mirror does not list. A name that is there stays as it is, whatever its bytes: who
//     reads it back finds a difference. An object appears under its name whole or not at all. When Push fails, some of the
//     objects may have come; pushing again goes on where it stopped. Open is called for one object at a time, and only for
//     those that are missing; Push closes what it returns.
//   - Two writers of one name at once are not kept apart: the later one may win. Who pushes must be the only one.
//   - List is that of [Driver]: ordered, complete or an error.
//   - All methods are safe for concurrent use. Errors are classified like a Driver's.
type Mirror interface {
	Push(ctx context.Context, objects []Object, open func(ctx context.Context, name string) (io.ReadCloser, error)) error
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
}

// Comparer is a Mirror whose far side compares checksums, so that nothing need be fetched back.
type Comparer interface {
	Mirror
	// Check compares the named objects with those at the far side and returns the names that differ or are missing there,
	// ordered. It trusts the far side to read its own disk.
	Check(ctx context.Context, names []string, open func(ctx context.Context, name string) (io.ReadCloser, error)) (different []string, err error)
}

// AsMirror makes a mirror of any store. Its two writers of one name are kept apart as the store does it.
func AsMirror(s *Store) Mirror { return mirror{s} }

type mirror struct{ store *Store }

func (m mirror) Push(ctx context.Context, objects []Object, open func(ctx context.Context, name string) (io.ReadCloser, error)) error {
	missing, err := Missing(ctx, m, objects)
	if err != nil {
		return err
	}
	for _, object := range missing {
		r, err := open(ctx, object.Name)
		if err != nil {
			return fmt.Errorf("push %s: %w", object.Name, err)
		}
		err = m.store.Put(ctx, object.Name, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Missing returns those objects whose name a mirror does not list, each name once, for a Push.
func Missing(ctx context.Context, m Mirror, objects []Object) ([]Object, error) {
	there := map[string]bool{}
	for object, err := range m.List(ctx, beginning(objects)) {
		if err != nil {
			return nil, err
		}
		there[object.Name] = true
	}
	var missing []Object
	for _, object := range objects {
		if !there[object.Name] {
			there[object.Name] = true
			missing = append(missing, object)
		}
	}
	return missing, nil
}

// beginning is what all names begin with: what a backup has is listed, and not what the whole store has.
func beginning(objects []Object) string {
	if len(objects) == 0 {
		return ""
	}
	prefix := objects[0].Name
	for _, object := range objects[1:] {
		for !strings.HasPrefix(object.Name, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix
}

func (m mirror) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return m.store.List(ctx, prefix)
}

// Equal reports whether two readers give the same bytes. It stops at the first that differ.
func Equal(a, b io.Reader) (bool, error) {
	const size = 256 << 10
	left, right := make([]byte, size), make([]byte, size)
	for {
		n, errA := io.ReadFull(a, left)
		m, errB := io.ReadFull(b, right)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if !bytes.Equal(left[:n], right[:m]) {
			return false, nil
		}
		if n < size {
			return true, nil
		}
	}
}
