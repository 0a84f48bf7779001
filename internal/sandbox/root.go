package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// host is where the host's root stands while the new one is built.
const host = "/.host"

// bind is one path of the host that is to be seen inside at its own, resolved path.
type bind struct {
	path string // as it was asked for
	real string // without symbolic links
}

// buildRoot makes a new root file system the only one: a tmpfs, made read-only in the end, with binds and small files.
func buildRoot(s spec) error {
	// Links are resolved while "/" is still the host's, so that no link can lead a bind elsewhere later.
	system, err := systemBinds()
	if err != nil {
		return err
	}
	extra, err := resolve(s.ReadOnly)
	if err != nil {
		return err
	}
	etc, err := readEtc()
	if err != nil {
		return err
	}
	var scratch []bind
	if s.Scratch != "" {
		if scratch, err = resolve([]string{s.Scratch}); err != nil {
			return err
		}
	}
	if err := enterTmpfs(); err != nil {
		return err
	}
	if err := mountPlain(); err != nil {
		return err
	}
	for _, b := range slices.Concat(system, extra) {
		if err := b.mount(unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV); err != nil {
			return err
		}
	}
	if err := writeEtc(etc, s.UID, s.GID); err != nil {
		return err
	}
	// Last: its content belongs to the unprivileged user, so no later mount may pass through it.
	for _, b := range scratch {
		if err := b.mount(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV); err != nil {
			return err
		}
	}
	return leaveHost()
}

// enterTmpfs makes an empty tmpfs the root, with the host's root below [host].
func enterTmpfs() error {
	// Private: nothing mounted here shows on the host.
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Any folder would do; what it holds on the host is seen again once the tmpfs is the root.
	const base = "/tmp"
	if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	if err := os.Mkdir(base+host, 0o700); err != nil {
		return fmt.Errorf("prepare root: %w", err)
	}
	if err := unix.PivotRoot(base, base+host); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}

func leaveHost() error {
	if err := unix.Unmount(host, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	if err := os.Remove(host); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	const flags = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("", "/", "", flags, ""); err != nil {
		return fmt.Errorf("make root read-only: %w", err)
	}
	return nil
}

// mountPlain mounts what needs nothing of the host but its device nodes.
func mountPlain() error {
	for _, m := range []struct {
		path, kind, data string
		flags            uintptr
	}{
		{"/proc", "proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/tmp", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"/dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return fmt.Errorf("prepare %s: %w", m.path, err)
		}
		if err := unix.Mount(m.kind, m.path, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		// Bound rather than made: mknod is refused in many containers.
		path := filepath.Join("/dev", name)
		if err := (bind{path, path}).mount(unix.MOUNT_ATTR_NOSUID); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+target, filepath.Join("/dev", name)); err != nil {
			return fmt.Errorf("prepare /dev: %w", err)
		}
	}
	return nil
}

// systemBinds returns the system's programs and libraries, as far as this host has them.
func systemBinds() ([]bind, error) {
	var present []string
	for _, path := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
		"/etc/ld.so.conf.d", "/etc/alternatives", "/etc/crypto-policies"} {
		_, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at the system: %w", err)
		}
		present = append(present, path)
	}
	return resolve(present)
}

// resolve orders paths so that no bind hides an earlier one.
func resolve(paths []string) ([]bind, error) {
	var binds []bind
	for _, path := range paths {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, fmt.Errorf("bind: %w", err)
		}
		if real == "/" {
			return nil, fmt.Errorf("bind %s: the host's root must not be visible", path)
		}
		binds = append(binds, bind{filepath.Clean(path), real})
	}
	slices.SortStableFunc(binds, func(a, b bind) int { return strings.Compare(a.real, b.real) })
	return binds, nil
}

// mount makes the bind with the attributes on it and on every mount below.
func (b bind) mount(attributes uint64) error {
	source := host + b.real
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("bind %s: %w", b.path, err)
	}
	if err := prepareTarget(b.real, info.IsDir()); err != nil {
		return fmt.Errorf("bind %s: %w", b.path, err)
	}
	if err := unix.Mount(source, b.real, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", b.path, err)
	}
	attr := unix.MountAttr{Attr_set: attributes}
	if err := unix.MountSetattr(unix.AT_FDCWD, b.real, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("restrict %s: %w", b.path, err)
	}
	if b.path == b.real {
		return nil
	}
	// The name that was asked for leads there too, unless a bound folder already holds it.
	if _, err := os.Lstat(b.path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.path), 0o755); err != nil {
		return fmt.Errorf("link %s: %w", b.path, err)
	}
	if err := os.Symlink(b.real, b.path); err != nil {
		return fmt.Errorf("link %s: %w", b.path, err)
	}
	return nil
}

func prepareTarget(path string, dir bool) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}
