package files

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// folder is an open directory that several entries share. The last one to let go closes it.
type folder struct {
	fd   int
	held atomic.Int32
}

func newFolder(fd int) *folder {
	f := &folder{fd: fd}
	f.held.Store(1)
	return f
}

func (f *folder) hold() *folder {
	f.held.Add(1)
	return f
}

func (f *folder) release() {
	if f.held.Add(-1) == 0 {
		unix.Close(f.fd)
	}
}

type inode struct{ device, number uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// entry is one member on its way from the walk through a loader to the stream. Until ready is closed it belongs to
// the loader, then to the stream.
type entry struct {
	rec      record
	id       inode
	at       *folder // where base lies; released by the stream
	base     string
	several  bool // the file has more than one name
	shared   bool // another of them was met before
	xattrs   []xattr
	body     []byte    // content of a small file, of a sparse one its data
	segments []segment // not nil: sparse
	large    *large    // content of a file that does not fit in memory
	reserved int64     // of the budget
	ready    chan struct{}
	err      error  // why there is nothing to store
	gone     bool   // err is that it vanished or became something else
	note     string // said instead of storing anything
}

// budget bounds the bytes of file content in memory. It is taken in the order of the stream and by one goroutine, so
// that the entry the stream waits for never waits itself.
type budget struct {
	mu     sync.Mutex // guards what follows
	change *sync.Cond
	free   int64
	closed bool
}

func newBudget(size int64) *budget {
	b := &budget{free: size}
	b.change = sync.NewCond(&b.mu)
	return b
}

// take waits for n bytes; false means that the budget was closed.
func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.free < n && !b.closed {
		b.change.Wait()
	}
	b.free -= n
	return !b.closed
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.change.Signal()
}

func (b *budget) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.change.Signal()
}

// walker lists trees in order. It is one goroutine.
type walker struct {
	*pass
	ctx    context.Context // of the pass; a walker does not outlive it
	seen   map[inode]bool  // files with several names
	buffer []byte          // for directory entries
}

