package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync/atomic"
	"time"

	"holdfast"
)

// Options tunes a [Store].
type Options struct {
	// Attempts is how often one operation is tried in all. 0 means 4.
	Attempts int
	// Wait is the pause before the second attempt; it doubles with every further one, up to 30 s, and is drawn
	// between half and all of that. 0 means 500 ms.
	Wait time.Duration
	// Retrier is used instead of one made of Attempts and Wait, when the driver shares it.
	Retrier *Retrier
	// Bandwidth limits the bytes per second of all Puts and reads together. 0: no limit.
	Bandwidth int64
	// Drip is the time in which a read from the driver must bring at least 1 KiB, else its connection is given up and
	// another one asked. 0 means 2 minutes.
	Drip time.Duration
}

const (
	longestWait = 30 * time.Second
	longestAsk  = 2 * time.Minute // what a server may ask for with Retry-After
	dripBytes   = 1 << 10
)

// Counters tells what a [Store] has done so far.
type Counters struct {
	Puts, Opens, Lists, Deletes int64 // calls that were made, however they ended
	Retries                     int64 // attempts beyond the first
	BytesPut, BytesRead         int64 // bytes handed to and taken from the driver, repeats included
}

// Store is a driver with retries and counters. It keeps the laws of [Driver] and adds: an error that is none of the
// sentinels, that does not come from the caller's reader and that is not the end of ctx is tried again. It is safe
// for concurrent use.
type Store struct {
	driver  Driver
	retrier *Retrier
	pacer   *pacer
	drip    time.Duration

	puts, opens, lists, deletes, bytesPut, bytesRead atomic.Int64
}

var _ Driver = (*Store)(nil)

// New wraps d.
func New(d Driver, opt Options) *Store {
	if opt.Retrier == nil {
		opt.Retrier = NewRetrier(opt.Attempts, opt.Wait)
	}
	if opt.Drip <= 0 {
		opt.Drip = 2 * time.Minute
	}
	return &Store{driver: d, retrier: opt.Retrier, pacer: newPacer(opt.Bandwidth), drip: opt.Drip}
}

// Driver is what New was given, for what only some drivers can: [Linker], [Inspector], [Janitor].
func (s *Store) Driver() Driver { return s.driver }

// Counters returns what has been done so far.
func (s *Store) Counters() Counters {
	return Counters{
		Puts: s.puts.Load(), Opens: s.opens.Load(), Lists: s.lists.Load(), Deletes: s.deletes.Load(),
		Retries: s.retrier.Retries(), BytesPut: s.bytesPut.Load(), BytesRead: s.bytesRead.Load(),
	}
}

// Put stores what r has under name. When r is an [io.Seeker] it is put back to where it stood and read again for
// every attempt. Any other reader can be read only once, so that Put tries again only as long as no byte of it was
// taken.
func (s *Store) Put(ctx context.Context, name string, r io.Reader) error {
	s.puts.Add(1)
	if err := CheckName(name); err != nil {
		return err
	}
	seeker, _ := r.(io.Seeker)
	var start int64
	if seeker != nil {
		var err error
		if start, err = seeker.Seek(0, io.SeekCurrent); err != nil {
			seeker = nil
		}
	}
	return s.retrier.Do(ctx, func() (bool, error) {
		tap := &tap{r: r, count: &s.bytesPut, pace: func(n int) error { return s.pacer.wait(ctx, n) }}
		err := s.driver.Put(ctx, name, tap)
		if err == nil || tap.err != nil || !tap.used {
			return tap.err == nil, err
		}
		if seeker == nil {
			return false, err
		}
		if _, seekErr := seeker.Seek(start, io.SeekStart); seekErr != nil {
			return false, errors.Join(err, seekErr)
		}
		return true, err
	})
}

// tap watches the caller's reader: whether it was used, and whether the failure is its own.
type tap struct {
	r     io.Reader
	count *atomic.Int64
	pace  func(n int) error
	used  bool
	err   error
}

