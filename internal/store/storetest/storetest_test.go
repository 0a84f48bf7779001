package storetest_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func TestMemoryKeepsTheLaws(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
		m := storetest.NewMemory(t)
		return m, m.Vanish
	})
}

func put(t *testing.T, m *storetest.Memory, name, content string) error {
	t.Helper()
	return m.Put(t.Context(), name, strings.NewReader(content))
}

func TestFailAt(t *testing.T) {
	m := storetest.NewMemory(t)
	m.FailAt(2)
	errs := []error{put(t, m, "a", "1"), put(t, m, "b", "2"), put(t, m, "c", "3")}
	if errs[0] != nil || !errors.Is(errs[1], storetest.ErrInjected) || errs[2] != nil {
		t.Errorf("errors %v, want only the second", errs)
	}
	if got := m.Names(); !slices.Equal(got, []string{"a", "c"}) || m.Calls() != 3 {
		t.Errorf("%d calls stored %q", m.Calls(), got)
	}
}

func TestFailPersistedAt(t *testing.T) {
	m := storetest.NewMemory(t)
	m.FailPersistedAt(1)
	if err := put(t, m, "a", "1"); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("Put: %v, want ErrInjected", err)
	}
	if data, ok := m.Bytes("a"); !ok || string(data) != "1" {
		t.Errorf("stored %q, %v", data, ok)
	}
	m.FailPersistedAt(1)
	if err := m.Delete(t.Context(), "a"); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("Delete: %v, want ErrInjected", err)
	}
	if got := m.Names(); len(got) > 0 {
		t.Errorf("still stored: %q", got)
	}
}

func TestCutAt(t *testing.T) {
	m := storetest.NewMemory(t)
	m.CutAt(2)
	errs := []error{put(t, m, "a", "1"), put(t, m, "b", "2"), m.Delete(t.Context(), "a")}
	if errs[0] != nil || !errors.Is(errs[1], storetest.ErrInjected) || !errors.Is(errs[2], storetest.ErrInjected) {
		t.Errorf("errors %v, want all but the first", errs)
	}
	m.Restore()
	if err := put(t, m, "b", "2"); err != nil {
		t.Error(err)
	}
}

func TestCloneAndCorrupt(t *testing.T) {
	m := storetest.NewMemory(t)
	if err := put(t, m, "a", "1"); err != nil {
		t.Fatal(err)
	}
	m.CutAt(1)
	clone := m.Clone()
	clone.Corrupt("a", func(data []byte) []byte { data[0]++; return append(data, 'x') })
	if err := put(t, clone, "b", "2"); err != nil {
		t.Error(err)
	}
	ours, _ := m.Bytes("a")
	theirs, _ := clone.Bytes("a")
	if string(ours) != "1" || string(theirs) != "2x" || len(m.Names()) != 1 {
		t.Errorf("original %q, clone %q", ours, theirs)
	}
}

// recorder stands for the test of a caller that breaks its law.
type recorder struct {
	testing.TB
	errors   int
	cleanups []func()
}

func (r *recorder) Errorf(string, ...any) { r.errors++ }
func (r *recorder) Cleanup(fn func())     { r.cleanups = append(r.cleanups, fn) }

func TestReadersAreWatched(t *testing.T) {
	caller := &recorder{TB: t}
	m := storetest.NewMemory(caller)
	if err := put(t, m, "a", "1"); err != nil {
		t.Fatal(err)
	}
	left, err := m.Open(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, fn := range caller.cleanups {
		fn()
	}
	if caller.errors != 1 {
		t.Errorf("%d complaints about a reader left open, want 1", caller.errors)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := left.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) || caller.errors != 2 {
		t.Errorf("read after Close: error %v, %d complaints", err, caller.errors)
	}
}
