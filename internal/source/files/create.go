package files

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
)

// Parents are opened through os.Root and are known to be folders of our own making; what is done in them takes one
// name and never follows it.

// vacant refuses a second member of one name. A folder that had to be made for its content may be told of later.
func (x *extraction) vacant(r *record) error {
	l := x.landed[r.name]
	if l == nil || l.implicit && r.kind == tar.TypeDir {
		return nil
	}
	return bad("%s: it is in the archive twice", factName(r.name))
}

// enter returns the open folder called name, and makes it where the archive does not tell of it.
func (x *extraction) enter(name string) (*os.File, error) {
	if x.folder != nil && x.folderName == name {
		return x.folder, nil
	}
	if err := x.require(name); err != nil {
		return nil, err
	}
	f, err := x.open(name)
	if err != nil {
		return nil, err
	}
	x.leave()
	x.folder, x.folderName = f, name
	return f, nil
}

func (x *extraction) open(name string) (*os.File, error) {
	f, err := x.Place.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open restored folder %s: %w", factName(name), err)
	}
	return f, nil
}

func (x *extraction) leave() {
	if x.folder != nil {
		x.folder.Close()
		x.folder = nil
	}
}

// require makes sure that name and all that it lies in are folders.
func (x *extraction) require(name string) error {
	if name == "." {
		return nil
	}
	if l := x.landed[name]; l != nil {
		if l.recorded.kind != tar.TypeDir {
			return bad("%s: the archive has it both as a folder and as something else", factName(name))
		}
		return nil
	}
	if err := x.require(path.Dir(name)); err != nil {
		return err
	}
	if err := x.Place.root.Mkdir(name, 0o700); err != nil {
		return x.fault(name, err)
	}
	if !x.secret {
		if err := x.Place.root.Chmod(name, 0o755); err != nil {
			return x.fault(name, err)
		}
	}
	x.landed[name] = &landed{recorded: record{name: name, kind: tar.TypeDir}, implicit: true}
	return nil
}

// fault tells what went wrong with a member and what to do about a full disk.
func (x *extraction) fault(name string, err error) error {
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if full && x.drill {
		err = fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err)
	}
	err = fmt.Errorf("write %s: %w", factName(name), err)
	if full {
		return holdfast.WithHint(err, "make room, or restore to another disk: nothing at the target has changed")
	}
	return err
}

