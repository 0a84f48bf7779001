package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/store"
	"holdfast/internal/store/sftp"
	"holdfast/internal/testbed"
)

func random(size int) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(data) // never fails
	return data
}

// files returns all regular files below a folder, without the marker.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != ".holdfast-store" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wantWhole: the folder has the object with these bytes, and nothing else but what Sweep removes.
func wantWhole(t *testing.T, d *sftp.Driver, dir, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want the %d that were put; error %v", name, len(got), len(want), err)
	}
	if _, _, err := d.Sweep(t.Context(), -time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{name}) {
		t.Errorf("after Sweep there are %q, want the object alone", got)
	}
}

// steps are offsets from low to high, denser at the beginning.
func steps(low, high int64, n int) []int64 {
	var all []int64
	for i := range int64(n) {
		all = append(all, low+(high-low)*i*i/int64(n*n))
	}
	return slices.Compact(all)
}

// TestPutSurvivesCuts cuts the first connection at many places, in both directions, the answer to the link included.
func TestPutSurvivesCuts(t *testing.T) {
	large := random(20 << 20)
	for _, c := range []struct {
		name string
		data []byte
		n    int
		down bool
		deny []string
	}{
		{name: "small object, requests", data: large[:10], n: 15},
		{name: "small object, answers", data: large[:10], n: 30, down: true},
		{name: "small object, answers of a plain rename", data: large[:10], n: 25, down: true, deny: everyExtension},
		{name: "large object, requests", data: large, n: 5},
		{name: "large object, answers", data: large, n: 5, down: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testbed.StartSSHD(t, testbed.SSHDOptions{Deny: c.deny})
			p := startProxy(t, s.Addr())
			dir := filepath.Join(t.TempDir(), "store")
			opt := options(s, "")
			opt.Path = dir
			opt = p.through(t, s, opt)
			p.lose(func(int64) limits { return limits{} })
			carried := &p.up
			if c.down {
				carried = &p.down
			}
			// How much a connect moves, and a Put after it.
			open(t, opt)
			start := carried.Load()
			d := open(t, opt)
			connect := carried.Load() - start
			if err := d.Put(t.Context(), "a/object", stream{bytes.NewReader(c.data)}); err != nil {
				t.Fatal(err)
			}
			moved := carried.Load() - start - connect
			offsets := steps(200, connect, 6)
			for i := range c.n {
				offsets = append(offsets, connect+moved*int64(i+1)/int64(c.n))
			}
			for i, offset := range offsets {
				if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
					t.Fatal(err)
				}
				p.lose(func(int64) limits { return limits{} })
				d := open(t, opt)
				// The next connect is the one that is cut.
				p.lose(func(nth int64) limits {
					switch {
					case nth > 0:
						return limits{}
					case c.down:
						return limits{down: offset}
					}
					return limits{up: offset}
				})
				p.cut()
				if err := d.Put(t.Context(), "a/object", stream{bytes.NewReader(c.data)}); err != nil {
					t.Fatalf("cut %d after %d bytes: %v", i, offset, err)
				}
				d.Close()
				wantWhole(t, open(t, opt), dir, "a/object", c.data)
			}
		})
	}
}

// TestPutOverWorstLine: every connection is cut. A Put then fails or succeeds, and never shows a part.
func TestPutOverWorstLine(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	p := startProxy(t, s.Addr())
	data := random(1 << 20)
	opt := p.through(t, s, options(s, "store"))
	d := open(t, opt)
	failed, succeeded := 0, 0
	for _, down := range []int64{500, 2500, 3500, 3900, 4300, 5000, 8000, 20_000} {
		p.lose(func(int64) limits { return limits{down: down} })
		p.cut()
		err := d.Put(t.Context(), "a/object", stream{bytes.NewReader(data)})
		if err != nil {
			failed++
		} else {
			succeeded++
		}
		p.lose(func(int64) limits { return limits{} })
		p.cut()
		for object, listErr := range store.New(d, store.Options{Wait: time.Millisecond}).List(t.Context(), "") {
			if listErr != nil || object.Size != int64(len(data)) {
				t.Errorf("down %d: the list has %v, error %v", down, object, listErr)
			}
		}
		if err == nil {
			wantWhole(t, d, filepath.Join(s.Dir, "store"), "a/object", data)
		}
		if err := store.New(d, store.Options{}).Delete(t.Context(), "a/object"); err != nil {
			t.Error(err)
		}
	}
	if failed == 0 || succeeded == 0 {
		t.Errorf("%d Puts failed and %d succeeded: this test looks at one kind alone", failed, succeeded)
	}
}

func TestReadsSurviveCuts(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	p := startProxy(t, s.Addr())
	d := open(t, p.through(t, s, options(s, "store")))
	data := random(9 << 20)
	if err := d.Put(t.Context(), "a/object", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	st := store.New(d, store.Options{Wait: time.Millisecond})
	for _, offset := range steps(100, 9<<20, 25) {
		p.lose(func(nth int64) limits {
			if nth > 0 {
				return limits{}
			}
			return limits{down: offset}
		})
		p.cut()
		r, err := st.Open(t.Context(), "a/object", 5, -1)
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", offset, err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data[5:]) {
			t.Errorf("cut after %d bytes: %d bytes were read, want %d; error %v", offset, len(got), len(data)-5, err)
		}
	}
}

