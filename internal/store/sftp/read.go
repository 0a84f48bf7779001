package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/pkg/sftp"

	"holdfast/internal/store"
)

// aheadSize is how much is asked for before it is needed. The client splits it into packets of 32 KiB, all asked for at once.
const aheadSize = 2 << 20

// Open reads length bytes of name from offset; length -1 reads to the end. The next bytes are asked for while the caller
// handles these.
func (d *Driver) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	r, err := d.open(ctx, name, offset, length)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, classify(err))
	}
	return r, nil
}

func (d *Driver) open(ctx context.Context, name string, offset, length int64) (*reader, error) {
	if err := store.CheckRange(offset, length); err != nil {
		return nil, err
	}
	r := &reader{d: d, ctx: ctx, name: name, offset: offset, pieces: make(chan piece, 1)}
	err := d.do(ctx, func(s *session) error {
		f, err := s.sftp.Open(d.at(name))
		if err != nil {
			if broken(err) {
				return err
			}
			if err := d.check(s); err != nil {
				return err
			}
			return d.missing(s, name, err)
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = fs.ErrNotExist // a folder is only the beginning of names
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		r.session, r.file, r.end = s, f, max(info.Size(), offset)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		r.end = min(r.end, offset+length)
	}
	r.ask()
	return r, nil
}

// missing tells what a failed open means: servers answer differently for a folder, and for a name below an object.
func (d *Driver) missing(s *session, name string, err error) error {
	if code(err) != codeFailure {
		return err
	}
	info, statErr := d.lookup(s, name)
	switch {
	case statErr != nil:
		return statErr
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// lookup is an lstat whose answer for a name below an object is fs.ErrNotExist, which only some servers say by themselves.
func (d *Driver) lookup(s *session, name string) (fs.FileInfo, error) {
	info, err := s.sftp.Lstat(d.at(name))
	if code(err) != codeFailure {
		return info, err
	}
	for above := path.Dir(name); above != "."; above = path.Dir(above) {
		if info, statErr := s.sftp.Lstat(d.at(above)); statErr == nil && !info.IsDir() {
			return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
	}
	return nil, err
}

// piece is what one read ahead brought.
type piece struct {
	data []byte
	err  error
}

// reader reads an object on one connection; when that is lost it fails, and the caller opens another. It holds the ctx of
// Open because io.Reader has no place for one.
type reader struct {
	d           *Driver
	ctx         context.Context
	name        string
	session     *session
	file        *sftp.File
	offset, end int64 // of what was not asked for yet

	pieces chan piece // has room for the one read ahead
	asked  bool       // one is on its way or waits
	data   []byte     // what the caller has not taken
	spare  []byte     // a buffer to use again
	err    error
	closed bool
}

// ask begins to read the next piece. The driver waits for it at Close.
func (r *reader) ask() {
	if r.offset >= r.end {
		return
	}
	n := min(r.end-r.offset, aheadSize)
	buffer := r.spare
	if int64(cap(buffer)) < n {
		buffer = make([]byte, n)
	}
	buffer, r.spare = buffer[:n], nil
	offset, session, file, ctx, pieces := r.offset, r.session, r.file, r.ctx, r.pieces
	r.offset += n
	r.asked = true
	r.d.background.Go(func() {
		err := session.run(ctx, func() error {
			got, err := file.ReadAt(buffer, offset)
			if got == len(buffer) {
				return nil
			}
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF // the file became shorter, which nothing stored does
			}
			return err
		})
		pieces <- piece{buffer, err}
	})
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 || r.err != nil {
		return 0, r.err
	}
	if len(r.data) == 0 {
		if r.err = r.fetch(); r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *reader) fetch() error {
	if !r.asked {
		return io.EOF
	}
	var next piece
	select {
	case next = <-r.pieces:
	case <-r.ctx.Done():
		return fmt.Errorf("read %s: %w", r.name, r.ctx.Err())
	}
	r.asked = false
	if next.err != nil {
		return fmt.Errorf("read %s: %w", r.name, next.err)
	}
	r.data = next.data
	r.ask()
	return nil
}

// Close does not wait for a read ahead on a slow line: the file is closed after it.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.err = fs.ErrClosed
	file := r.file
	r.d.background.Go(func() { _ = file.Close() }) // waits for the read ahead; nothing was written, so that no error is lost
	return nil
}

// steady reads a whole object through lost connections. It is for what a Put compares.
type steady struct {
	d      *Driver
	ctx    context.Context
	name   string
	offset int64
	reader *reader
}

func (s *steady) Read(p []byte) (n int, err error) {
	err = s.d.opt.Retrier.Do(s.ctx, func() (bool, error) {
		if s.reader == nil {
			r, err := s.d.open(s.ctx, s.name, s.offset, -1)
			if err != nil {
				return true, err
			}
			s.reader = r
		}
		var err error
		n, err = s.reader.Read(p)
		s.offset += int64(n)
		if err == nil || err == io.EOF {
			return false, err
		}
		_ = s.Close() // the error of Read tells
		return true, err
	})
	return n, err
}

func (s *steady) Close() error {
	if s.reader == nil {
		return nil
	}
	r := s.reader
	s.reader = nil
	return r.Close()
}