// create makes what l tells of, as base in the folder at. Folders get their attributes at the end, for content still
// comes into them.
func (x *extraction) create(l *landed, h *tar.Header, at *os.File, base string, content io.Reader) error {
	fd := int(at.Fd())
	r := &l.recorded
	switch r.kind {
	case tar.TypeDir:
		if x.landed[r.name] != nil || base == "." {
			return nil
		}
		return unix.Mkdirat(fd, base, 0o700)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(r.target, fd, base); err != nil {
			return err
		}
	case tar.TypeFifo:
		if err := unix.Mknodat(fd, base, unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock:
		if !x.root || x.drill {
			l.absent = true
			x.unset["device was not made"]++
			return nil
		}
		kind := uint32(unix.S_IFCHR)
		if r.kind == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		if err := unix.Mknodat(fd, base, kind|0o600, int(unix.Mkdev(r.major, r.minor))); err != nil {
			return err
		}
	default:
		return x.createFile(l, h, fd, base, content)
	}
	return x.dress(l, fd, base, -1)
}

func (x *extraction) createFile(l *landed, h *tar.Header, at int, base string, content io.Reader) (err error) {
	fd, err := quiet(func() (int, error) {
		return unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := unix.Close(fd); err == nil {
			err = closeErr
		}
	}()
	_, sparse := h.PAXRecords["GNU.sparse.major"]
	if err := x.fill(fd, content, l.recorded.size, sparse); err != nil {
		return err
	}
	return x.dress(l, at, base, fd)
}

// fill writes size bytes of content. In a sparse file, blocks of zeros stay holes.
func (x *extraction) fill(fd int, content io.Reader, size int64, sparse bool) error {
	for pos := int64(0); pos < size; {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		chunk := x.buffer[:min(int64(len(x.buffer)), size-pos)]
		if _, err := io.ReadFull(content, chunk); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		if err := write(fd, chunk, pos, sparse); err != nil {
			return err
		}
		pos += int64(len(chunk))
	}
	if sparse {
		return unix.Ftruncate(fd, size)
	}
	return nil
}

func write(fd int, chunk []byte, pos int64, sparse bool) error {
	step := len(chunk)
	if sparse {
		step = 4096
	}
	for len(chunk) > 0 {
		part := chunk[:min(step, len(chunk))]
		chunk = chunk[len(part):]
		if sparse && blank(part) {
			pos += int64(len(part))
			continue
		}
		for len(part) > 0 {
			n, err := quiet(func() (int, error) { return unix.Pwrite(fd, part, pos) })
			if err != nil {
				return err
			}
			part = part[n:]
			pos += int64(n)
		}
	}
	return nil
}

func blank(part []byte) bool {
	return !slices.ContainsFunc(part, func(c byte) bool { return c != 0 })
}

// link makes a hard link to a member that was restored before.
func (x *extraction) link(r *record, target string, at *os.File, base string) error {
	if !filepath.IsLocal(target) || path.Clean(target) != target {
		return bad("%s: it is a hard link that leads out of the archive", factName(r.name))
	}
	if heir, carried := x.carried[target]; carried {
		target = heir
	}
	holder := x.landed[target]
	if holder == nil || holder.recorded.kind == tar.TypeDir {
		return bad("%s: it is a hard link to %s, which is no file that comes before it", factName(r.name), factName(target))
	}
	l := *holder
	l.recorded.name, l.recorded.first = r.name, target
	if !l.absent {
		from, err := x.open(path.Dir(target))
		if err != nil {
			return err
		}
		defer from.Close()
		if err := unix.Linkat(int(from.Fd()), path.Base(target), int(at.Fd()), base, 0); err != nil {
			return x.fault(r.name, err)
		}
	}
	x.landed[r.name] = &l
	return nil
}

// folders gives the restored folders their attributes, the innermost first.
func (x *extraction) folders() error {
	var names []string
	for name, l := range x.landed {
		if l.recorded.kind == tar.TypeDir && !l.implicit {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	for _, name := range names {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if err := x.finishFolder(name); err != nil {
			return x.fault(name, err)
		}
	}
	return nil
}

func (x *extraction) finishFolder(name string) error {
	at, err := x.enter(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	fd, err := quiet(func() (int, error) {
		return unix.Openat(int(at.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return x.dress(x.landed[name], int(at.Fd()), base, fd)
}

// dress sets owner, attributes, mode and time, in the order in which none undoes another: a change of owner clears
// set-user-ID bits and capabilities; attributes of one's own need a mode that allows writing; an access list sets
// mode bits; and everything but the time sets the time. fd is the open file, or -1 for what cannot be opened.
func (x *extraction) dress(l *landed, at int, base string, fd int) error {
	r := &l.recorded
	if x.root && !x.drill {
		l.uid, l.gid = x.numbers.owner(r)
		if l.uid != r.uid || l.gid != r.gid {
			x.unset["owner has another number here and was set by name"]++
		}
	}
	err := unix.Fchownat(at, base, int(l.uid), int(l.gid), unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		l.anyOwner = true
		x.unset["owner could not be set"]++
	} else if err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	l.mode = x.mode(r)
	if l.mode != r.mode {
		x.unset["mode was not set in full"]++
	}
	set := func(attribute xattr) error {
		if fd >= 0 {
			return unix.Fsetxattr(fd, attribute.name, []byte(attribute.value), 0)
		}
		return unix.Lsetxattr(leafPath(at, base), attribute.name, []byte(attribute.value), 0)
	}
	done, err := x.setXattrs(l, set, func(name string) bool { return !strings.HasPrefix(name, "system.") })
	if err != nil {
		return err
	}
	switch {
	case r.kind == tar.TypeSymlink:
	case fd >= 0:
		err = unix.Fchmod(fd, l.mode)
	default:
		err = unix.Fchmodat(at, base, l.mode, 0)
	}
	if err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	lists, err := x.setXattrs(l, set, func(name string) bool { return strings.HasPrefix(name, "system.") })
	if err != nil {
		return err
	}
	done = append(done, lists...)
	slices.SortFunc(done, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	l.xattrs, l.pending = xattrDigest(done), nil
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, r.mtime}
	if err := unix.UtimesNanoAt(at, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// mode is the mode to set. Without root, what is restored must stay readable to be checked.
func (x *extraction) mode(r *record) uint32 {
	if r.kind == tar.TypeSymlink {
		return r.mode
	}
	least := uint32(0o600)
	if r.kind == tar.TypeDir {
		least = 0o700
	}
	mode := r.mode
	if x.secret {
		mode = least
	}
	if x.drill || !x.root {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if !x.root {
		mode |= least
	}
	return mode
}

// setXattrs sets those attributes that which chooses and returns what was set. An access list that a file system
// cannot hold fails a restore: the mode alone would grant to the group what the list grants to few.
func (x *extraction) setXattrs(l *landed, set func(xattr) error, which func(string) bool) ([]xattr, error) {
	var done []xattr
	for _, attribute := range l.pending {
		if !which(attribute.name) {
			continue
		}
		list := attribute.name == aclAccess || attribute.name == aclDefault
		if list && (x.secret || (l.mode^l.recorded.mode)&0o777 != 0) {
			x.unset["access control list was left out with the mode"]++
			continue
		}
		if x.drill && attribute.name == "security.capability" { // rights, like a set-user-ID bit
			x.unset["capabilities were not set"]++
			continue
		}
		err := set(attribute)
		refused := errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) ||
			errors.Is(err, unix.EINVAL)
		switch {
		case err == nil:
			done = append(done, attribute)
		case refused && (!list || x.drill || !x.root):
			x.unset["extended attribute "+factName(attribute.name)+" could not be set"]++
		case refused:
			return nil, holdfast.WithHint(fmt.Errorf("set access control list: %w", err),
				"restore to a file system that holds access control lists")
		default:
			return nil, fmt.Errorf("set extended attribute %s: %w", factName(attribute.name), err)
		}
	}
	return done, nil
}
