package files

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"holdfast"
)

// stream is the tar stream of a pass. Read is called by one goroutine at a time.
type stream struct {
	*pass
	ctx      context.Context // of the reader, as Open promised
	cancel   context.CancelFunc
	unbudget func() bool
	running  sync.WaitGroup

	head     []byte // reused for headers
	pending  [3][]byte
	held     []byte // the buffer of pending content
	reserved int64
	large    *entry // being read; its record is the last
	zeros    []byte // for padding and holes
	ended    bool   // nothing follows what is pending
	err      error

	once     sync.Once
	closeErr error
}

var _ io.WriterTo = (*stream)(nil)

// Read fills b as far as the stream goes.
func (s *stream) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) && s.err == nil {
		if moved := s.move(b[n:]); moved > 0 {
			n += moved
		} else if s.large != nil {
			n += s.readLarge(b[n:])
		} else {
			s.advance()
		}
	}
	if n > 0 || len(b) == 0 {
		return n, nil
	}
	return 0, s.err
}

// move copies what is pending.
func (s *stream) move(b []byte) int {
	n := 0
	for i := range s.pending {
		m := copy(b[n:], s.pending[i])
		s.pending[i] = s.pending[i][m:]
		n += m
	}
	return n
}

// WriteTo writes what is left of the stream.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{s}, make([]byte, 1<<20))
}

// Close ends the pass. It fails unless the stream was read to its end.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.unbudget()
		s.cancel()
		s.budget.close()
		s.running.Wait()
		for e := range s.queue {
			s.drop(e)
		}
		if s.large != nil {
			s.drop(s.large)
		}
		switch {
		case errors.Is(s.err, io.EOF):
			s.closeErr = s.whole()
		case s.err != nil:
			s.closeErr = s.err
		default:
			s.closeErr = errors.New("close tar stream: it was not read to its end")
		}
		if s.err == nil {
			s.err = s.closeErr
		}
	})
	return s.closeErr
}

// advance takes the next entry from the queue.
func (s *stream) advance() {
	s.budget.give(s.reserved)
	s.buffers.put(s.held)
	s.reserved, s.held = 0, nil
	if s.ended {
		s.err = io.EOF
		return
	}
	var e *entry
	select {
	case next, more := <-s.queue:
		if err := s.ctx.Err(); err != nil {
			s.err = context.Cause(s.ctx)
			if more {
				s.drop(next)
			}
			return
		}
		if !more {
			s.pending[0] = s.zeros[:2*blockSize] // the end of the archive
			s.ended = true
			return
		}
		e = next
	case <-s.ctx.Done():
		s.err = context.Cause(s.ctx)
		return
	}
	<-e.ready // a loader never waits for the stream
	s.reserved, s.held = e.reserved, e.body
	if err := s.put(e); err != nil {
		s.err = err
	}
	if s.large == nil {
		s.drop(e)
	}
}

// put makes an entry pending, or says why not.
func (s *stream) put(e *entry) error {
	if e.note != "" {
		s.note("%s", e.note)
		if e.rec.name == "" {
			return nil
		}
	}
	h := header{record: &e.rec, xattrs: e.xattrs}
	if e.shared {
		if index, stored := s.links[e.id]; stored {
			name := e.rec.name
			e.rec = s.records[index]
			e.rec.name, e.rec.first = name, s.records[index].name
			h.link = e.rec.first
		} else { // the name that was met before is not in the stream
			s.load(e)
			s.held = e.body
		}
	}
	if e.err != nil {
		return s.missing(e)
	}
	if h.link == "" {
		h.xattrs, h.segments = e.xattrs, e.segments
		e.rec.xattrs = xattrDigest(e.xattrs)
		if e.rec.kind == tar.TypeReg {
			h.size = e.rec.size
		}
	}
	var table []byte
	if h.segments != nil {
		table = sparseMap(h.segments)
		h.size = int64(len(table))
		for _, segment := range h.segments {
			h.size += segment.length
		}
	}
	var err error
	if s.head, err = h.appendTo(s.head[:0]); err != nil {
		return holdfast.WithHint(fmt.Errorf("store %s: %w", factName(e.rec.name), err), "exclude the file")
	}
	s.head = append(s.head, table...)
	s.pending[0] = s.head
	if h.link == "" {
		if e.large != nil {
			s.large = e
		} else {
			s.pending[1] = e.body
			s.pending[2] = s.zeros[:padding(h.size)]
		}
		if e.several {
			s.links[e.id] = len(s.records)
		}
	}
	if e.rec.changed && h.link == "" {
		s.note("%s changed each of the %d times it was read and is stored as last read", factName(e.rec.name), maxReads)
	}
	s.records = append(s.records, e.rec)
	return nil
}