// TestListsSurviveCuts: a cut listing is an error and never a short list.
func TestListsSurviveCuts(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	p := startProxy(t, s.Addr())
	d := open(t, p.through(t, s, options(s, "store")))
	const folders, each = 5, 150
	for i := range folders {
		dir := filepath.Join(s.Dir, "store", string(rune('a'+i)))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for j := range each {
			if err := os.WriteFile(filepath.Join(dir, "object-"+strings.Repeat("x", j)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut := 0
	for _, offset := range steps(100, 200_000, 35) {
		p.lose(func(int64) limits { return limits{down: offset} })
		p.cut()
		n, failed := 0, false
		for _, err := range d.List(t.Context(), "") {
			if failed = err != nil; !failed {
				n++
			}
		}
		if !failed && n != folders*each {
			t.Errorf("cut after %d bytes: a list of %d objects without an error, want %d", offset, n, folders*each)
		}
		if failed {
			cut++
		}
	}
	if cut == 0 {
		t.Error("no listing was cut: this test looks at nothing")
	}
	p.lose(func(int64) limits { return limits{} })
	p.cut()
	n := 0
	for _, err := range store.New(d, store.Options{Wait: time.Millisecond}).List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != folders*each {
		t.Errorf("a list of %d objects, want %d", n, folders*each)
	}
}

// TestStalledLine: a connection that is open and carries nothing is given up, and the object arrives over the next one.
func TestStalledLine(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	p := startProxy(t, s.Addr())
	opt := p.through(t, s, options(s, "store"))
	opt.Stall = 300 * time.Millisecond
	d := open(t, opt)
	data := random(10 << 20)
	for _, may := range []limits{{up: 6 << 20, stall: true}, {down: 4200, stall: true}} {
		p.lose(func(nth int64) limits {
			if nth > 0 {
				return limits{}
			}
			return may
		})
		p.cut()
		if err := d.Put(t.Context(), "object", stream{bytes.NewReader(data)}); err != nil {
			t.Fatalf("%+v: %v", may, err)
		}
		wantWhole(t, d, filepath.Join(s.Dir, "store"), "object", data)
		if err := store.New(d, store.Options{}).Delete(t.Context(), "object"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestContextEndsOverStalledLine: an interrupted run does not wait for a line on which nothing moves.
func TestContextEndsOverStalledLine(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	p := startProxy(t, s.Addr())
	opt := p.through(t, s, options(s, "store"))
	opt.Stall = time.Hour
	d := open(t, opt)
	p.lose(func(int64) limits { return limits{up: 1 << 20, stall: true} })
	p.cut()
	ctx, cancel := context.WithCancel(t.Context())
	r := &cancelAt{Reader: bytes.NewReader(random(10 << 20)), cancel: cancel, left: 10 << 20}
	if err := d.Put(ctx, "object", r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// cancelAt ends a context when it has given all its bytes.
type cancelAt struct {
	io.Reader
	cancel context.CancelFunc
	left   int
}

func (c *cancelAt) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.left -= n; c.left <= 0 {
		c.cancel()
	}
	return n, err
}

// TestKilledSessions: the server ends every session in the middle of a stream.
func TestKilledSessions(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	d := open(t, options(s, "store"))
	data := random(30 << 20)
	killed := 0
	r := io.MultiReader(bytes.NewReader(data[:17<<20]), &once{do: func() { killed = s.CutSessions() }}, bytes.NewReader(data[17<<20:]))
	if err := d.Put(t.Context(), "object", r); err != nil {
		t.Fatal(err)
	}
	if killed == 0 {
		t.Error("no session was killed: this test looks at nothing")
	}
	wantWhole(t, d, filepath.Join(s.Dir, "store"), "object", data)
}

// once is an empty reader that does something.
type once struct{ do func() }

func (o *once) Read([]byte) (int, error) {
	o.do()
	return 0, io.EOF
}

// TestTwoWriters: two drivers put one name at once. One wins, whole, and the other is told.
func TestTwoWriters(t *testing.T) {
	for _, deny := range [][]string{nil, everyExtension} {
		s := testbed.StartSSHD(t, testbed.SSHDOptions{Deny: deny})
		left, right := open(t, options(s, "store")), open(t, options(s, "store"))
		for round := range 20 {
			a, b := random(100_000+round), random(200_000+round)
			done := make(chan error, 1)
			go func() { done <- left.Put(t.Context(), "a/b", bytes.NewReader(a)) }()
			errB := right.Put(t.Context(), "a/b", bytes.NewReader(b))
			errA := <-done
			want, lost := a, errB
			if errA != nil {
				want, lost = b, errA
			}
			if (errA == nil) == (errB == nil) || !errors.Is(lost, store.ErrExists) {
				t.Fatalf("errors %v and %v, want one ErrExists", errA, errB)
			}
			wantWhole(t, left, filepath.Join(s.Dir, "store"), "a/b", want)
			if err := left.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
		}
	}
}
