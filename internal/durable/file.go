package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// writeback is how many bytes gather before the kernel is asked to start writing them: enough for long sequential
// writes, little enough that the final fsync finds nearly everything on the disk.
const writeback = 8 << 20

// copyBuffer is the size of one write when data comes from a reader.
const copyBuffer = 512 << 10

// File is a file being written that has no name yet. Commit gives it the name; Abort drops it, and is harmless after
// Commit. A File is not safe for concurrent use. The first error of writing sticks.
type File struct {
	root    *os.Root
	name    string
	temp    string // name of the temporary file in root; "" when the file has no name at all
	file    *os.File
	replace bool
	done    bool
	err     error

	size  int64 // bytes written
	begun int64 // bytes whose writeback was asked for
}

var (
	_ io.Writer     = (*File)(nil)
	_ io.ReaderFrom = (*File)(nil)
	_ io.ReaderAt   = (*File)(nil)
)

// Create begins a file that will be called name inside root, with exactly the given mode. The directory must exist
// at Create and at Commit. The caller keeps root open until Commit or Abort.
func Create(root *os.Root, name string, mode os.FileMode) (*File, error) {
	return create(root, name, mode, false)
}

func create(root *os.Root, name string, mode os.FileMode, replace bool) (*File, error) {
	// linkat cannot replace, so a replacing file begins with a name that it can be renamed from.
	if !replace {
		f, err := createUnnamed(root, name, mode)
		if !errors.Is(err, errors.ErrUnsupported) {
			return f, err
		}
	}
	return createNamed(root, name, mode, replace)
}

// createUnnamed uses O_TMPFILE: a kill at any moment leaves nothing. It fails with errors.ErrUnsupported where the
// filesystem cannot.
func createUnnamed(root *os.Root, name string, mode os.FileMode) (*File, error) {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var fd int
	err = control(dir, func(dirfd int) error {
		var err error
		fd, err = unix.Openat(dirfd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode.Perm()))
		return err
	})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		return nil, errors.ErrUnsupported
	case err != nil:
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return begin(&File{root: root, name: name, file: os.NewFile(uintptr(fd), name)}, mode)
}

func createNamed(root *os.Root, name string, mode os.FileMode, replace bool) (*File, error) {
	temp := path.Join(path.Dir(name), TempPrefix+rand.Text())
	file, err := root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode.Perm())
	if err != nil {
		return nil, err
	}
	return begin(&File{root: root, name: name, temp: temp, file: file, replace: replace}, mode)
}

// begin makes the mode exact, because the umask has had its say.
func begin(f *File, mode os.FileMode) (*File, error) {
	if err := f.file.Chmod(mode); err != nil {
		return nil, errors.Join(err, f.Abort())
	}
	return f, nil
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	if err != nil {
		f.err = err
		return n, err
	}
	f.startWriteback()
	return n, nil
}

// Chown gives the file to another user and group, before it has its name. It takes root.
func (f *File) Chown(uid, gid int) error { return f.file.Chown(uid, gid) }

// ReadFrom appends everything r has.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, copyBuffer)
	return io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, buf)
}

// ReadAt reads back what was written. It works until Abort, so that a Commit that found the name taken can be
// followed by a comparison.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.file.ReadAt(p, off) }

// Size returns the number of bytes written.
func (f *File) Size() int64 { return f.size }

// startWriteback asks the kernel to begin writing whole spans. It is advice: a filesystem without it only makes
// Commit slower.
func (f *File) startWriteback() {
	span := (f.size - f.begun) / writeback * writeback
	if span == 0 {
		return
	}
	_ = control(f.file, func(fd int) error {
		return unix.SyncFileRange(fd, f.begun, span, unix.SYNC_FILE_RANGE_WRITE)
	})
	f.begun += span
}

// Commit makes the bytes durable, gives them the name and makes the name durable. It fails with fs.ErrExist when the
// name is taken, and with fs.ErrNotExist when the directory has gone; the file is then still readable, and Commit
// may be called again. After any other error only Abort is left.
func (f *File) Commit() error {
	if f.done {
		panic("durable: Commit after Commit or Abort")
	}
	if f.err != nil {
		return f.err
	}
	if err := f.file.Sync(); err != nil {
		f.err = err
		return err
	}
	dir, err := f.root.Open(path.Dir(f.name))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := f.link(dir); err != nil {
		return &fs.PathError{Op: "commit", Path: f.name, Err: err}
	}
	f.done = true
	if err := errors.Join(f.file.Close(), syncDir(dir)); err != nil {
		return fmt.Errorf("make %s durable: %w", f.name, err)
	}
	return nil
}

func (f *File) link(dir *os.File) error {
	base := path.Base(f.name)
	if f.temp != "" {
		return f.rename(dir, path.Base(f.temp), base)
	}
	return control(f.file, func(fd int) error {
		return control(dir, func(dirfd int) error {
			// Linking by descriptor alone (AT_EMPTY_PATH) needs a capability; by /proc it does not, but /proc may be
			// missing in a container.
			err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dirfd, base, unix.AT_SYMLINK_FOLLOW)
			if errors.Is(err, unix.ENOENT) {
				err = unix.Linkat(fd, "", dirfd, base, unix.AT_EMPTY_PATH)
			}
			return err
		})
	})
}

func (f *File) rename(dir *os.File, temp, base string) error {
	if f.replace {
		return f.root.Rename(f.temp, f.name)
	}
	return control(dir, func(dirfd int) error {
		err := unix.Renameat2(dirfd, temp, dirfd, base, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
		// NFS and some FUSE filesystems have links but no exclusive rename.
		if err := unix.Linkat(dirfd, temp, dirfd, base, 0); err != nil {
			return err
		}
		return unix.Unlinkat(dirfd, temp, 0)
	})
}

// Abort drops the file unless it was committed.
func (f *File) Abort() error {
	if f.done {
		return nil
	}
	f.done = true
	err := f.file.Close()
	if f.temp != "" {
		err = errors.Join(err, f.root.Remove(f.temp))
	}
	return err
}

// control runs fn on the file's descriptor while the file cannot be closed under it.
func control(file *os.File, fn func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := conn.Control(func(fd uintptr) { result = fn(int(fd)) }); err != nil {
		return err
	}
	return result
}
