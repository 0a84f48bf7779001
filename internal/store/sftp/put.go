package sftp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"

	"holdfast"
	"holdfast/internal/store"
)

const (
	// chunkSize is how much of an object is written at once, and written again when the connection is lost meanwhile. Two
	// of them are in memory: one is read while the other is written.
	chunkSize = 8 << 20
	firstSize = 64 << 10 // of the first buffer, so that small objects need no large one

	// lastWord limits the time for tidying up after a Put whose context has ended.
	lastWord = 15 * time.Second
)

// Put stores what r has under name. The stream survives connections that are lost: Options.Retrier decides how often.
func (d *Driver) Put(ctx context.Context, name string, r io.Reader) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := d.put(ctx, name, r); err != nil {
		return fmt.Errorf("put %s: %w", name, classify(err))
	}
	return nil
}

func (d *Driver) put(ctx context.Context, name string, r io.Reader) error {
	var taken bool
	err := d.retry(ctx, func(s *session) (err error) {
		if err := d.check(s); err != nil {
			return err
		}
		taken, err = d.taken(s, name)
		return err
	})
	if err != nil {
		return err
	}
	if taken {
		return d.confirm(ctx, name, func(stored io.Reader) (bool, error) { return store.Equal(stored, r) })
	}
	u := &upload{d: d, name: name, sum: sha256.New()}
	err = u.fill(ctx, r)
	if err == nil {
		err = u.settle(ctx)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		u.discard(ctx)
		return err
	}
	// From here on the object may be there whatever is answered: a context that ends now ends nothing.
	return u.publish(context.WithoutCancel(ctx))
}

// retry calls op on a living session until it succeeds or the retrier gives up.
func (d *Driver) retry(ctx context.Context, op func(s *session) error) error {
	return d.opt.Retrier.Do(ctx, func() (bool, error) { return true, d.do(ctx, op) })
}

// taken reports whether an object has the name. A folder of that name is an error.
func (d *Driver) taken(s *session, name string) (bool, error) {
	info, err := d.lookup(s, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%w: the name is part of others", store.ErrExists)
	}
	return true, nil
}

// confirm succeeds when the stored object is what same compares it with, and makes it durable: the run that wrote it may
// have been killed before it knew.
func (d *Driver) confirm(ctx context.Context, name string, same func(stored io.Reader) (bool, error)) error {
	stored := &steady{d: d, ctx: ctx, name: name}
	ok, err := same(stored)
	if err := errors.Join(err, stored.Close()); err != nil {
		return err
	}
	if !ok {
		return store.ErrExists
	}
	return d.retry(ctx, func(s *session) error { return d.sync(s, name) })
}

// sync makes a stored object durable, when the server can.
func (d *Driver) sync(s *session, name string) error {
	f, err := s.sftp.Open(d.at(name))
	if err != nil {
		return err
	}
	return errors.Join(syncFile(f), f.Close())
}

// syncFile is fsync where the server has it, and nothing where it does not: Inspect tells.
func syncFile(f *sftp.File) error {
	err := f.Sync()
	if code(err) == codeUnsupported {
		return nil
	}
	return err
}

// upload is one object on its way. Its file is opened again on every new connection.
type upload struct {
	d    *Driver
	name string
	size int64
	sum  hash.Hash

	temp    string   // name of the temporary file, in the folder of the object; "" before it was made
	session *session // on which file is open
	file    *sftp.File
}

// fill writes all of r to the temporary file.
func (u *upload) fill(ctx context.Context, r io.Reader) error {
	free, busy := make([]byte, firstSize), []byte(nil)
	written := make(chan error, 1)
	written <- nil
	defer func() { <-written }() // the writer uses u and its buffer until then
	for {
		n, err := io.ReadFull(r, free)
		if err == nil && len(free) < chunkSize {
			grown := make([]byte, chunkSize)
			copy(grown, free)
			free = grown
			var more int
			more, err = io.ReadFull(r, free[n:])
			n += more
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
		}
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		last := err != nil
		if err := <-written; err != nil {
			written <- nil
			return err
		}
		offset, piece := u.size, free[:n]
		u.size += int64(n)
		u.sum.Write(piece)
		go func() { written <- u.write(ctx, piece, offset) }()
		if last {
			err := <-written
			written <- nil
			return err
		}
		if free, busy = busy, free; free == nil {
			free = make([]byte, chunkSize)
		}
	}
}

