package clone

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes are what a thing has besides its contents.
type attributes struct {
	entry
	extended map[string]string
}

// pinned is a thing that was opened for nothing but its attributes: it can be a link, and is not followed.
type pinned int

func pin(dir int, name string) (pinned, error) {
	fd, err := openIn(dir, name, unix.O_PATH)
	return pinned(fd), err
}

func (p pinned) close() error { return unix.Close(int(p)) }

// path leads to the very thing, also when that is a link: the kernel jumps there, and does not read the name.
func (p pinned) path() string { return fmt.Sprintf("/proc/self/fd/%d", int(p)) }

// attributesOf reads them as they are now.
func attributesOf(dir int, name, rel string) (attributes, error) {
	p, err := pin(dir, name)
	if err != nil {
		return attributes{}, err
	}
	defer p.close()
	e, err := look(int(p), "", rel)
	if err != nil {
		return attributes{}, err
	}
	extended, err := p.extended()
	return attributes{e, extended}, err
}

// ownedByKernel are of one inode, and mean nothing on another.
func ownedByKernel(name string) bool { return name == "security.evm" || name == "security.ima" }

// extended are the extended attributes, ACLs and capabilities among them.
func (p pinned) extended() (map[string]string, error) {
	list, err := grow(func(buf []byte) (int, error) { return unix.Listxattr(p.path(), buf) })
	if errors.Is(err, unix.EOPNOTSUPP) || len(list) == 0 && err == nil {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if ownedByKernel(name) {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return unix.Getxattr(p.path(), name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // it went away, which changes ctime
		} else if err != nil {
			return nil, err
		}
		all[name] = string(value)
	}
	return all, nil
}

// grow calls get with more room until it is enough.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := get(buf)
		if err == nil {
			return buf[:n], nil
		}
		// The most that there can be is 64 KiB.
		if !errors.Is(err, unix.ERANGE) || size > 64<<10 {
			return nil, err
		}
	}
}

// dress gives a thing the attributes that it is to have, and leaves alone what it has already.
func dress(dir int, name string, want attributes) error {
	p, err := pin(dir, name)
	if err != nil {
		return err
	}
	defer p.close()
	have, err := look(int(p), "", name)
	if err != nil {
		return err
	}
	if have.uid != want.uid || have.gid != want.gid {
		if err := unix.Fchownat(int(p), "", int(want.uid), int(want.gid), unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("change owner: %w", err)
		}
	}
	if err := p.setExtended(want); err != nil {
		return err
	}
	if have, err = look(int(p), "", name); err != nil {
		return err
	}
	if have.Mtime == want.Mtime {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: want.Mtime.Sec, Nsec: int64(want.Mtime.Nsec)}}
	if err := unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("change time: %w", err)
	}
	return nil
}

// setExtended sets the mode too, for the two depend on each other: an ACL that goes leaves its mask as the group's mode, one that comes sets it.
func (p pinned) setExtended(want attributes) error {
	have, err := p.extended()
	if err != nil {
		return err
	}
	for name := range have {
		// A label of SELinux is not taken away but replaced.
		if _, wanted := want.extended[name]; wanted || name == "security.selinux" {
			continue
		}
		if err := unix.Removexattr(p.path(), name); err != nil {
			return fmt.Errorf("remove attribute %s: %w", name, err)
		}
	}
	now, err := look(int(p), "", "")
	if err != nil {
		return err
	}
	if now.perm() != want.perm() && want.kind() != unix.S_IFLNK {
		if err := unix.Chmod(p.path(), want.perm()); err != nil {
			return fmt.Errorf("change mode: %w", err)
		}
		// The ACL has the new mode in it by now.
		if have, err = p.extended(); err != nil {
			return err
		}
	}
	for name, value := range want.extended {
		if was, set := have[name]; set && was == value {
			continue
		}
		if err := unix.Setxattr(p.path(), name, []byte(value), 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}
