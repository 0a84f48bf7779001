// Package storetest is the law of store.Driver as a test suite, and a driver in memory that can be told to fail.
//
// It hides how each law is provoked. Its own law: a driver that passes [Run] may replace any other under
// store.Store. It is not its job to test what one kind of store alone can do.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"holdfast/internal/store"
)

// Run tests every law in the doc of store.Driver. Open returns a driver on an empty store, and a function that takes that
// store away while the driver is open; it is called once for each law.
func Run(t *testing.T, open func(t *testing.T) (d store.Driver, vanish func())) {
	laws := []struct {
		name string
		test func(t *testing.T, d store.Driver)
	}{
		{"PutThenOpen", putThenOpen},
		{"PutSameBytesTwice", putSameBytesTwice},
		{"PutOtherBytesIsErrExists", putOtherBytes},
		{"PutOfFailingReaderStoresNothing", putFailingReader},
		{"PutOfEndedContextStoresNothing", putEndedContext},
		{"PutReadsToTheEndAndKeepsOwnership", putOwnership},
		{"InvalidNamesAreRefused", invalidNames},
		{"OpenRanges", openRanges},
		{"OpenMissingIsNotExist", openMissing},
		{"ListIsOrderedAndFiltered", listOrdered},
		{"ListOfNothingIsEmpty", listNothing},
		{"ListMayStopEarly", listStops},
		{"ListTellsSizeAndTime", listDetails},
		{"DeleteMissingSucceeds", deleteMissing},
		{"DeleteFreesTheName", deleteFrees},
		{"EndedContextFails", endedContext},
		{"ConcurrentPutsOfOneName", concurrentSameName},
		{"ConcurrentUse", concurrentUse},
	}
	for _, law := range laws {
		t.Run(law.name, func(t *testing.T) {
			d, _ := open(t)
			law.test(t, d)
		})
	}
	t.Run("StoreThatVanishedIsErrNoStore", func(t *testing.T) {
		d, vanish := open(t)
		vanish()
		Vanished(t, d)
	})
}

// Vanished tests the law of a store that is not there, on an open driver whose store has gone: everything that it can do is
// store.ErrNoStore, and nothing is fs.ErrNotExist, which would say that an object is missing.
func Vanished(t *testing.T, d store.Driver) {
	t.Helper()
	errs := map[string]error{
		"Put":    d.Put(t.Context(), "a/b", strings.NewReader("x")),
		"Delete": d.Delete(t.Context(), "a/b"),
		"List":   errors.New("the list is empty and has no error"),
	}
	for _, err := range d.List(t.Context(), "") {
		errs["List"] = err
	}
	for what, length := range map[string]int64{"Open": -1, "Open of nothing": 0, "Open of a part": 1} {
		var r io.ReadCloser
		if r, errs[what] = d.Open(t.Context(), "a/b", 0, length); errs[what] == nil {
			r.Close()
		}
	}
	if d, is := d.(store.Inspector); is {
		_, errs["Inspect"] = d.Inspect(t.Context(), store.Inspection{})
	}
	if d, is := d.(store.Spacer); is {
		_, errs["Free"] = d.Free(t.Context())
	}
	if d, is := d.(store.Janitor); is {
		_, _, errs["Sweep"] = d.Sweep(t.Context(), 0)
	}
	for what, err := range errs {
		if !errors.Is(err, store.ErrNoStore) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v, want ErrNoStore and not fs.ErrNotExist", what, err)
		}
	}
}

func sample(size int, seed byte) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i>>8) ^ byte(i)*31 ^ seed
	}
	return data
}

func put(t *testing.T, d store.Driver, name string, data []byte) {
	t.Helper()
	if err := d.Put(t.Context(), name, bytes.NewReader(data)); err != nil {
		t.Fatalf("Put(%q): %v", name, err)
	}
}

func read(t *testing.T, d store.Driver, name string, offset, length int64) []byte {
	t.Helper()
	r, err := d.Open(t.Context(), name, offset, length)
	if err != nil {
		t.Fatalf("Open(%q, %d, %d): %v", name, offset, length, err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatalf("read %q: %v", name, err)
	}
	return data
}

func wantObject(t *testing.T, d store.Driver, name string, want []byte) {
	t.Helper()
	if got := read(t, d, name, 0, -1); !bytes.Equal(got, want) {
		t.Errorf("object %q has %d bytes, want the %d bytes that were put", name, len(got), len(want))
	}
}

func list(t *testing.T, d store.Driver, prefix string) []string {
	t.Helper()
	var names []string
	for object, err := range d.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		names = append(names, object.Name)
	}
	return names
}

func wantList(t *testing.T, d store.Driver, prefix string, want ...string) {
	t.Helper()
	if got := list(t, d, prefix); !slices.Equal(got, want) {
		t.Errorf("List(%q) = %q, want %q", prefix, got, want)
	}
}

func wantNothing(t *testing.T, d store.Driver, name string) {
	t.Helper()
	if r, err := d.Open(context.WithoutCancel(t.Context()), name, 0, -1); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			r.Close()
		}
		t.Errorf("Open(%q): error %v, want fs.ErrNotExist", name, err)
	}
	wantList(t, d, "")
}