func (u *upload) write(ctx context.Context, piece []byte, offset int64) error {
	return u.retry(ctx, func(s *session, f *sftp.File) error {
		if len(piece) == 0 {
			return nil
		}
		if _, err := f.WriteAt(piece, offset); err != nil {
			return u.d.diagnose(s, err)
		}
		return nil
	})
}

// retry is Driver.retry with the temporary file open.
func (u *upload) retry(ctx context.Context, op func(s *session, f *sftp.File) error) error {
	return u.d.retry(ctx, func(s *session) error {
		if u.session != s {
			if err := u.open(ctx, s); err != nil {
				return err
			}
		}
		return op(s, u.file)
	})
}

// open makes the temporary file on the first connection, and opens it again on later ones.
func (u *upload) open(ctx context.Context, s *session) error {
	if u.temp != "" {
		f, err := s.sftp.OpenFile(u.d.at(u.temp), os.O_WRONLY)
		if errors.Is(err, fs.ErrNotExist) {
			if err := u.d.check(s); err != nil {
				return err
			}
			return fmt.Errorf("%w: somebody removed the temporary file %s", holdfast.ErrDifference, u.temp)
		}
		if err == nil {
			u.session, u.file = s, f
		}
		return err
	}
	// A new name for every attempt: a lost answer leaves a file behind, which Sweep removes.
	temp := path.Join(path.Dir(u.name), temporary+rand.Text())
	f, err := u.d.createFile(ctx, s, temp)
	if err != nil {
		return err
	}
	u.temp, u.session, u.file = temp, s, f
	return nil
}