// missing deals with an entry that has nothing to store.
func (s *stream) missing(e *entry) error {
	name := factName(e.rec.name)
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case e.gone && s.isRoot(e.rec.name):
		return holdfast.WithHint(fmt.Errorf("read root %s: %w", name, e.err), "run the backup again")
	case e.gone:
		s.note("%s vanished or was replaced while the backup ran", name)
		return nil
	case s.tolerate && e.rec.name != "" && tolerable(e.err):
		s.note("%s could not be read and is left out: %v", name, e.err)
		return nil
	case e.rec.name == "":
		return e.err
	}
	hint := "look at the disk and the system's log, or exclude the file"
	if errors.Is(e.err, unix.EACCES) || errors.Is(e.err, unix.EPERM) {
		hint = "run as a user who can read it, exclude it, or let the source tolerate unreadable files"
	}
	return holdfast.WithHint(fmt.Errorf("read %s: %w", name, e.err), hint)
}

// tolerable tells what is wrong with a file from what is wrong with this process (out of memory or descriptors).
func tolerable(err error) bool {
	for _, known := range []error{unix.EACCES, unix.EPERM, unix.EIO, unix.ESTALE, unix.EUCLEAN, unix.ENOKEY} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// readLarge moves content of the large file under way into b. A file that ends too early is padded: its size is
// already in the stream. One that goes on is cut there. Both are reported.
func (s *stream) readLarge(b []byte) int {
	e, l := s.large, s.large.large
	if err := s.ctx.Err(); err != nil {
		s.err = context.Cause(s.ctx)
		return 0
	}
	start, end := l.pos, e.rec.size
	if e.segments != nil {
		start = e.segments[l.index].offset
		end = start + e.segments[l.index].length
	}
	if l.pos < start { // a hole: counted in the digest, absent from the stream
		n := min(start-l.pos, int64(len(s.zeros)))
		l.hash.Write(s.zeros[:n])
		l.pos += n
		return 0
	}
	if l.pos == end {
		if l.index++; e.segments == nil || l.index >= len(e.segments) {
			s.endLarge()
		}
		return 0
	}
	b = b[:min(int64(len(b)), end-l.pos, 1<<20)]
	n, err := quiet(func() (int, error) { return unix.Pread(l.fd, b, l.pos) })
	if err != nil {
		s.err = fmt.Errorf("read %s: %w", factName(e.rec.name), err)
		return 0
	}
	if n == 0 {
		n = len(b)
		clear(b)
		l.changed = true
	}
	l.hash.Write(b[:n])
	l.pos += int64(n)
	return n
}

// endLarge completes the record of the large file under way.
func (s *stream) endLarge() {
	e, l := s.large, s.large.large
	r := &s.records[len(s.records)-1]
	r.digest = hexDigest(l.hash.Sum(nil))
	var after unix.Stat_t
	if err := unix.Fstat(l.fd, &after); err != nil {
		s.err = fmt.Errorf("read %s: %w", factName(r.name), err)
		return
	}
	if r.changed = l.changed || !same(&l.before, &after); r.changed {
		s.note("%s changed while it was read and is stored with the size it had at first", factName(r.name))
	}
	stored := r.size
	if e.segments != nil {
		stored = 0 // the map is padded by itself
		for _, segment := range e.segments {
			stored += segment.length
		}
	}
	s.pending[2] = s.zeros[:padding(stored)]
	s.drop(e)
	s.large = nil
}
