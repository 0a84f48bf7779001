package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
)

// tree is a root that is never left.
type tree struct {
	path string
	fd   int
	root entry
}

func openTree(name string) (*tree, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(abs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: abs, Err: err}
	}
	t := &tree{path: abs, fd: fd}
	if t.root, err = look(fd, "", "."); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *tree) close() error { return unix.Close(t.fd) }

// name is a path for people.
func (t *tree) name(rel string) string { return filepath.Join(t.path, rel) }

// wrap says where an error happened, and what to do about the ones that have an answer.
func (t *tree) wrap(verb, rel string, err error) error {
	if cause := (*os.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	err = fmt.Errorf("%s %s: %w", verb, t.name(rel), err)
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return holdfast.WithHint(err, "make room there, or take a larger volume, and start again: what was copied is kept")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return holdfast.WithHint(err, "run holdfast as root; a file that is immutable (lsattr) cannot be removed by anybody")
	case errors.Is(err, unix.EOPNOTSUPP):
		return holdfast.WithHint(err, "the file system there cannot keep this: take ext4 or xfs")
	}
	return err
}

// holds reports whether one tree is in the other, or is the other.
func (t *tree) holds(other *tree) (bool, error) {
	fd, err := unix.Openat(other.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	at := other.root
	for err == nil {
		if at.Inode == t.root.Inode && at.device == t.root.device {
			return true, unix.Close(fd)
		}
		up, openErr := unix.Openat(fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err = errors.Join(openErr, unix.Close(fd)); err != nil {
			break
		}
		fd = up
		var above entry
		if above, err = look(fd, "", "."); err != nil {
			break
		}
		if above.Inode == at.Inode && above.device == at.device {
			return false, unix.Close(fd)
		}
		at = above
	}
	return false, t.wrap("look above", ".", err)
}

// dir opens a folder below the root, for the caller to close.
func (t *tree) dir(rel string) (int, error) {
	fd, err := openIn(t.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil || rel == "." {
		return fd, err
	}
	for part := range strings.SplitSeq(rel, "/") {
		next, err := openIn(fd, part, unix.O_RDONLY|unix.O_DIRECTORY)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// in calls do with the folder that holds rel, and the name there.
func (t *tree) in(rel string, do func(dir int, name string) error) error {
	dir, err := t.dir(path.Dir(rel))
	if err != nil {
		return err
	}
	return errors.Join(do(dir, path.Base(rel)), unix.Close(dir))
}

// openIn opens one name in a folder, and no link.
func openIn(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil || !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// openFile opens a regular file for reading, without a trace in its time of access where that is allowed. What has become a FIFO does not hold it up.
func openFile(dir int, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK
	fd, err := openIn(dir, name, flags|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		fd, err = openIn(dir, name, flags)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// walk lists a tree, folders before what is in them, names in order. skip leaves something out with all below it; vanished hears of what went away
// under the walk. What has a mount of its own is an error: it would be left with the next step.
func (t *tree) walk(ctx context.Context, skip func(rel string) bool, vanished func(rel string) error) ([]entry, error) {
	root, err := look(t.fd, "", ".")
	if err != nil {
		return nil, t.wrap("look at", ".", err)
	}
	found := []entry{root}
	var visit func(dir int, folder string) error
	visit = func(dir int, folder string) error {
		names, err := children(dir)
		if gone(err) {
			return vanished(folder)
		} else if err != nil {
			return t.wrap("list", folder, err)
		}
		for _, name := range names {
			rel := path.Join(folder, name)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if skip(rel) {
				continue
			}
			e, err := look(dir, name, rel)
			if err == nil && e.crosses(root) {
				return holdfast.WithHint(fmt.Errorf("%s is a mount of its own", t.name(rel)), "unmount it, or move what is there into the folder first: only one file system is copied")
			}
			child := -1
			if err == nil {
				found = append(found, e)
				if !e.isDir() {
					continue
				}
				child, err = openIn(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
			}
			switch {
			case gone(err):
				err = vanished(rel)
			case err != nil:
				err = t.wrap("look at", rel, err)
			default:
				err = errors.Join(visit(child, rel), unix.Close(child))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err = visit(t.fd, ".")
	return found, err
}

// gone reports whether an error says that something is not there, or is something else, by now.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// children are the names in a folder, sorted.
func children(fd int) ([]string, error) {
	again, err := openIn(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(again), ".")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// remove takes a name away, if it is there.
func remove(dir int, name string, folder bool) error {
	flags := 0
	if folder {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(dir, name, flags); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
