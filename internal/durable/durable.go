// Package durable makes a file exist whole or not at all, also after a crash.
//
// It hides temporary files, the order of fsync and link, and what particular filesystems cannot do. Its laws: a name
// appears only after the bytes behind it are on the disk; a function that returned nil left a name that survives a
// power cut; a function that failed left no temporary file, and no name unless it was the fsync of the directory that
// failed; after a failed fsync nothing is tried again on that file, because the kernel may have dropped the pages.
//
// It is not its job to create directories or to know what the bytes mean.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TempPrefix begins the names of temporary files on filesystems that cannot do without one. A kill can leave such a
// file behind; it is never a valid object.
const TempPrefix = ".tmp-holdfast-"

// WriteFile writes data to path with exactly the given mode, atomically replacing what was there.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	return write(path, data, mode, true)
}

// CreateFile writes data to path with exactly the given mode. It fails with fs.ErrExist, and changes nothing, when
// path exists.
func CreateFile(path string, data []byte, mode os.FileMode) error {
	return write(path, data, mode, false)
}

func write(path string, data []byte, mode os.FileMode, replace bool) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer root.Close()
	f, err := create(root, filepath.Base(path), mode, replace)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Commit(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// FreeName returns path, or path with the lowest of the endings _2, _3, … under which nothing stands, neither alone nor
// followed by one of the suffixes. What stands there later is for whoever takes the name not to replace.
func FreeName(path string, suffixes ...string) (string, error) {
	name := path
	for n := 2; ; n++ {
		taken := false
		for _, suffix := range append([]string{""}, suffixes...) {
			_, err := os.Lstat(name + suffix)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			taken = taken || err == nil
		}
		if !taken {
			return name, nil
		}
		name = fmt.Sprintf("%s_%d", path, n)
	}
}

// SyncDir makes the names in the directory at path survive a power cut.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncDir(dir)
}

// SyncDirIn is [SyncDir] for a directory inside root.
func SyncDirIn(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncDir(dir)
}

func syncDir(dir *os.File) error {
	err := dir.Sync()
	// Some network and FUSE filesystems have no fsync for directories; there, names are as durable as they get.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}
