package seal

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

const (
	// markedBlock is how much of a stream has one mark.
	markedBlock = 4 << 20
	// markSize is the length of a mark: what [Twice] remembers of a terabyte is 4 MiB.
	markSize = 16
)

type mark [markSize]byte

// Twice lets a stream be used that is only known to be good when its end was seen. It opens the stream and has check
// read it; if that finds nothing wrong it opens it again, and the result hands on the same bytes. A byte that was not
// there the first time is never handed on: each block is compared with what the first reading left of it, by a MAC under
// a key that nobody knows, and another one is an error with [ErrDamaged]. Errors of open, check and of the stream itself
// are returned as they are.
func Twice(open func() (io.ReadCloser, error), check func(io.Reader) error) (io.ReadCloser, error) {
	marker, err := newMarker()
	if err != nil {
		return nil, err
	}
	first, err := open()
	if err != nil {
		return nil, err
	}
	marked := io.TeeReader(first, marker)
	err = check(marked)
	if err == nil {
		_, err = io.Copy(io.Discard, marked)
	}
	if err := cmp.Or(err, first.Close()); err != nil {
		return nil, err
	}
	marker.end()
	second, err := open()
	if err != nil {
		return nil, err
	}
	return &markedReader{source: second, marker: marker, block: make([]byte, markedBlock)}, nil
}

// marker makes the marks of what is written to it.
type marker struct {
	mac   hash.Hash
	size  int // of the current block so far
	marks []mark
}

func newMarker() (*marker, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return &marker{mac: hmac.New(sha256.New, key)}, nil
}

func (m *marker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(markedBlock-m.size, len(rest))
		m.mac.Write(rest[:n])
		rest = rest[n:]
		if m.size += n; m.size == markedBlock {
			m.end()
		}
	}
	return len(p), nil
}

// end closes the current block.
func (m *marker) end() {
	if m.size == 0 {
		return
	}
	var made mark
	copy(made[:], m.mac.Sum(nil))
	m.marks = append(m.marks, made)
	m.mac.Reset()
	m.size = 0
}

// fits reports whether block is what was marked at the place number.
func (m *marker) fits(number int, block []byte) bool {
	if number >= len(m.marks) {
		return false
	}
	m.mac.Reset()
	m.mac.Write(block)
	return hmac.Equal(m.mac.Sum(nil)[:markSize], m.marks[number][:])
}

// markedReader hands on blocks that have their mark.
type markedReader struct {
	source io.ReadCloser
	marker *marker
	block  []byte
	ready  []byte // the part of block that was compared and not handed on
	number int
	err    error
}

var errChanged = fmt.Errorf("%w changed while it was read", ErrDamaged)

func (r *markedReader) Read(p []byte) (int, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

func (r *markedReader) fill() {
	n, err := readUpTo(r.source, r.block)
	r.err = err
	if err != nil && err != io.EOF {
		return
	}
	if n > 0 {
		if !r.marker.fits(r.number, r.block[:n]) {
			r.err = errChanged
			return
		}
		r.ready = r.block[:n]
		r.number++
	}
	if err == io.EOF && r.number != len(r.marker.marks) {
		r.ready, r.err = nil, errChanged
	}
}

// readUpTo fills p, or returns the error of r as it is, io.EOF included, with what came before it.
func readUpTo(r io.Reader, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		got, err := r.Read(p[n:])
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (r *markedReader) Close() error { return r.source.Close() }
