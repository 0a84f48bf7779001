package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func TestStoreKeepsTheLaws(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
		memory := storetest.NewMemory(t)
		return store.New(memory, store.Options{Wait: time.Millisecond}), memory.Vanish
	})
}

// Each operation is done with the nth call failing, for every n that it has, cleanly and with the answer lost.
func TestOneFailureAnywhereIsHidden(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	operations := map[string]func(t *testing.T, s *store.Store) error{
		"Put": func(t *testing.T, s *store.Store) error {
			return s.Put(t.Context(), "new", bytes.NewReader(content))
		},
		"ReadAll": func(t *testing.T, s *store.Store) error {
			data, err := s.ReadAll(t.Context(), "old", 1<<20)
			if !bytes.Equal(data, content) {
				t.Errorf("ReadAll: %d bytes, want %d", len(data), len(content))
			}
			return err
		},
		"List": func(t *testing.T, s *store.Store) error {
			for object, err := range s.List(t.Context(), "") {
				if err != nil || object.Name != "old" {
					return fmt.Errorf("%q: %w", object.Name, err)
				}
			}
			return nil
		},
		"Delete": func(t *testing.T, s *store.Store) error { return s.Delete(t.Context(), "old") },
	}
	for name, operate := range operations {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,persisted=%v", name, persisted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for n, calls := 0, 1; n <= calls; n++ { // the 0th run has no failure and tells the calls
						memory := storetest.NewMemory(t)
						if err := memory.Put(t.Context(), "old", bytes.NewReader(content)); err != nil {
							t.Fatal(err)
						}
						plan := memory.FailAt
						if persisted {
							plan = memory.FailPersistedAt
						}
						plan(n)
						s := store.New(memory, store.Options{})
						if err := operate(t, s); err != nil {
							t.Errorf("with call %d failing: %v", n, err)
						}
						if n == 0 {
							calls = memory.Calls()
						}
						if got := s.Counters().Retries; got != int64(min(n, 1)) {
							t.Errorf("with call %d failing: %d retries", n, got)
						}
					}
				})
			})
		}
	}
}

func TestRetriesEndAndTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		memory.CutAt(1)
		s := store.New(memory, store.Options{})
		began := time.Now()
		if err := s.Delete(t.Context(), "a"); !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("error %v, want the driver's", err)
		}
		// Pauses of 0.5, 1 and 2 s, each drawn between half and all.
		if took := time.Since(began); took < 1750*time.Millisecond || took > 3500*time.Millisecond {
			t.Errorf("four attempts took %v", took)
		}
		want := store.Counters{Deletes: 1, Retries: 3}
		if got := s.Counters(); memory.Calls() != 4 || got != want {
			t.Errorf("%d calls and counters %+v, want 4 and %+v", memory.Calls(), got, want)
		}
	})
}

// TestAttemptsDoNotMultiply: what a driver has tried as often as it may is not begun again by the Store around it.
func TestAttemptsDoNotMultiply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retrier := store.NewRetrier(4, 0)
		lost := &store.LaterError{Err: errors.New("connection lost")}
		driver := &scripted{err: lost}
		s := store.New(insistent{driver, retrier}, store.Options{Retrier: retrier})
		err := s.Put(t.Context(), "a", strings.NewReader("12345"))
		var later *store.LaterError
		if !errors.Is(err, lost) || !errors.As(err, &later) || err.Error() != "put a: connection lost" {
			t.Errorf("error %v, want the driver's", err)
		}
		if got := s.Counters().Retries; driver.calls != 4 || got != 3 {
			t.Errorf("%d attempts and %d retries, want 4 and 3", driver.calls, got)
		}
	})
}

// insistent tries what it got of a Put again by itself.
type insistent struct {
	store.Driver
	retrier *store.Retrier
}

func (i insistent) Put(ctx context.Context, name string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	err = i.retrier.Do(ctx, func() (bool, error) { return true, i.Driver.Put(ctx, name, bytes.NewReader(data)) })
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

func TestPausesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		memory.CutAt(1)
		s := store.New(memory, store.Options{Attempts: 101, Wait: time.Second})
		began := time.Now()
		if err := s.Delete(t.Context(), "a"); !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("error %v, want the driver's", err)
		}
		if took := time.Since(began); took > 100*30*time.Second {
			t.Errorf("100 pauses took %v", took)
		}
	})
}

func TestContextEndsThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		memory.CutAt(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := store.New(memory, store.Options{Wait: time.Hour}).Delete(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("error %v, want both the end of the context and the driver's", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
	})
}

// scripted fails every call with one error.
type scripted struct {
	err   error
	calls int
}

func (s *scripted) Put(_ context.Context, _ string, r io.Reader) error {
	s.calls++
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return s.err
}