func putThenOpen(t *testing.T, d store.Driver) {
	for _, size := range []int{0, 1, 4096, 1<<20 + 7} {
		name := fmt.Sprintf("job/size-%d.bin", size)
		put(t, d, name, sample(size, 1))
		wantObject(t, d, name, sample(size, 1))
	}
}

func putSameBytesTwice(t *testing.T, d store.Driver) {
	for _, size := range []int{0, 1, 300_000} {
		name := fmt.Sprintf("size-%d", size)
		put(t, d, name, sample(size, 1))
		put(t, d, name, sample(size, 1))
		wantObject(t, d, name, sample(size, 1))
	}
}

func putOtherBytes(t *testing.T, d store.Driver) {
	first := sample(300_000, 1)
	put(t, d, "a/object", first)
	flipped := bytes.Clone(first)
	flipped[len(flipped)-1] ^= 1
	for _, other := range [][]byte{nil, first[:len(first)-1], append(bytes.Clone(first), 0), flipped, sample(300_000, 2)} {
		if err := d.Put(t.Context(), "a/object", bytes.NewReader(other)); !errors.Is(err, store.ErrExists) {
			t.Errorf("second Put with %d other bytes: error %v, want ErrExists", len(other), err)
		}
	}
	wantObject(t, d, "a/object", first)
	wantList(t, d, "", "a/object")
}

func putFailingReader(t *testing.T, d store.Driver) {
	broken := errors.New("the source broke")
	for _, size := range []int{0, 1, 2 << 20} {
		r := io.MultiReader(bytes.NewReader(sample(size, 1)), iotest.ErrReader(broken))
		if err := d.Put(t.Context(), "a/b", r); !errors.Is(err, broken) {
			t.Errorf("Put of a reader failing after %d bytes: error %v, want the reader's", size, err)
		}
		wantNothing(t, d, "a/b")
	}
	put(t, d, "a/b", sample(10, 1))
}

// cancelling ends a context half-way through its bytes and then reads on without an error.
type cancelling struct {
	io.Reader
	cancel context.CancelFunc
	left   int
}

func (c *cancelling) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.left -= n; c.left <= 0 {
		c.cancel()
	}
	return n, err
}

func putEndedContext(t *testing.T, d store.Driver) {
	for _, after := range []int{1, 1 << 20, 2 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		r := &cancelling{bytes.NewReader(sample(2<<20, 1)), cancel, after}
		if err := d.Put(ctx, "a/b", r); !errors.Is(err, context.Canceled) {
			t.Errorf("Put with a context ending after %d bytes: error %v, want context.Canceled", after, err)
		}
		cancel()
		wantNothing(t, d, "a/b")
	}
}

type ownedReader struct {
	io.Reader
	closed, ended bool
}

func (o *ownedReader) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	o.ended = o.ended || err == io.EOF
	return n, err
}

func (o *ownedReader) Close() error {
	o.closed = true
	return nil
}

func putOwnership(t *testing.T, d store.Driver) {
	r := &ownedReader{Reader: iotest.HalfReader(bytes.NewReader(sample(100_000, 1)))}
	if err := d.Put(t.Context(), "a", r); err != nil {
		t.Fatal(err)
	}
	if !r.ended || r.closed {
		t.Errorf("Put read to the end: %v, closed the caller's reader: %v; want true, false", r.ended, r.closed)
	}
	wantObject(t, d, "a", sample(100_000, 1))
}

func invalidNames(t *testing.T, d store.Driver) {
	names := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.b", ".a", "a b", "a\x00b", "ä", "a\n", "a\\b",
		strings.Repeat("n", 600),
	}
	for _, name := range names {
		if err := d.Put(t.Context(), name, strings.NewReader("x")); err == nil {
			t.Errorf("Put(%q) succeeded", name)
		}
		if r, err := d.Open(t.Context(), name, 0, -1); err == nil {
			r.Close()
			t.Errorf("Open(%q) succeeded", name)
		}
		if err := d.Delete(t.Context(), name); err == nil {
			t.Errorf("Delete(%q) succeeded", name)
		}
	}
	wantList(t, d, "")
}

func openRanges(t *testing.T, d store.Driver) {
	data := sample(1000, 1)
	put(t, d, "a/b", data)
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, -1, 0, 1000},
		{0, 0, 0, 0},
		{0, 1, 0, 1},
		{10, 20, 10, 30},
		{990, -1, 990, 1000},
		{990, 10, 990, 1000},
		{1000, -1, 1000, 1000},
		{1000, 0, 1000, 1000},
	} {
		if got := read(t, d, "a/b", c.offset, c.length); !bytes.Equal(got, data[c.from:c.to]) {
			t.Errorf("Open(%d, %d) read %d bytes, want bytes %d to %d", c.offset, c.length, len(got), c.from, c.to)
		}
	}
}

