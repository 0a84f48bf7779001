// Package local keeps a store in a directory of a mounted filesystem.
//
// It hides temporary files, links, fsync and the order of directory listings. Beside the laws of store.Driver it
// has three of its own: only the owner can read anything (directories 0700, files 0600); a directory without the
// marker file is never written to, so that a backup does not land in the empty mount point of a disk that is not
// there; and what root writes into the store of another user belongs to that user.
//
// It is not its job to retry, or to know what a backup is.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/store"
)

// marker is the file that makes a directory a store. Its name begins with a dot, so that it is no object.
const marker = ".holdfast-store"

const markerText = "This directory is a holdfast store. Without this file holdfast does not write here.\n"

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Options tunes [Open].
type Options struct {
	// Create makes the directory and the marker when they are missing. The parent directory must exist.
	Create bool
}

// Driver is a store in a directory.
type Driver struct {
	dir   string
	root  *os.Root
	owner *owner // nil: what is made belongs to the user of this process

	// dirs orders making and removing directories: who finds a directory made by another call must know that it is
	// durable. Other processes may still come in between, hence the loops in Put.
	dirs sync.Mutex
}

var (
	_ store.Driver    = (*Driver)(nil)
	_ store.Inspector = (*Driver)(nil)
	_ store.Spacer    = (*Driver)(nil)
	_ store.Janitor   = (*Driver)(nil)
)

// Open opens the store in dir. Errors: store.ErrNoStore, with a hint, when dir is missing or has no marker, or when with
// opt.Create the parent directory is missing; fs.ErrPermission when others can look into dir.
func Open(dir string, opt Options) (*Driver, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if opt.Create {
		if err := create(dir); err != nil {
			return nil, fmt.Errorf("create store %s: %w", dir, classify(err))
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, notThere(dir, err)
	}
	d := &Driver{dir: dir, root: root}
	if err := d.check(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	info, err := root.Stat(".")
	if err == nil {
		err = d.private(info)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, classify(err)), root.Close())
	}
	d.owner = ownerFor(info)
	return d, nil
}

// private refuses a directory that others than its owner and group can look into: names tell jobs, hosts and sizes.
func (d *Driver) private(info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return holdfast.WithHint(fmt.Errorf("everybody can look into it (mode %04o): %w", mode, fs.ErrPermission),
			fmt.Sprintf("chmod 700 %s; or, where a mounted disk has no modes, mount it with umask=077", d.dir))
	}
	return nil
}

// Free is how many bytes an unprivileged writer can still put.
func (d *Driver) Free(context.Context) (int64, error) {
	about, err := d.room()
	return int64(about.Bavail) * about.Bsize, err
}

func (d *Driver) room() (about unix.Statfs_t, err error) {
	if err := d.check(); err != nil {
		return about, err
	}
	dir, err := d.root.Open(".")
	if err == nil {
		err = errors.Join(unix.Fstatfs(int(dir.Fd()), &about), dir.Close())
	}
	if err != nil {
		return about, fmt.Errorf("look at store %s: %w", d.dir, classify(err))
	}
	return about, nil
}

// scarce is the part of a file system below which doctor warns.
const scarce = 10 // in a hundred

// Inspect tells how much room there is.
func (d *Driver) Inspect(ctx context.Context, _ store.Inspection) ([]store.Finding, error) {
	about, err := d.room()
	if err != nil {
		return nil, err
	}
	free := int64(about.Bavail) * about.Bsize
	finding := store.Finding{Severity: store.Fine, Message: fmt.Sprintf("%d MB are free", free>>20)}
	if about.Bavail*100 < about.Blocks*scarce {
		finding.Severity, finding.Fix = store.Warns, "make room: a larger disk, or a shorter `keep` and `holdfast prune`"
	}
	return []store.Finding{finding}, ctx.Err()
}

