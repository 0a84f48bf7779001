package store_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// texts is a source of objects.
type texts map[string]string

func (s texts) objects() []store.Object {
	var all []store.Object
	for name, text := range s {
		all = append(all, store.Object{Name: name, Size: int64(len(text))})
	}
	return all
}

func (s texts) open(_ context.Context, name string) (io.ReadCloser, error) {
	text, ok := s[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func TestMirrorOfAStore(t *testing.T) {
	backing := store.New(storetest.NewMemory(t), store.Options{Wait: time.Millisecond})
	m := store.AsMirror(backing)
	first := texts{"a/1": "one", "a/2": "two", "b": ""}
	if err := m.Push(t.Context(), first.objects(), first.open); err != nil {
		t.Fatal(err)
	}
	if got, err := backing.ReadAll(t.Context(), "a/2", 10); err != nil || string(got) != "two" {
		t.Errorf("the store has %q, %v", got, err)
	}
	// Names that are there stay as they are, and are not opened.
	second := texts{"a/1": "ONE", "c": "three"}
	twice := append(second.objects(), second.objects()...)
	var opened []string
	err := m.Push(t.Context(), twice, func(ctx context.Context, name string) (io.ReadCloser, error) {
		opened = append(opened, name)
		return second.open(ctx, name)
	})
	if err != nil || !slices.Equal(opened, []string{"c"}) {
		t.Errorf("second Push: error %v, opened %q; want c alone", err, opened)
	}
	if got, err := backing.ReadAll(t.Context(), "a/1", 10); err != nil || string(got) != "one" {
		t.Errorf("what was there is now %q, %v", got, err)
	}
	broken := errors.New("broken")
	err = m.Push(t.Context(), []store.Object{{Name: "e"}}, func(context.Context, string) (io.ReadCloser, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("Push of what cannot be opened: %v", err)
	}
}
