package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Mirror is a place that gets copies of objects and no others.
type Mirror interface {
	Push(ctx context.Context, objects []Object, open func(ctx context.Context, name string) (io.ReadCloser, error)) error
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	Fetch(ctx context.Context, name string, w io.Writer) error
	Check(ctx context.Context, names []string, open func(ctx context.Context, name string) (io.ReadCloser, error)) (different []string, err error)
}

// AsMirror lets a Store be a mirror.
func AsMirror(s *Store) Mirror { return asMirror{s} }

type asMirror struct{ *Store }

func (m asMirror) Push(ctx context.Context, objects []Object, open func(ctx context.Context, name string) (io.ReadCloser, error)) error {
	for _, o := range objects {
		r, err := open(ctx, o.Name)
		if err != nil {
			return fmt.Errorf("open %s: %w", o.Name, err)
		}
		if err := errors.Join(m.Put(ctx, o.Name, r), r.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (m asMirror) Fetch(ctx context.Context, name string, w io.Writer) error {
	r, err := m.Open(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

func (m asMirror) Check(context.Context, []string, func(ctx context.Context, name string) (io.ReadCloser, error)) ([]string, error) {
	return nil, errors.New("not yet")
}