func create(dir string) error {
	err := os.Mkdir(dir, dirMode)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(dir))
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		err = makePrivate(dir)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		// The cause is not wrapped: fs.ErrNotExist speaks of objects.
		return holdfast.WithHint(fmt.Errorf("%w: the directory above it is missing", store.ErrNoStore),
			"mount the disk, or make the directory "+filepath.Dir(dir))
	}
	if err != nil {
		return err
	}
	err = createMarker(dir)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func createMarker(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	f, err := durable.Create(root, marker, fileMode)
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := ownerFor(info).give(f); err != nil {
		return err
	}
	if _, err := f.Write([]byte(markerText)); err != nil {
		return err
	}
	return f.Commit()
}

// makePrivate closes an existing directory to others when it becomes a store, if there is nothing in it that somebody else may want.
func makePrivate(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != "lost+found" {
			return nil // Open says what is wrong, if anything is
		}
	}
	return os.Chmod(dir, dirMode)
}

// check looks for the marker again: a disk can go while its store is open.
func (d *Driver) check() error {
	if _, err := d.root.Lstat(marker); err != nil {
		return notThere(d.dir, err)
	}
	return nil
}

func notThere(dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("open store %s: %w", dir, classify(err))
	}
	// The cause is not wrapped: fs.ErrNotExist speaks of objects.
	return holdfast.WithHint(fmt.Errorf("open store %s: %w", dir, store.ErrNoStore),
		"mount the disk, or make a new store there with `holdfast backup --create-store`")
}

// missing tells a store that has gone from an object, or a directory of the store, that is not there.
func (d *Driver) missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		if gone := d.check(); gone != nil {
			return gone
		}
	}
	return err
}

// Close releases the directory. Readers that are still open stay usable.
func (d *Driver) Close() error { return d.root.Close() }

// Put stores what r has under name.
func (d *Driver) Put(ctx context.Context, name string, r io.Reader) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	err := d.missing(d.put(ctx, name, store.Obey(ctx, r)))
	if err != nil {
		d.removeEmpty(path.Dir(name)) // what was made for an object that did not come
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) {
		return fmt.Errorf("put %s: %w: part of the name is an object, or the name is part of others: %w", name, store.ErrExists, err)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", name, classify(err))
	}
	return nil
}

func (d *Driver) put(ctx context.Context, name string, r io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.check(); err != nil {
		return err
	}
	switch existing, err := d.root.Open(name); {
	case err == nil:
		defer existing.Close()
		return d.confirm(name, existing, r)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := d.create(name)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.ReadFrom(r); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		err := f.Commit()
		switch {
		case errors.Is(err, fs.ErrExist):
			existing, err := d.root.Open(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted in between: the name is free again
			}
			if err != nil {
				return err
			}
			defer existing.Close()
			return d.confirm(name, existing, io.NewSectionReader(f, 0, f.Size()))
		case errors.Is(err, fs.ErrNotExist):
			// Delete removes directories that became empty, this one included.
			if err := d.makeParents(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := d.check(); err != nil {
				return err
			}
		default:
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// create begins the file for name. Its directory is made first, and again when a Delete takes it away in between.
func (d *Driver) create(name string) (*durable.File, error) {
	for attempt := 0; ; attempt++ {
		var f *durable.File
		err := d.makeParents(name)
		if err == nil {
			f, err = durable.Create(d.root, name, fileMode)
		}
		if errors.Is(err, fs.ErrNotExist) && attempt < 100 {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := d.owner.give(f); err != nil {
			return nil, errors.Join(err, f.Abort())
		}
		return f, nil
	}
}

// confirm succeeds when r has the bytes of the stored file, and makes sure that they are durable: the run that wrote
// them may have been killed before it knew.
func (d *Driver) confirm(name string, existing *os.File, r io.Reader) error {
	same, err := store.Equal(existing, r)
	if err != nil {
		return err
	}
	if !same {
		return store.ErrExists
	}
	return errors.Join(existing.Sync(), durable.SyncDirIn(d.root, path.Dir(name)))
}

// makeParents makes the directories above name, each durable before anything is put into it.
func (d *Driver) makeParents(name string) error {
	d.dirs.Lock()
	defer d.dirs.Unlock()
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		switch err := d.owner.mkdir(d.root, name[:i]); {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return err
		}
		if err := durable.SyncDirIn(d.root, path.Dir(name[:i])); err != nil {
			return err
		}
	}
	return nil
}

// Open reads length bytes of name from offset; length -1 reads to the end.
func (d *Driver) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	r, err := d.open(ctx, name, offset, length)
	if err = d.missing(err); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, classify(err))
	}
	return r, nil
}

func (d *Driver) open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.CheckRange(offset, length); err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist // a directory is only the beginning of names
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return store.FileRange(ctx, f, offset, length)
}