func (t *tap) Read(p []byte) (int, error) {
	t.used = true
	n, err := t.r.Read(p)
	t.count.Add(int64(n))
	if pacing := t.pace(n); err == nil && pacing != nil {
		err = pacing
	}
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

// Open reads length bytes of name from offset; length -1 reads to the end. A reader that fails half-way is opened
// again where it stopped, which is sound because names are write-once.
func (s *Store) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	s.opens.Add(1)
	if err := CheckName(name); err != nil {
		return nil, err
	}
	r := &reader{store: s, ctx: ctx, name: name, offset: offset, length: length}
	if err := s.retrier.Do(ctx, func() (bool, error) { return true, r.open() }); err != nil {
		return nil, err
	}
	return r, nil
}

// reader resumes after failures. It holds the ctx of Open because io.Reader has no place for one.
type reader struct {
	store          *Store
	ctx            context.Context
	name           string
	offset, length int64
	current        io.ReadCloser // nil after a failure
	err            error

	waited time.Duration // inside the driver, since the last dripBytes came
	came   int           // bytes in that time
}

var errDrip = errors.New("the store sends next to nothing")

func (r *reader) open() error {
	current, err := r.store.driver.Open(r.ctx, r.name, r.offset, r.length)
	if err == nil {
		r.current = current
	}
	return err
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	r.err = r.store.retrier.Do(r.ctx, func() (bool, error) {
		if r.current == nil {
			if err := r.open(); err != nil {
				return true, err
			}
		}
		began := time.Now()
		var err error
		n, err = r.current.Read(p)
		if err == nil {
			err = r.dripping(n, time.Since(began))
		}
		r.store.bytesRead.Add(int64(n))
		r.offset += int64(n)
		if r.length >= 0 {
			r.length -= int64(n)
		}
		if err == nil || err == io.EOF {
			return false, err
		}
		_ = r.current.Close() // the error of Read is the one that tells
		r.current = nil
		if n > 0 {
			return false, nil
		}
		return true, err
	})
	if pacing := r.store.pacer.wait(r.ctx, n); r.err == nil {
		r.err = pacing
	}
	return n, r.err
}

// dripping fails when too little came in too long a wait: such a connection is as good as lost.
func (r *reader) dripping(n int, waited time.Duration) error {
	r.came += n
	r.waited += waited
	if r.came >= dripBytes {
		r.came, r.waited = 0, 0
	}
	if r.waited < r.store.drip {
		return nil
	}
	r.came, r.waited = 0, 0
	return errDrip
}

func (r *reader) Close() error {
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	if r.current == nil {
		return nil
	}
	err := r.current.Close()
	r.current = nil
	return err
}

// List yields every object whose name begins with prefix, ordered by name. A listing that fails half-way begins
// again, and what was yielded already is left out.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		s.lists.Add(1)
		last, stopped := "", false
		err := s.retrier.Do(ctx, func() (bool, error) {
			for object, err := range s.driver.List(ctx, prefix) {
				if err != nil {
					return true, err
				}
				if object.Name <= last {
					continue
				}
				last = object.Name
				if !yield(object, nil) {
					stopped = true
					return false, nil
				}
			}
			return false, nil
		})
		if err != nil && !stopped {
			yield(Object{}, err)
		}
	}
}

// Delete removes name; a missing name is a success.
func (s *Store) Delete(ctx context.Context, name string) error {
	s.deletes.Add(1)
	if err := CheckName(name); err != nil {
		return err
	}
	return s.retrier.Do(ctx, func() (bool, error) { return true, s.driver.Delete(ctx, name) })
}

// Retained is [Retainer.Retained], and nil where the driver knows of no locks.
func (s *Store) Retained(ctx context.Context, name string) error {
	retainer, is := s.driver.(Retainer)
	if !is {
		return nil
	}
	if err := CheckName(name); err != nil {
		return err
	}
	return s.retrier.Do(ctx, func() (bool, error) { return true, retainer.Retained(ctx, name) })
}

// ReadAll returns the whole object, and fails when it has more than limit bytes: what comes from a store decides
// nothing about memory.
func (s *Store) ReadAll(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, err := s.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: %w: it has more than %d bytes", name, holdfast.ErrDifference, limit)
	}
	return data, nil
}
