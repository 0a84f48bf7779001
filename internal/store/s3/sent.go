package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"sync"
)

// sent is what was taken from the caller's reader so far: enough to tell later whether a stored object is the same.
type sent struct {
	size int64
	sha  hash.Hash
	crc  hash.Hash32
}

func newSent() *sent {
	return &sent{sha: sha256.New(), crc: newCRC()}
}

func newCRC() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

func (s *sent) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	_, _ = s.sha.Write(p) // a hash never fails
	_, _ = s.crc.Write(p)
	return len(p), nil
}

// crcText is the CRC32C in the form of the protocol: base64 of its four bytes, the highest first.
func crcText(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// crcOf is the CRC32C of a short text.
func crcOf(text string) string {
	return crcText(crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// is reports whether r has the bytes that were sent.
func (s *sent) is(r io.Reader) (bool, error) {
	stored := sha256.New()
	n, err := io.Copy(stored, r)
	if err != nil {
		return false, err
	}
	return n == s.size && bytes.Equal(stored.Sum(nil), s.sha.Sum(nil)), nil
}

// source is the caller's reader: it ends with ctx, and knows whether a failure is its own.
type source struct {
	ctx context.Context
	r   io.Reader
	*sent
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	_, _ = s.Write(p[:n])
	return n, err
}

// fill reads until buf is full or the source ends, and reports whether it ended.
func (s *source) fill(buf []byte) (n int, ended bool, err error) {
	n, err = io.ReadFull(s, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return n, true, nil
	}
	return n, false, err
}

// growths are the sizes that the first buffer goes through: most objects are small, and not each is worth a whole part.
const (
	smallestBuffer = 64 << 10
	growth         = 8
)

// first reads up to size bytes, and reports whether the source ended.
func (s *source) first(size int64) (buf []byte, ended bool, err error) {
	buf = make([]byte, min(smallestBuffer, size))
	filled := 0
	for {
		n, ended, err := s.fill(buf[filled:])
		if filled += n; err != nil || ended || int64(filled) == size {
			return buf[:filled], ended, err
		}
		grown := make([]byte, min(growth*int64(len(buf)), size))
		copy(grown, buf)
		buf = grown
	}
}

var errOver = errors.New("this attempt is over")

// attempt is the body of one request. When the request has ended it gives no more bytes: its buffer is filled anew, and
// [net/http] may still be reading.
type attempt struct {
	mu   sync.Mutex // guards all below
	r    bytes.Reader
	over bool
}

func newAttempt(data []byte) *attempt {
	a := &attempt{}
	a.r.Reset(data)
	return a
}

func (a *attempt) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return 0, errOver
	}
	return a.r.Read(p)
}

func (a *attempt) Seek(offset int64, whence int) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return 0, errOver
	}
	return a.r.Seek(offset, whence)
}

func (a *attempt) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
}