// walk visits all trees.
func (w *walker) walk() {
	for _, t := range w.trees {
		parent, err := quiet(func() (int, error) {
			return unix.Open(filepath.Dir(t.path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			w.send(&entry{err: fmt.Errorf("open folder of root %s: %w", t.path, err)})
			return
		}
		base := filepath.Base(t.path)
		if t.path == "/" {
			base = "."
		}
		at := newFolder(parent)
		more := w.visit(at, base, t.member, "", 0)
		at.release()
		if !more {
			return
		}
	}
}

// send hands an entry to the stream, and to the loaders if there is anything to load. False means stop.
func (w *walker) send(e *entry) bool {
	loaded := e.ready != nil
	if !loaded {
		e.ready = make(chan struct{})
		close(e.ready)
	}
	select {
	case w.queue <- e:
	case <-w.ctx.Done():
		w.drop(e)
		return false
	}
	if loaded {
		// Loaders never wait for anything but a file, and take what is sent until the walk is over.
		w.jobs <- e
	}
	return true
}

// visit stores what base is. rel is its path from the root of the tree on, "" for the root itself; device is the
// root's.
func (w *walker) visit(at *folder, base, member, rel string, device uint64) bool {
	var st unix.Stat_t
	_, err := quiet(func() (struct{}, error) {
		return struct{}{}, unix.Fstatat(at.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	})
	if err != nil {
		return w.refuse(member, rel, err)
	}
	isFolder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if rel == "" {
		device = st.Dev
	} else {
		if w.excludes.match(rel, isFolder) != "" {
			return true
		}
		if w.isRoot(member) { // a root within a root is walked once, by its own rules
			return true
		}
	}
	e := &entry{id: inodeOf(&st), base: base}
	w.describe(&e.rec, member, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.folder(at, e, rel, device)
	case unix.S_IFREG:
		e.reserved = min(st.Size, smallFile)
	case unix.S_IFLNK, unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK:
	case unix.S_IFSOCK:
		return w.send(&entry{note: fmt.Sprintf("socket %s is not stored", factName(member))})
	default:
		return w.send(&entry{note: fmt.Sprintf("%s is of an unknown type and not stored", factName(member))})
	}
	if st.Nlink > 1 {
		e.several = true
		e.shared = w.seen[e.id]
		w.seen[e.id] = true
	}
	if e.shared {
		e.reserved = 0
	} else {
		e.ready = make(chan struct{})
	}
	if !w.budget.take(e.reserved) {
		return false
	}
	e.at = at.hold()
	return w.send(e)
}

// refuse reports what cannot be looked at. A root that is missing is an error whoever tolerates what.
func (w *walker) refuse(member, rel string, err error) bool {
	e := &entry{err: err, gone: errors.Is(err, unix.ENOENT) && rel != ""}
	e.rec.name = member
	return w.send(e)
}

// folder stores a directory and what lies in it.
func (w *walker) folder(at *folder, e *entry, rel string, device uint64) bool {
	member := e.rec.name
	if w.oneFilesystem && e.id.device != device {
		e.note = fmt.Sprintf("%s is the mount point of another file system: what lies in it is not stored", factName(member))
		return w.send(e)
	}
	fd, err := w.openat(at.fd, e.base, unix.O_DIRECTORY)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			err = unix.ENOENT
		}
		return w.refuse(member, rel, err)
	}
	here := newFolder(fd)
	defer here.release()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.refuse(member, rel, err)
	}
	names, err := w.list(fd)
	if err != nil {
		return w.refuse(member, rel, err)
	}
	if e.xattrs, err = descriptorXattrs(fd); err != nil {
		return w.refuse(member, rel, err)
	}
	if w.excludes.tagged && isCache(fd, names) {
		names = []string{cacheTag}
	}
	w.describe(&e.rec, member, &st)
	if !w.send(e) {
		return false
	}
	for _, name := range names {
		inner := name
		if member != "." {
			inner = member + "/" + name
		}
		path := name
		if rel != "" {
			path = rel + "/" + name
		}
		if !w.visit(here, name, inner, path, device) {
			return false
		}
	}
	return true
}

// list returns the sorted names in a directory.
func (w *walker) list(fd int) ([]string, error) {
	var names []string
	for {
		n, err := quiet(func() (int, error) { return unix.ReadDirent(fd, w.buffer) })
		if err != nil {
			return nil, fmt.Errorf("list folder: %w", err)
		}
		if n <= 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(w.buffer[:n], -1, names)
	}
}

const (
	cacheTag       = "CACHEDIR.TAG"
	cacheSignature = "Signature: 8a477f597d28d172789f06886806bc55"
)

func isCache(fd int, names []string) bool {
	if _, found := slices.BinarySearch(names, cacheTag); !found {
		return false
	}
	tag, err := quiet(func() (int, error) {
		return unix.Openat(fd, cacheTag, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return false
	}
	defer unix.Close(tag)
	content := make([]byte, len(cacheSignature))
	n, err := quiet(func() (int, error) { return unix.Read(tag, content) })
	return err == nil && bytes.Equal(content[:n], []byte(cacheSignature))
}

// describe fills r with what st tells.
func (p *pass) describe(r *record, member string, st *unix.Stat_t) {
	r.name = member
	r.mode = st.Mode & 0o7777
	r.uid, r.gid = st.Uid, st.Gid
	r.user, r.group = p.owners.names(st.Uid, st.Gid)
	r.mtime = st.Mtim
	r.size = 0
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		r.kind = tar.TypeDir
	case unix.S_IFLNK:
		r.kind = tar.TypeSymlink
	case unix.S_IFIFO:
		r.kind = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		r.kind = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			r.kind = tar.TypeBlock
		}
		r.major, r.minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	default:
		r.kind = tar.TypeReg
		r.size = st.Size
	}
}

// openat opens a name for reading without following it, without waiting for a FIFO's writer, and if allowed without a
// trace in its access time.
func (p *pass) openat(at int, base string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	if !p.traced.Load() {
		fd, err := quiet(func() (int, error) { return unix.Openat(at, base, flags|unix.O_NOATIME, 0) })
		if !errors.Is(err, unix.EPERM) { // another owner's file
			return fd, err
		}
	}
	fd, err := quiet(func() (int, error) { return unix.Openat(at, base, flags, 0) })
	if err == nil {
		p.traced.Store(true)
	}
	return fd, err
}