// List yields every object whose name begins with prefix, ordered by name.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		err := d.check()
		if err == nil {
			err = d.walk(ctx, ".", prefix, yield)
		}
		if err == nil {
			err = d.check() // what seemed deleted may have been the disk going
		}
		if err = d.missing(err); err != nil && !errors.Is(err, errStopped) {
			yield(store.Object{}, fmt.Errorf("list %s: %w", d.dir, classify(err)))
		}
	}
}

var errStopped = errors.New("the caller stopped listing")

// walk lists the directory dir. Names are ordered as whole strings, where "a-b" comes before "a/b": a directory is
// therefore compared with its slash.
func (d *Driver) walk(ctx context.Context, dir, prefix string, yield func(store.Object, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := d.entries(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		return nil // deleted while listing
	}
	if err != nil {
		return err
	}
	type candidate struct {
		name  string
		entry fs.DirEntry
	}
	var found []candidate
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if store.CheckName(name) != nil {
			continue // the marker, temporary files, lost+found and the like are no objects
		}
		if entry.IsDir() {
			name += "/"
		}
		if strings.HasPrefix(name, prefix) || entry.IsDir() && strings.HasPrefix(prefix, name) {
			found = append(found, candidate{name, entry})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
	for _, c := range found {
		if c.entry.IsDir() {
			if err := d.walk(ctx, strings.TrimSuffix(c.name, "/"), prefix, yield); err != nil {
				return err
			}
			continue
		}
		info, err := d.root.Lstat(c.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted while listing
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if !yield(store.Object{Name: c.name, Size: info.Size(), Modified: info.ModTime()}, nil) {
			return errStopped
		}
	}
	return nil
}

func (d *Driver) entries(dir string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

// Delete removes name and the directories that it leaves empty.
func (d *Driver) Delete(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := d.missing(d.delete(ctx, name)); err != nil {
		return fmt.Errorf("delete %s: %w", name, classify(err))
	}
	return nil
}

func (d *Driver) delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.check(); err != nil {
		return err
	}
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := d.removeEmpty(path.Dir(name))
	// The parent may be going away under another Delete, whose own fsync then covers this one.
	if err := durable.SyncDirIn(d.root, parent); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeEmpty removes dir and those above it as long as they are empty, and returns the first that stays.
func (d *Driver) removeEmpty(dir string) string {
	d.dirs.Lock()
	defer d.dirs.Unlock()
	for dir != "." && d.removeDir(dir) == nil {
		dir = path.Dir(dir)
	}
	return dir
}

// removeDir removes an empty directory and nothing else: where a name was put below an object, dir is that object.
func (d *Driver) removeDir(dir string) error {
	parent, err := d.root.Open(path.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(unix.Unlinkat(int(parent.Fd()), path.Base(dir), unix.AT_REMOVEDIR), parent.Close())
}

// classify translates what the kernel says into the store's sentinels. fs.ErrNotExist and fs.ErrPermission need no
// translation.
func classify(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return holdfast.WithHint(fmt.Errorf("%w: %w", store.ErrFull, err),
			"make room in the store: a larger disk, or a shorter retention and `holdfast prune`")
	case errors.Is(err, unix.EROFS):
		return holdfast.WithHint(fmt.Errorf("%w: %w", store.ErrReadOnly, err),
			"mount the filesystem read-write; the kernel makes it read-only after a disk error, so look at dmesg first")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