func (s *scripted) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	s.calls++
	return nil, s.err
}

func (s *scripted) List(context.Context, string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		s.calls++
		yield(store.Object{}, s.err)
	}
}

func (s *scripted) Delete(context.Context, string) error {
	s.calls++
	return s.err
}

func TestSentinelsAreNotRetried(t *testing.T) {
	for _, sentinel := range []error{
		store.ErrExists, store.ErrFull, store.ErrReadOnly, store.ErrRetained, store.ErrNoStore, fs.ErrNotExist, fs.ErrPermission,
	} {
		t.Run(sentinel.Error(), func(t *testing.T) {
			driver := &scripted{err: fmt.Errorf("wrapped: %w", sentinel)}
			s := store.New(driver, store.Options{Wait: time.Hour})
			_, openErr := s.Open(t.Context(), "a", 0, -1)
			var listErr error
			for _, err := range s.List(t.Context(), "") {
				listErr = err
			}
			for what, err := range map[string]error{
				"Put":  s.Put(t.Context(), "a", strings.NewReader("x")),
				"Open": openErr, "List": listErr,
				"Delete": s.Delete(t.Context(), "a"),
			} {
				if !errors.Is(err, sentinel) {
					t.Errorf("%s: error %v", what, err)
				}
			}
			if driver.calls != 4 {
				t.Errorf("%d calls, want 4", driver.calls)
			}
		})
	}
}

func TestStreamsAreReadOnce(t *testing.T) {
	for name, c := range map[string]struct {
		reader io.Reader
		calls  int
	}{
		"stream": {io.MultiReader(strings.NewReader("x")), 1},
		"seeker": {strings.NewReader("x"), 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			lost := errors.New("connection lost")
			driver := &scripted{err: lost}
			if err := store.New(driver, store.Options{}).Put(t.Context(), "a", c.reader); !errors.Is(err, lost) {
				t.Errorf("%s: error %v", name, err)
			}
			if driver.calls != c.calls {
				t.Errorf("%s: %d attempts, want %d", name, driver.calls, c.calls)
			}
		})
	}
}

// untouched fails before it reads, a number of times.
type untouched struct {
	store.Driver
	failures int
}

func (u *untouched) Put(ctx context.Context, name string, r io.Reader) error {
	if u.failures--; u.failures >= 0 {
		return errors.New("no connection")
	}
	return u.Driver.Put(ctx, name, r)
}

func TestUntouchedStreamIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		s := store.New(&untouched{memory, 3}, store.Options{})
		if err := s.Put(t.Context(), "a", io.MultiReader(strings.NewReader("x"))); err != nil {
			t.Fatal(err)
		}
		if data, _ := memory.Bytes("a"); string(data) != "x" {
			t.Errorf("stored %q", data)
		}
	})
}

func TestSeekerIsPutBackWhereItStood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		memory.FailAt(1)
		r := strings.NewReader("header|body")
		if _, err := r.Seek(7, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		s := store.New(memory, store.Options{})
		if err := s.Put(t.Context(), "a", r); err != nil {
			t.Fatal(err)
		}
		if data, _ := memory.Bytes("a"); string(data) != "body" {
			t.Errorf("stored %q, want %q", data, "body")
		}
		if got := s.Counters(); got.Puts != 1 || got.BytesPut != 8 {
			t.Errorf("counters %+v, want 1 put of twice 4 bytes", got)
		}
	})
}

func TestReadersOwnErrorIsNotRetried(t *testing.T) {
	broken := errors.New("the source broke")
	memory := storetest.NewMemory(t)
	s := store.New(memory, store.Options{Wait: time.Hour})
	if err := s.Put(t.Context(), "a", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want the reader's", err)
	}
	if got := memory.Names(); len(got) > 0 {
		t.Errorf("stored %q", got)
	}
}

func TestInvalidNamesReachNoDriver(t *testing.T) {
	driver := &scripted{err: errors.New("asked")}
	s := store.New(driver, store.Options{Wait: time.Hour})
	if err := s.Put(t.Context(), "../a", strings.NewReader("x")); err == nil {
		t.Error("Put succeeded")
	}
	if _, err := s.Open(t.Context(), "../a", 0, -1); err == nil {
		t.Error("Open succeeded")
	}
	if err := s.Delete(t.Context(), "../a"); err == nil {
		t.Error("Delete succeeded")
	}
	if driver.calls != 0 {
		t.Errorf("the driver was called %d times", driver.calls)
	}
}

