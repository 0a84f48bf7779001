package rsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"holdfast/internal/store"
)

// fetched is an object in the cache.
type fetched struct {
	name, file string
	size       int64
}

// Open fetches the whole object into the cache and reads length bytes from offset; length -1 reads to the end. What was fetched
// stays until the cache has more than Options.Batch bytes of such objects, so that many ranges of one object cost one transfer.
func (d *Driver) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	r, err := d.openRange(ctx, name, offset, length)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return r, nil
}

func (d *Driver) openRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.CheckRange(offset, length); err != nil {
		return nil, err
	}
	f, err := d.cached(ctx, name)
	if err != nil {
		return nil, err
	}
	return store.FileRange(ctx, f, offset, length)
}

// cached opens the object in the cache and fetches it first when it is not there. Calls for one name fetch it once.
func (d *Driver) cached(ctx context.Context, name string) (*os.File, error) {
	for {
		d.mu.Lock()
		if i := slices.IndexFunc(d.fetched, func(f fetched) bool { return f.name == name }); i >= 0 {
			f, err := os.Open(d.fetched[i].file)
			d.mu.Unlock()
			return f, err
		}
		other, busy := d.fetching[name]
		mine := make(chan struct{})
		if !busy {
			d.fetching[name] = mine
		}
		d.mu.Unlock()
		if busy {
			select {
			case <-other:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		f, err := d.fetch(ctx, name)
		d.mu.Lock()
		delete(d.fetching, name)
		d.mu.Unlock()
		close(mine)
		return f, err
	}
}

// fetch copies one object into the cache and opens it.
func (d *Driver) fetch(ctx context.Context, name string) (*os.File, error) {
	d.mu.Lock()
	d.count++
	folder := filepath.Join(d.dir, "fetched-"+strconv.Itoa(d.count))
	d.mu.Unlock()
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, cacheError(err)
	}
	// A name of our own: what the far side calls its file decides nothing here.
	file := filepath.Join(folder, "object")
	_, err := d.run(ctx, nil, "--no-links", "--no-devices", "--no-specials", "--chmod=F600", d.at(name), file)
	if errors.Is(err, store.ErrFull) {
		err = cacheError(unix.ENOSPC) // a fetch writes nothing at the far side
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		if noStore := d.look(ctx); noStore != nil {
			err = noStore
		}
	}
	var f *os.File
	if err == nil {
		f, err = d.openRegular(file)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.RemoveAll(folder))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched = append(d.fetched, fetched{name, file, info.Size()})
	d.bound()
	return f, nil
}

// openRegular opens what was fetched. rsync skips folders and links without an error, and then nothing is there.
func (d *Driver) openRegular(file string) (*os.File, error) {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no file", fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return os.Open(file)
}

// bound removes the oldest objects until the cache is small enough. d.mu is held. Readers keep what they have open.
func (d *Driver) bound() {
	total := int64(0)
	for _, f := range d.fetched {
		total += f.size
	}
	for len(d.fetched) > 1 && total > d.opt.Batch {
		total -= d.fetched[0].size
		_ = os.RemoveAll(filepath.Dir(d.fetched[0].file)) // Close tries again
		d.fetched = d.fetched[1:]
	}
}

// forget removes an object from the cache.
func (d *Driver) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched = slices.DeleteFunc(d.fetched, func(f fetched) bool {
		if f.name == name {
			_ = os.RemoveAll(filepath.Dir(f.file)) // Close tries again
		}
		return f.name == name
	})
}
