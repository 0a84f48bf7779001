package clone

import (
	"time"

	"golang.org/x/sys/unix"
)

// stamp is a time as file systems have them; a count of nanoseconds alone would not hold all of them.
type stamp struct {
	Sec  int64  `json:"s"`
	Nsec uint32 `json:"n"`
}

func (s stamp) time() time.Time { return time.Unix(s.Sec, int64(s.Nsec)) }

// ident is what tells that a file is the one it was, and that nobody wrote to it.
type ident struct {
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	Mtime stamp  `json:"mtime"`
	Ctime stamp  `json:"ctime"`
}

// settled reports whether its times are so much older than a reading that a later write would have shown in them.
func (i ident) settled(read time.Time, age time.Duration) bool {
	return !i.Ctime.time().Add(age).After(read) && !i.Mtime.time().Add(age).After(read)
}

// entry is one thing below a root, as it was when it was looked at.
type entry struct {
	ident
	rel      string // "." is the root
	mode     uint32 // type and permissions
	uid, gid uint32
	links    uint32
	device   uint64
	mount    uint64 // 0: this kernel does not say
}

func (e entry) kind() uint32 { return e.mode & unix.S_IFMT }

func (e entry) perm() uint32 { return e.mode &^ unix.S_IFMT }

func (e entry) isDir() bool { return e.kind() == unix.S_IFDIR }

func (e entry) isFile() bool { return e.kind() == unix.S_IFREG }

// look is statx(2), of a name in a folder, or of the descriptor itself when the name is empty.
func look(fd int, name, rel string) (entry, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return entry{}, err
	}
	e := entry{
		rel:   rel,
		ident: ident{Inode: st.Ino, Size: int64(st.Size), Mtime: stamp{st.Mtime.Sec, st.Mtime.Nsec}, Ctime: stamp{st.Ctime.Sec, st.Ctime.Nsec}},
		mode:  uint32(st.Mode), uid: st.Uid, gid: st.Gid, links: st.Nlink, device: unix.Mkdev(st.Dev_major, st.Dev_minor),
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		e.mount = st.Mnt_id
	}
	return e, nil
}

// crosses reports whether it lies on another mount than the root. Devices say it where the kernel does not; those of files differ in an overlay.
func (e entry) crosses(root entry) bool {
	if e.mount != 0 {
		return e.mount != root.mount
	}
	return e.isDir() && e.device != root.device
}

// node names a file in a tree. Subvolumes have inodes of the same number.
type node struct{ device, inode uint64 }

func (e entry) node() node { return node{e.device, e.Inode} }