// createFile makes a file and the folders above it, and again when a Delete takes those away in between.
func (d *Driver) createFile(ctx context.Context, s *session, name string) (*sftp.File, error) {
	for attempt := 0; ; attempt++ {
		f, err := s.sftp.OpenFile(d.at(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		switch {
		case err == nil:
			// Before a byte is in it: the protocol client cannot ask for a mode when it makes a file.
			if err := s.private(d.at(name), fileMode); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			return f, nil
		case code(err) == codeFailure:
			if info, statErr := d.lookup(s, path.Dir(name)); statErr == nil && info.IsDir() {
				return nil, d.diagnose(s, err)
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, classify(err)
		}
		if err := errors.Join(ctx.Err(), d.check(s)); err != nil {
			return nil, err
		}
		err = d.makeFolder(s, path.Dir(name))
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || attempt > 100) {
			return nil, err
		}
	}
}

// makeFolder makes a folder of the store, and those above it. fs.ErrNotExist: a Delete removed one of them in between.
func (d *Driver) makeFolder(s *session, name string) error {
	err := s.sftp.Mkdir(d.at(name))
	if errors.Is(err, fs.ErrNotExist) && path.Dir(name) != "." {
		if err := d.makeFolder(s, path.Dir(name)); err != nil {
			return err
		}
		err = s.sftp.Mkdir(d.at(name))
	}
	if err == nil {
		return s.private(d.at(name), dirMode)
	}
	info, statErr := s.sftp.Lstat(d.at(name))
	switch {
	case statErr != nil && code(err) == codeFailure:
		if above, aboveErr := s.sftp.Lstat(d.at(path.Dir(name))); aboveErr == nil && above.Mode().IsRegular() {
			return fmt.Errorf("%w: part of the name is an object", store.ErrExists)
		}
		return d.diagnose(s, err)
	case statErr != nil || info.IsDir():
		return statErr
	case info.Mode().IsRegular():
		return fmt.Errorf("%w: part of the name is an object", store.ErrExists)
	}
	return d.diagnose(s, err)
}

// settle makes the bytes durable and looks at how many arrived.
func (u *upload) settle(ctx context.Context) error {
	return u.retry(ctx, func(s *session, f *sftp.File) error {
		if err := syncFile(f); err != nil {
			return u.d.diagnose(s, err)
		}
		info, err := s.sftp.Lstat(u.d.at(u.temp))
		if err != nil {
			return err
		}
		if info.Size() != u.size {
			return fmt.Errorf("%w: the server has %d of %d bytes", holdfast.ErrDifference, info.Size(), u.size)
		}
		return nil
	})
}

// publish gives the file its name. When the name is taken, perhaps by this very call whose answer was lost, the bytes decide.
func (u *upload) publish(ctx context.Context) error {
	var taken bool
	err := u.d.retry(ctx, func(s *session) error {
		err := u.d.link(s, u.temp, u.name)
		if err == nil || broken(err) {
			return err
		}
		var there error
		if taken, there = u.d.taken(s, u.name); taken || there != nil {
			return there
		}
		return u.d.diagnose(s, err)
	})
	if err == nil && taken {
		err = u.d.confirm(ctx, u.name, func(stored io.Reader) (bool, error) {
			sum := sha256.New()
			n, err := io.Copy(sum, io.LimitReader(stored, u.size+1))
			return n == u.size && bytes.Equal(sum.Sum(nil), u.sum.Sum(nil)), err
		})
	}
	if err == nil && !taken {
		// The protocol cannot make a folder durable. A second fsync of the file does it on the usual filesystems, whose journal
		// then holds the new name.
		err = u.d.retry(ctx, func(s *session) error {
			if u.session == s {
				return syncFile(u.file)
			}
			return u.d.sync(s, u.name)
		})
	}
	u.remove(ctx, err != nil)
	return err
}

// link gives a file a second name, or moves it, and fails when the name is taken.
func (d *Driver) link(s *session, from, to string) error {
	if s.has("hardlink") {
		err := s.sftp.Link(d.at(from), d.at(to))
		if code(err) == 0 && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		// The name is taken, or the filesystem has no links, which some call a lack of permission.
	}
	// In version 3 of the protocol this fails when the target exists, and OpenSSH keeps to that. Others may not.
	if taken, err := d.taken(s, to); err != nil || taken {
		return errors.Join(err, fs.ErrExist)
	}
	return s.sftp.Rename(d.at(from), d.at(to))
}

// discard removes what was made for an object that did not come.
func (u *upload) discard(ctx context.Context) {
	if u.temp == "" {
		u.d.tidy(ctx, path.Dir(u.name))
		return
	}
	u.remove(ctx, true)
}

// remove removes the temporary file, and with tidy the folders that are empty then. What it cannot, Sweep removes later.
func (u *upload) remove(ctx context.Context, tidy bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	_ = u.d.retry(ctx, func(s *session) error {
		if u.session == s {
			_ = u.file.Close()
		}
		if err := s.sftp.Remove(u.d.at(u.temp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if tidy {
			u.d.removeEmpty(s, path.Dir(u.name))
		}
		return nil
	})
}

// tidy removes folders that were made for an object that did not come.
func (d *Driver) tidy(ctx context.Context, folder string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	_ = d.do(ctx, func(s *session) error {
		d.removeEmpty(s, folder)
		return nil
	})
}

// writeMarker makes the file that says that the folder is a store, whole or not at all for those who look for it.
func (d *Driver) writeMarker(s *session) error {
	f, err := s.sftp.OpenFile(d.at(marker), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		if _, statErr := s.sftp.Lstat(d.at(marker)); statErr == nil {
			return nil // another run was faster
		}
		return err
	}
	_, err = f.Write([]byte(markerText))
	if err == nil {
		err = syncFile(f)
	}
	return errors.Join(err, f.Close(), s.private(d.at(marker), fileMode))
}