func TestReadAllLimit(t *testing.T) {
	memory := storetest.NewMemory(t)
	s := store.New(memory, store.Options{})
	if err := s.Put(t.Context(), "a", strings.NewReader("12345")); err != nil {
		t.Fatal(err)
	}
	if data, err := s.ReadAll(t.Context(), "a", 5); err != nil || string(data) != "12345" {
		t.Errorf("at the limit: %q, %v", data, err)
	}
	if _, err := s.ReadAll(t.Context(), "a", 4); !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("beyond the limit: error %v, want ErrDifference", err)
	}
	if _, err := s.ReadAll(t.Context(), "b", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: error %v, want fs.ErrNotExist", err)
	}
}

func TestResumedRangeStaysInItsRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		s := store.New(memory, store.Options{})
		if err := s.Put(t.Context(), "a", strings.NewReader("0123456789")); err != nil {
			t.Fatal(err)
		}
		memory.FailAt(4) // Open, two reads, and then
		r, err := s.Open(t.Context(), "a", 2, 6)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(iotest.OneByteReader(r))
		if err := errors.Join(err, r.Close()); err != nil || string(data) != "234567" {
			t.Errorf("read %q, error %v", data, err)
		}
		if got := s.Counters(); got.Retries != 1 || got.Opens != 1 || got.BytesRead != 6 {
			t.Errorf("counters %+v", got)
		}
	})
}

// flaky lists two objects, fails once, and then lists all.
type flaky struct {
	store.Driver
	failed bool
}

func (f *flaky) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		n := 0
		for object, err := range f.Driver.List(ctx, prefix) {
			if n == 2 && !f.failed {
				f.failed = true
				yield(store.Object{}, errors.New("connection lost"))
				return
			}
			n++
			if !yield(object, err) {
				return
			}
		}
	}
}

func TestListGoesOnWhereItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		for _, name := range []string{"a", "b", "c"} {
			if err := memory.Put(t.Context(), name, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
		}
		var got string
		for object, err := range store.New(&flaky{Driver: memory}, store.Options{}).List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			got += object.Name
		}
		if got != "abc" {
			t.Errorf("listed %q, want abc", got)
		}
	})
}

func TestServersChooseTheirPause(t *testing.T) {
	for name, c := range map[string]struct{ asked, least, most time.Duration }{
		"longer than ours":  {time.Minute, 3 * time.Minute, 3 * time.Minute},
		"shorter than ours": {time.Millisecond, 1750 * time.Millisecond, 3500 * time.Millisecond},
		"without measure":   {24 * time.Hour, 6 * time.Minute, 6 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			driver := &scripted{err: fmt.Errorf("put: %w", &store.LaterError{After: c.asked, Err: errors.New("503 Slow Down")})}
			began := time.Now()
			if err := store.New(driver, store.Options{}).Delete(t.Context(), "a"); err == nil || driver.calls != 4 {
				t.Errorf("%s: error %v after %d calls", name, err, driver.calls)
			}
			if took := time.Since(began); took < c.least || took > c.most {
				t.Errorf("%s: took %v, want %v to %v", name, took, c.least, c.most)
			}
		})
	}
}

func TestBandwidthIsSharedByPutsAndReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		s := store.New(memory, store.Options{Bandwidth: 1000})
		began := time.Now()
		if err := s.Put(t.Context(), "a", bytes.NewReader(make([]byte, 5000))); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadAll(t.Context(), "a", 5000); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("10,000 bytes at 1,000 per second took %v", took)
		}
	})
}

func TestTheEndOfTheContextEndsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		memory := storetest.NewMemory(t)
		err := store.New(memory, store.Options{Bandwidth: 1}).Put(ctx, "a", bytes.NewReader(make([]byte, 5000)))
		if !errors.Is(err, context.DeadlineExceeded) || len(memory.Names()) != 0 {
			t.Errorf("error %v, stored %q", err, memory.Names())
		}
	})
}

// dripper gives its first readers one byte a minute.
type dripper struct {
	store.Driver
	slow int
}

func (d *dripper) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := d.Driver.Open(ctx, name, offset, length)
	if d.slow--; d.slow >= 0 && err == nil {
		return drip{r}, nil
	}
	return r, err
}

type drip struct{ io.ReadCloser }

func (d drip) Read(p []byte) (int, error) {
	time.Sleep(time.Minute)
	return d.ReadCloser.Read(p[:1])
}

func TestDripsAreGivenUpAndReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory(t)
		s := store.New(&dripper{memory, 2}, store.Options{})
		content := bytes.Repeat([]byte("0123456789"), 1000)
		if err := s.Put(t.Context(), "a", bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		data, err := s.ReadAll(t.Context(), "a", 1<<20)
		if err != nil || !bytes.Equal(data, content) {
			t.Errorf("%d bytes, error %v", len(data), err)
		}
		if took := time.Since(began); took < 4*time.Minute || took > 5*time.Minute {
			t.Errorf("two slow connections were given up after %v, want 2 minutes each", took)
		}
	})
}
