package files

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// xattr is one extended attribute. Access control lists are attributes like any other.
type xattr struct{ name, value string }

// kept reports whether an attribute belongs to the file. What a kernel derives, or a policy assigns, is left to the
// kernel and policy of the machine where the file is restored.
func kept(name string) bool {
	switch {
	case name == aclAccess, name == aclDefault:
		return true
	case strings.HasPrefix(name, "system."), strings.HasPrefix(name, "trusted.overlay."):
		return false
	}
	return name != "security.selinux" && name != "security.ima" && name != "security.evm"
}

// descriptorXattrs reads the attributes of an open file.
func descriptorXattrs(fd int) ([]xattr, error) {
	return readXattrs(
		func(dest []byte) (int, error) { return unix.Flistxattr(fd, dest) },
		func(name string, dest []byte) (int, error) { return unix.Fgetxattr(fd, name, dest) })
}

// leafXattrs reads the attributes of base in a folder without opening or following it. There is no call that takes a
// folder's descriptor and a name before Linux 6.13, so that the way leads through /proc.
func leafXattrs(fd int, base string) ([]xattr, error) {
	path := leafPath(fd, base)
	return readXattrs(
		func(dest []byte) (int, error) { return unix.Llistxattr(path, dest) },
		func(name string, dest []byte) (int, error) { return unix.Lgetxattr(path, name, dest) })
}

func leafPath(fd int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + base
}

func readXattrs(list func([]byte) (int, error), value func(string, []byte) (int, error)) ([]xattr, error) {
	var small [256]byte
	names, err := grow(small[:], list)
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var all []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !kept(name) {
			continue
		}
		var room [1024]byte
		data, err := grow(room[:], func(dest []byte) (int, error) { return value(name, dest) })
		if errors.Is(err, unix.ENODATA) { // removed since it was listed
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", factName(name), err)
		}
		all = append(all, xattr{name, string(data)})
	}
	slices.SortFunc(all, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// grow calls fill with room that is doubled until it suffices.
func grow(room []byte, fill func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := quiet(func() (int, error) { return fill(room) })
		if errors.Is(err, unix.ERANGE) && len(room) < 1<<20 {
			room = make([]byte, 4*len(room))
			continue
		}
		return room[:max(n, 0)], err
	}
}

// xattrDigest is "" for no attributes.
func xattrDigest(all []xattr) string {
	if len(all) == 0 {
		return ""
	}
	h := sha256.New()
	var length [8]byte
	for _, x := range all {
		for _, text := range []string{x.name, x.value} {
			binary.BigEndian.PutUint64(length[:], uint64(len(text)))
			h.Write(length[:])
			h.Write([]byte(text))
		}
	}
	return hexDigest(h.Sum(nil))
}
