package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast"
)

// Guard makes the bare mount point root's, without any permission, and immutable: while the volume is locked nobody can write there, not
// even root, so that a server which starts too early fails instead of making an empty database on the plain disk. It makes a missing
// mount point, works below a mounted volume too, and may be repeated. A mount point that holds files is refused.
func (h Host) Guard(v Volume) error {
	point := realPath(v.Mount)
	if err := makeFolder(point, 0o700); err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	return h.atBare(point, func(dir *os.File) error {
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return fmt.Errorf("look into the mount point: %w", err)
		}
		if len(names) > 0 {
			return covered(v, names)
		}
		state, err := guardState(int(dir.Fd()), "")
		if err != nil || state.guarded() {
			return err
		}
		if !state.able {
			return unguardable(point, unix.EOPNOTSUPP)
		}
		if state.immutable {
			if err := setImmutable(dir, point, false); err != nil {
				return err
			}
		}
		if err := errors.Join(dir.Chown(0, 0), dir.Chmod(0)); err != nil {
			return fmt.Errorf("guard %s: %w", point, err)
		}
		return setImmutable(dir, point, true)
	})
}

// Unguard makes the bare mount point an ordinary folder of root's again. A missing one is none's concern.
func (h Host) Unguard(v Volume) error {
	point := realPath(v.Mount)
	err := h.atBare(point, func(dir *os.File) error {
		state, err := guardState(int(dir.Fd()), "")
		if err == nil && state.immutable {
			err = setImmutable(dir, point, false)
		}
		if err != nil {
			return err
		}
		return dir.Chmod(0o755)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Guarded reports whether the bare mount point is as [Host.Guard] makes it. A missing one is not guarded. While the volume is mounted
// that takes root.
func (h Host) Guarded(v Volume) (bool, error) {
	point := realPath(v.Mount)
	mounts, err := h.mounts()
	if err != nil {
		return false, err
	}
	at, name := unix.AT_FDCWD, point
	if _, mounted := mountOn(mounts, point); mounted {
		parent, err := bareParent(point)
		if err != nil {
			return false, err
		}
		defer func() { _ = unix.Close(parent) }() // nothing was written
		at, name = parent, filepath.Base(point)
	}
	state, err := guardState(at, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return state.guarded(), err
}

// guarding is what a folder has of a guard.
type guarding struct {
	closed    bool // root's, and no permission for anybody
	immutable bool
	able      bool // the file system has immutable folders
}

func (g guarding) guarded() bool { return g.closed && g.immutable }

// guardState looks without opening: that takes no right but to the folders above. name "": at itself.
func guardState(at int, name string) (guarding, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var stat unix.Statx_t
	if err := unix.Statx(at, name, flags, unix.STATX_BASIC_STATS, &stat); err != nil {
		return guarding{}, fmt.Errorf("look at the mount point: %w", err)
	}
	return guarding{
		closed:    stat.Uid == 0 && stat.Gid == 0 && stat.Mode&0o7777 == 0 && stat.Mode&unix.S_IFMT == unix.S_IFDIR,
		immutable: stat.Attributes&unix.STATX_ATTR_IMMUTABLE != 0,
		able:      stat.Attributes_mask&unix.STATX_ATTR_IMMUTABLE != 0,
	}, nil
}

// atBare opens the folder of a mount point, below whatever is mounted on it.
func (h Host) atBare(point string, do func(dir *os.File) error) (err error) {
	mounts, err := h.mounts()
	if err != nil {
		return err
	}
	at, name := unix.AT_FDCWD, point
	if _, mounted := mountOn(mounts, point); mounted {
		if at, err = bareParent(point); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unix.Close(at)) }()
		name = filepath.Base(point)
	}
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the mount point: %w", &fs.PathError{Op: "open", Path: point, Err: err})
	}
	dir := os.NewFile(uintptr(fd), point)
	defer func() { err = errors.Join(err, dir.Close()) }()
	return do(dir)
}

// bareParent is the folder above a mount point in a copy of its mount that has nothing mounted on it (open_tree(2)).
func bareParent(point string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, filepath.Dir(point), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return 0, holdfast.WithHint(fmt.Errorf("look below the volume at %s: %w", point, err), "it takes root and Linux 5.2; or lock the volume first")
	}
	return fd, nil
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

// setImmutable sets or clears the flag that chattr +i sets (ioctl_iflags(2)).
func setImmutable(dir *os.File, point string, on bool) error {
	err := control(dir, func(fd int) error {
		flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		flags &^= immutableFlag
		if on {
			flags |= immutableFlag
		}
		return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags))
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return holdfast.WithHint(fmt.Errorf("guard %s: %w", point, err), "it takes root with the capability to make files immutable (CAP_LINUX_IMMUTABLE), which containers do not have")
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return unguardable(point, err)
	}
	return fmt.Errorf("guard %s: %w", point, err)
}

func unguardable(point string, err error) error {
	return holdfast.WithHint(fmt.Errorf("guard %s: its file system has no immutable folders: %w", point, err), "choose a mount point on ext4, xfs or btrfs: without the guard a server that starts too early makes an empty database on the plain disk")
}

// control runs fn on a descriptor while the file cannot be closed under it.
func control(file *os.File, fn func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	return errors.Join(conn.Control(func(fd uintptr) { result = fn(int(fd)) }), result)
}

// covered is the refusal to mount over files.
func covered(v Volume, names []string) error {
	return holdfast.WithHint(fmt.Errorf("mount point %s holds files (%s, %d in all): the volume would hide them", v.Mount, names[0], len(names)),
		"look at them: a server may have written there while the volume was locked; move them away")
}
