package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/source"
)

// sidecars are the files that belong to a database. Beside another database they would destroy it, or be lost.
func sidecars() []string { return []string{"-wal", "-shm", "-journal"} }

// free reports whether the target may be taken.
func (t Target) free() error {
	if t.Overwrite {
		return nil
	}
	for _, suffix := range append([]string{""}, sidecars()...) {
		if exists(t.Path + suffix) {
			return holdfast.WithHint(
				&fs.PathError{Op: "restore", Path: t.Path + suffix, Err: fs.ErrExist},
				"restore to another path, or allow the overwrite: what is there is then moved aside")
		}
	}
	return nil
}

// Commit implements source.Place. An overwrite is refused while an application has the database open: it would go on
// writing to the file that was moved aside.
func (p *Place) Commit(ctx context.Context) (string, error) {
	if p.throwaway {
		return "", errors.New("a drill's throwaway has no final place")
	}
	if !p.created || p.committed {
		return "", errors.New("there is nothing to commit")
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := p.target.free(); err != nil {
		return "", err
	}
	remark, err := p.dress()
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", p.target.Path, err)
	}
	kept, err := p.swap()
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", p.target.Path, err)
	}
	p.committed, p.kept = true, kept
	if err := durable.SyncDir(filepath.Dir(p.target.Path)); err != nil {
		return "", fmt.Errorf("commit %s: %w", p.target.Path, err)
	}
	where := "the database is now at " + p.target.Path
	if kept != "" {
		where += ", the former one at " + kept
	}
	return where + remark, nil
}

// dress gives the staged file the owner and mode that were recorded, and makes all of it durable.
func (p *Place) dress() (remark string, err error) {
	file, err := os.OpenFile(p.staged, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if len(p.stored.Facts.Driver) > 0 {
		recorded, err := decodeOwner(p.stored.Facts.Driver)
		if err != nil {
			return "", err
		}
		uid, gid := recorded.here()
		if err := file.Chown(uid, gid); errors.Is(err, fs.ErrPermission) {
			remark = fmt.Sprintf(" (owned by the user who restored it, not by %d:%d)", uid, gid)
		} else if err != nil {
			return "", err
		}
		mode := recorded.Mode
		if p.stored.Secret {
			mode &= 0o700
		}
		if err := file.Chmod(mode); err != nil {
			return "", err
		}
	}
	return remark, file.Sync()
}

// swap lets the staged file take its name, and moves aside what had it.
func (p *Place) swap() (kept string, err error) {
	if !p.target.Overwrite {
		return "", rename(p.staged, p.target.Path)
	}
	kept = p.target.KeepAs
	if kept == "" {
		kept, err = durable.FreeName(p.target.Path+".before_"+time.Now().UTC().Format("20060102T150405Z"), sidecars()...)
		if err != nil {
			return "", err
		}
	}
	release, err := seize(p.target.Path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	// The database goes first: a crash in between then leaves no database, which nobody can overlook, instead of one
	// that has lost its log.
	var moved []string
	undo := func(cause error) error {
		failures := []error{cause}
		for _, suffix := range moved {
			failures = append(failures, rename(kept+suffix, p.target.Path+suffix))
		}
		return errors.Join(failures...)
	}
	for _, suffix := range append([]string{""}, sidecars()...) {
		err := rename(p.target.Path+suffix, kept+suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", undo(err)
		}
		moved = append(moved, suffix)
	}
	if err := rename(p.staged, p.target.Path); err != nil {
		return "", undo(err)
	}
	if len(moved) == 0 {
		return "", nil
	}
	return kept, nil
}

// Undo is the command that gives the database that was overwritten its place back, with what belongs to it.
func (p *Place) Undo() string {
	if p.kept == "" {
		return ""
	}
	path, kept := source.ShellWord(p.target.Path), source.ShellWord(p.kept)
	aside := source.ShellWord(strings.Replace(p.kept, ".before_", ".failed_", 1))
	return fmt.Sprintf(`for s in %s ""; do [ ! -e %s$s ] || mv -nT %s$s %s$s; [ ! -e %s$s ] || mv -nT %s$s %s$s; done`,
		strings.Join(sidecars(), " "), path, path, aside, kept, kept, path)
}

// seize takes SQLite's exclusive lock on the database at path, which fails while any connection has it open in WAL
// mode or is inside a transaction. A path where nothing is needs no lock.
func seize(path string) (release func() error, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path), file.Close())
	}
	// The pending, reserved and shared bytes of SQLite's file format.
	const lockStart, lockLength = 0x40000000, 512
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: lockStart, Len: lockLength}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = holdfast.WithHint(fmt.Errorf("%s is in use", path), "stop the application, then restore again")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}

// rename never replaces.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// NFS and some FUSE filesystems have links but no exclusive rename.
		if err = os.Link(from, to); err == nil {
			err = os.Remove(from)
		}
		return err
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
