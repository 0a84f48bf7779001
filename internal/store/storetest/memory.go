package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/store"
)

// ErrInjected is what calls fail with that were told to fail.
var ErrInjected = errors.New("injected fault")

// Memory is a store in memory. It keeps the laws of store.Driver, reports callers that break theirs (readers left
// open, reads after Close) as errors of the test, and fails when told to.
//
// A call is one Put, Open, List or Delete, and also one Read of a reader from Open that would have returned bytes.
// Calls are counted from 1, from the start or from the last of FailAt, FailPersistedAt and CutAt.
type Memory struct {
	tb testing.TB

	mu      sync.Mutex // guards all below
	objects map[string]object
	open    map[*memoryReader]struct{}
	calls   int
	failAt  int
	mode    failure
	gone    bool
	tick    int64
}

type object struct {
	data     []byte
	modified time.Time
}

type failure int

const (
	failClean failure = iota
	failPersisted
	failForEver
)

var _ store.Driver = (*Memory)(nil)

// NewMemory returns an empty store that reports to tb.
func NewMemory(tb testing.TB) *Memory {
	m := &Memory{tb: tb, objects: map[string]object{}, open: map[*memoryReader]struct{}{}}
	tb.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for r := range m.open {
			tb.Errorf("storetest: the reader of %q was never closed", r.name)
		}
	})
	return m
}

// FailAt makes the nth call from now fail and change nothing.
func (m *Memory) FailAt(n int) { m.plan(n, failClean) }

// FailPersistedAt makes the nth call from now do its work and then fail, as when an answer is lost.
func (m *Memory) FailPersistedAt(n int) { m.plan(n, failPersisted) }

// CutAt makes the nth call from now and all that follow it fail, as when power or the network is lost. Restore ends
// that.
func (m *Memory) CutAt(n int) { m.plan(n, failForEver) }

// Restore ends all planned failures.
func (m *Memory) Restore() { m.plan(0, failClean) }

// Vanish makes every call from now on find no store, as when a disk is not mounted any more.
func (m *Memory) Vanish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
}

func (m *Memory) plan(n int, mode failure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls, m.failAt, m.mode = 0, n, mode
}

// Calls returns the number of calls since the start or the last plan.
func (m *Memory) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Corrupt replaces the stored bytes of name by what change makes of a copy of them. It changes nothing about calls.
func (m *Memory) Corrupt(name string, change func([]byte) []byte) {
	m.tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		m.tb.Fatalf("storetest: corrupt %q: there is no such object", name)
	}
	o.data = change(bytes.Clone(o.data))
	m.objects[name] = o
}

// Bytes returns a copy of an object, and whether it exists, without counting as a call.
func (m *Memory) Bytes(name string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	return bytes.Clone(o.data), ok
}

// Names returns the names of all objects, ordered, without counting as a call.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

// Clone returns a store with the same objects and no planned failures: what a machine would find after a crash now.
func (m *Memory) Clone() *Memory {
	clone := NewMemory(m.tb)
	m.mu.Lock()
	defer m.mu.Unlock()
	clone.objects, clone.tick = maps.Clone(m.objects), m.tick
	return clone
}

// call counts one call. It returns what the call must fail with before, and after, doing its work.
func (m *Memory) call(ctx context.Context) (before, after error) {
	if err := ctx.Err(); err != nil {
		return err, nil
	}
	m.calls++
	switch {
	case m.gone:
		return store.ErrNoStore, nil
	case m.failAt == 0 || m.calls < m.failAt || m.calls > m.failAt && m.mode != failForEver:
		return nil, nil
	case m.mode == failPersisted:
		return nil, ErrInjected
	default:
		return ErrInjected, nil
	}
}

// Put stores what r has under name.
func (m *Memory) Put(ctx context.Context, name string, r io.Reader) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, after := m.call(ctx)
	if before != nil {
		return fmt.Errorf("put %s: %w", name, before)
	}
	old, exists := m.objects[name]
	switch {
	case exists && !bytes.Equal(old.data, data):
		return fmt.Errorf("put %s: %w", name, store.ErrExists)
	case !exists:
		m.tick++
		m.objects[name] = object{data, time.Unix(m.tick, 0)}
	}
	if after != nil {
		return fmt.Errorf("put %s: %w", name, after)
	}
	return nil
}

// Open reads length bytes of name from offset; length -1 reads to the end.
func (m *Memory) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.call(ctx)); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	o, ok := m.objects[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	if err := store.CheckRange(offset, length); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	data := o.data[min(offset, int64(len(o.data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	r := &memoryReader{memory: m, ctx: ctx, name: name, data: data}
	m.open[r] = struct{}{}
	return r, nil
}

// memoryReader reads from the bytes at the time of Open, which Corrupt replaces but never changes.
type memoryReader struct {
	memory *Memory
	ctx    context.Context
	name   string
	data   []byte
	closed bool
}

func (r *memoryReader) Read(p []byte) (int, error) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	if r.closed {
		r.memory.tb.Errorf("storetest: %q was read after Close", r.name)
		return 0, fs.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	if err := errors.Join(r.memory.call(r.ctx)); err != nil {
		return 0, fmt.Errorf("read %s: %w", r.name, err)
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *memoryReader) Close() error {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	r.closed = true
	delete(r.memory.open, r)
	return nil
}

// List yields every object whose name begins with prefix, ordered by name.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		objects, err := m.list(ctx, prefix)
		if err != nil {
			yield(store.Object{}, fmt.Errorf("list %q: %w", prefix, err))
			return
		}
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (m *Memory) list(ctx context.Context, prefix string) ([]store.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.call(ctx)); err != nil {
		return nil, err
	}
	var objects []store.Object
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if o := m.objects[name]; strings.HasPrefix(name, prefix) {
			objects = append(objects, store.Object{Name: name, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	return objects, nil
}

// Delete removes name.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, after := m.call(ctx)
	if before == nil {
		delete(m.objects, name)
	}
	if err := errors.Join(before, after); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}