func openMissing(t *testing.T, d store.Driver) {
	put(t, d, "a/b/c", sample(10, 1))
	for _, name := range []string{"x", "a", "a/b", "a/b/d", "a/b/c/d", "x/y/z"} {
		r, err := d.Open(t.Context(), name, 0, -1)
		if err == nil {
			r.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q): error %v, want fs.ErrNotExist", name, err)
		}
	}
}

func listOrdered(t *testing.T, d store.Driver) {
	sorted := []string{"a-b/x", "a.b", "a/b-c", "a/b.c", "a/b/c", "a/bc", "a0", "b/A", "b/a", "ba"}
	for i := range sorted {
		put(t, d, sorted[(i*7+3)%len(sorted)], sample(i, 1))
	}
	wantList(t, d, "", sorted...)
	wantList(t, d, "a", sorted[:7]...)
	wantList(t, d, "a/", sorted[2:6]...)
	wantList(t, d, "a/b", sorted[2:6]...)
	wantList(t, d, "a/b/", "a/b/c")
	wantList(t, d, "a/b/c", "a/b/c")
	wantList(t, d, "b", "b/A", "b/a", "ba")
}

func listNothing(t *testing.T, d store.Driver) {
	wantList(t, d, "")
	wantList(t, d, "none/such")
	put(t, d, "a/b", nil)
	wantList(t, d, "a/c")
	wantList(t, d, "a/b/")
	wantList(t, d, "b")
}

func listStops(t *testing.T, d store.Driver) {
	for _, name := range []string{"a/1", "a/2", "b/1"} {
		put(t, d, name, nil)
	}
	for object, err := range d.List(t.Context(), "") {
		if err != nil || object.Name != "a/1" {
			t.Errorf("first of the list: %q, %v", object.Name, err)
		}
		break
	}
	wantList(t, d, "", "a/1", "a/2", "b/1")
}

func listDetails(t *testing.T, d store.Driver) {
	put(t, d, "a/b", sample(12345, 1))
	for object, err := range d.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if object.Size != 12345 || object.Modified.IsZero() {
			t.Errorf("List tells size %d and time %v, want 12345 and a time", object.Size, object.Modified)
		}
	}
}

func deleteMissing(t *testing.T, d store.Driver) {
	put(t, d, "a/b", sample(3, 1))
	for _, name := range []string{"x", "a", "a/c", "x/y/z", "a/b/c"} {
		if err := d.Delete(t.Context(), name); err != nil {
			t.Errorf("Delete(%q): %v", name, err)
		}
	}
	wantList(t, d, "", "a/b")
}

func deleteFrees(t *testing.T, d store.Driver) {
	put(t, d, "a/b/c", sample(10, 1))
	if err := d.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, d, "a/b/c")
	put(t, d, "a/b/c", sample(10, 2))
	wantObject(t, d, "a/b/c", sample(10, 2))
}

func endedContext(t *testing.T, d store.Driver) {
	put(t, d, "a", sample(10, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Put(ctx, "b", strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: error %v, want context.Canceled", err)
	}
	if r, err := d.Open(ctx, "a", 0, -1); !errors.Is(err, context.Canceled) {
		if err == nil {
			r.Close()
		}
		t.Errorf("Open: error %v, want context.Canceled", err)
	}
	if err := d.Delete(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete: error %v, want context.Canceled", err)
	}
	var err error
	for _, e := range d.List(ctx, "") {
		err = e
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("List: error %v, want context.Canceled", err)
	}
	wantList(t, d, "", "a")
}

func concurrentSameName(t *testing.T, d store.Driver) {
	const writers = 8
	errs := make([]error, writers)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			errs[i] = d.Put(t.Context(), "deep/er/name", bytes.NewReader(sample(200_000, byte(i%2))))
		})
	}
	group.Wait()
	got := read(t, d, "deep/er/name", 0, -1)
	for i, err := range errs {
		mine := bytes.Equal(got, sample(200_000, byte(i%2)))
		if mine && err != nil || !mine && !errors.Is(err, store.ErrExists) {
			t.Errorf("writer %d: its bytes are stored: %v, error: %v", i, mine, err)
		}
	}
}

func concurrentUse(t *testing.T, d store.Driver) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for round := range 10 {
				name := fmt.Sprintf("shared/w%d/%d", i, round)
				data := sample(1000*round, byte(i))
				if err := d.Put(t.Context(), name, bytes.NewReader(data)); err != nil {
					t.Errorf("Put(%q): %v", name, err)
					continue
				}
				for _, err := range d.List(t.Context(), "shared/") {
					if err != nil {
						t.Errorf("List: %v", err)
					}
				}
				wantConcurrentObject(t, d, name, data)
				if err := d.Delete(t.Context(), name); err != nil {
					t.Errorf("Delete(%q): %v", name, err)
				}
			}
		})
	}
	group.Wait()
	wantList(t, d, "")
}

// wantConcurrentObject is wantObject for goroutines, which must not call t.Fatal.
func wantConcurrentObject(t *testing.T, d store.Driver, name string, want []byte) {
	r, err := d.Open(t.Context(), name, 0, -1)
	if err != nil {
		t.Errorf("Open(%q): %v", name, err)
		return
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q: %d bytes, want %d; error %v", name, len(got), len(want), err)
	}
}
