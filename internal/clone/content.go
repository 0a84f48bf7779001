package clone

import (
	"context"
	"errors"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	bufferSize = 1 << 20
	readAhead  = 4 << 20
	writeback  = 8 << 20 // what is written out at a time, so that the disk works while more is read
)

// errShort says that a file ended before its size.
var errShort = errors.New("the file became shorter")

// content reads the bytes of a file once: into a hash, and into another file when there is one.
type content struct {
	from *os.File
	size int64
	to   *os.File // nil: nowhere
	sum  hash.Hash
	buf  []byte
	seen func(bytes int64)

	begun int64 // up to where write-back was asked for
}

// copy goes from one piece of data to the next. A hole is hashed as the zeros that it reads as, and not written.
func (c *content) copy(ctx context.Context) error {
	for off := int64(0); off < c.size; {
		start, end, err := c.next(off)
		if err != nil {
			return err
		}
		if err := c.hole(ctx, start-off); err != nil {
			return err
		}
		if err := c.data(ctx, start, end); err != nil {
			return err
		}
		off = end
	}
	if c.to == nil {
		return nil
	}
	return c.to.Truncate(c.size)
}

// next is the next piece of data, which is empty when only a hole is left.
func (c *content) next(off int64) (start, end int64, err error) {
	start, err = c.from.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return c.size, c.size, nil
	case errors.Is(err, unix.EINVAL):
		return off, c.size, nil // a file system that knows no holes
	case err != nil:
		return 0, 0, err
	}
	end, err = c.from.Seek(start, unix.SEEK_HOLE)
	return min(start, c.size), min(end, c.size), err
}

func (c *content) hole(ctx context.Context, length int64) error {
	if length == 0 {
		return nil
	}
	clear(c.buf)
	for length > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(length, int64(len(c.buf)))
		c.sum.Write(c.buf[:n])
		c.seen(n)
		length -= n
	}
	return nil
}

func (c *content) data(ctx context.Context, start, end int64) error {
	for start < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece := c.buf[:min(end-start, int64(len(c.buf)))]
		// What comes next is fetched while this is hashed.
		if ahead := start + int64(len(piece)); ahead < end {
			_ = unix.Fadvise(int(c.from.Fd()), ahead, min(end-ahead, readAhead), unix.FADV_WILLNEED)
		}
		if n, err := c.from.ReadAt(piece, start); n < len(piece) {
			if err == nil || errors.Is(err, io.EOF) {
				err = errShort
			}
			return err
		}
		c.sum.Write(piece)
		if err := c.write(piece, start); err != nil {
			return err
		}
		start += int64(len(piece))
		c.seen(int64(len(piece)))
	}
	return nil
}

func (c *content) write(piece []byte, at int64) error {
	if c.to == nil {
		return nil
	}
	if _, err := c.to.WriteAt(piece, at); err != nil {
		return writeError{err}
	}
	if end := at + int64(len(piece)); end-c.begun >= writeback {
		// It is advice: without it only the sync at the end is slower.
		_ = unix.SyncFileRange(int(c.to.Fd()), c.begun, end-c.begun, unix.SYNC_FILE_RANGE_WRITE)
		c.begun = end
	}
	return nil
}

// writeError is one of the copy and not of the original.
type writeError struct{ error }

func (w writeError) Unwrap() error { return w.error }
