package store_test

import (
	"bytes"
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
	m := store.AsMirror(store.New(storetest.NewMemory(t), store.Options{Wait: time.Millisecond}))
	first := texts{"a/1": "one", "a/2": "two", "b": ""}
	if err := m.Push(t.Context(), first.objects(), first.open); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := m.Fetch(t.Context(), "a/2", &got); err != nil || got.String() != "two" {
		t.Errorf("Fetch: %q, %v", got.String(), err)
	}
	if err := m.Fetch(t.Context(), "c", &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Fetch of a missing object: %v, want fs.ErrNotExist", err)
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
	second["d"] = "four"
	different, err := m.Check(t.Context(), []string{"d", "c", "a/1", "d"}, second.open)
	if err != nil || !slices.Equal(different, []string{"a/1", "d"}) {
		t.Errorf("Check: %q, %v; want a/1 and d", different, err)
	}
	broken := errors.New("broken")
	err = m.Push(t.Context(), []store.Object{{Name: "e"}}, func(context.Context, string) (io.ReadCloser, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("Push of what cannot be opened: %v", err)
	}
}
