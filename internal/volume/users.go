package volume

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// User is somebody who works on a volume.
type User struct {
	PID     int    // 0: the kernel itself
	Command string // the program's name
	User    string // whose it is: a name, or a number that has none
	What    string // how it uses the volume: "has /srv/pg/pgdata/base/1 open"
}

func (u User) String() string {
	if u.PID == 0 {
		return u.What
	}
	return fmt.Sprintf("process %d (%s of %s) %s", u.PID, u.Command, u.User, u.What)
}

// InUse is why a volume cannot be locked. It wraps [ErrInUse].
type InUse struct {
	Volume Name
	Users  []User // none: nobody was found, but the kernel says so
}

// mostNamed is how many users an error's text has; the rest is in its field.
const mostNamed = 5

func (e *InUse) Error() string {
	var said []string
	for _, u := range e.Users[:min(len(e.Users), mostNamed)] {
		said = append(said, u.String())
	}
	if more := len(e.Users) - mostNamed; more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	if len(said) == 0 {
		said = []string{"the kernel says so, and no process was found: an NFS export, or a process that cannot be seen from here, may hold it"}
	}
	return fmt.Sprintf("volume %s is in use: %s", e.Volume, strings.Join(said, "; "))
}

func (e *InUse) Unwrap() error { return ErrInUse }

// users finds who works on what is opened as m and mounted at v's mount point.
func (h Host) users(v Volume, m mapping) ([]User, error) {
	mounts, err := h.mounts()
	if err != nil {
		return nil, err
	}
	processes, err := h.processes(m, mounts)
	if err != nil {
		return nil, err
	}
	return slices.Concat(processes, mountUsers(v, m, mounts), h.kernelUsers(v, m)), nil
}

// mountUsers are other mounts of the mapping, and what is mounted above ours.
func mountUsers(v Volume, m mapping, mounts []mount) []User {
	var found []User
	point := realPath(v.Mount)
	ours := slices.IndexFunc(mounts, func(other mount) bool { return other.dev == m.dev && other.point == point })
	for i, other := range mounts {
		switch {
		case i == ours:
		case other.dev == m.dev:
			found = append(found, User{What: "it is mounted at " + other.point + " too"})
		case ours >= 0 && other.parent == mounts[ours].id:
			found = append(found, User{What: "something else is mounted at " + other.point})
		}
	}
	return found
}

// kernelUsers are those that have no process.
func (h Host) kernelUsers(v Volume, m mapping) []User {
	var found []User
	if holders, err := os.ReadDir(h.path("/sys/class/block/" + m.kernel + "/holders")); err == nil {
		for _, holder := range holders {
			found = append(found, User{What: "block device " + holder.Name() + " lies on it"})
		}
	}
	for _, loop := range h.loopsOf(realPath(v.Mount), true) {
		found = append(found, User{What: "loop device " + loop + " has a file on it"})
	}
	if text, err := os.ReadFile(h.path("/proc/swaps")); err == nil {
		for line := range bytes.Lines(text) {
			if file, _, _ := strings.Cut(string(line), " "); covers(realPath(v.Mount), unescape(file)) && strings.HasPrefix(file, "/") {
				found = append(found, User{What: "swap file " + unescape(file) + " is on it"})
			}
		}
	}
	return found
}

// processes looks through /proc. What cannot be read, because it ended or is another user's, is left out.
func (h Host) processes(m mapping, mounts []mount) ([]User, error) {
	entries, err := os.ReadDir(h.path("/proc"))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	own, err := os.Readlink(h.path("/proc/self/ns/mnt"))
	if err != nil {
		return nil, fmt.Errorf("find the mount namespace: %w", err)
	}
	seen := map[string]bool{own: true}
	var found []User
	for _, pid := range pids {
		what := h.uses(pid, m)
		if space, err := os.Readlink(h.process(pid, "ns/mnt")); what == "" && err == nil && !seen[space] {
			seen[space] = true
			what = h.holds(pid, m, mounts)
		}
		if what != "" {
			found = append(found, User{PID: pid, Command: h.commandName(pid), User: h.owner(pid), What: what})
		}
	}
	return found, nil
}

func (h Host) process(pid int, name string) string {
	return h.path("/proc/" + strconv.Itoa(pid) + "/" + name)
}

// uses says how a process uses the mapping; "": not at all.
func (h Host) uses(pid int, m mapping) string {
	for _, link := range []struct{ name, what string }{{"cwd", "works in "}, {"root", "has its root in "}, {"exe", "runs "}} {
		if path := h.process(pid, link.name); onDevice(path, m.dev) {
			return link.what + target(path)
		}
	}
	if entries, err := os.ReadDir(h.process(pid, "fd")); err == nil {
		for _, entry := range entries {
			if path := h.process(pid, "fd/"+entry.Name()); onDevice(path, m.dev) {
				return "has " + target(path) + " open"
			}
		}
	}
	text, err := os.ReadFile(h.process(pid, "maps"))
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) {
		// address perms offset dev inode path
		fields := strings.Fields(string(line))
		if len(fields) < 6 {
			continue
		}
		major, minor, _ := strings.Cut(fields[3], ":")
		hi, hiErr := strconv.ParseUint(major, 16, 32)
		lo, loErr := strconv.ParseUint(minor, 16, 32)
		if hiErr == nil && loErr == nil && fmt.Sprintf("%d:%d", hi, lo) == m.dev {
			return "has " + strings.Join(fields[5:], " ") + " in its memory"
		}
	}
	return ""
}

// onDevice reports whether a link of /proc leads to a file on the device, or to the device itself.
func onDevice(link, dev string) bool {
	var stat unix.Statx_t
	// The kernel answers from what it has: a file on a server that is gone must not hang this.
	if err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &stat); err != nil {
		return false
	}
	return fmt.Sprintf("%d:%d", stat.Dev_major, stat.Dev_minor) == dev ||
		stat.Mode&unix.S_IFMT == unix.S_IFBLK && fmt.Sprintf("%d:%d", stat.Rdev_major, stat.Rdev_minor) == dev
}

func target(link string) string {
	path, err := os.Readlink(link)
	if err != nil {
		return "a file"
	}
	return path
}

// holds says whether the mount namespace of a process, such as a container's, has the mapping mounted so that our umount leaves it there.
func (h Host) holds(pid int, m mapping, mounts []mount) string {
	text, err := os.ReadFile(h.process(pid, "mountinfo"))
	if err != nil {
		return ""
	}
	theirs, err := parseMounts(text)
	if err != nil {
		return ""
	}
	for _, other := range theirs {
		if other.dev == m.dev && !follows(other, theirs, m, mounts) {
			return "keeps it mounted at " + other.point + " in a mount namespace of its own, as containers do"
		}
	}
	return ""
}

// follows reports whether another namespace's mount goes when ours does: an umount reaches the peers and the slaves of the mount that
// ours stands on. Services of systemd with a namespace of their own are such slaves; containers are not.
func follows(other mount, theirs []mount, m mapping, mounts []mount) bool {
	parent := func(of mount, all []mount) mount {
		for _, p := range all {
			if p.id == of.parent {
				return p
			}
		}
		return mount{}
	}
	above := parent(other, theirs)
	for _, ours := range mounts {
		if ours.dev != m.dev {
			continue
		}
		group := parent(ours, mounts).shared
		if group != 0 && (above.shared == group || above.master == group || above.from == group) && other.root == ours.root && filepath.Base(other.point) == filepath.Base(ours.point) {
			return true
		}
	}
	return false
}

func (h Host) commandName(pid int) string {
	text, err := os.ReadFile(h.process(pid, "comm"))
	if err != nil {
		return "ended"
	}
	return strings.TrimSuffix(string(text), "\n")
}

// owner is the name of the user that a process has, or its number: the name of a container's user is not in this machine's list.
func (h Host) owner(pid int) string {
	text, err := os.ReadFile(h.process(pid, "status"))
	if err != nil {
		return "nobody known"
	}
	for line := range bytes.Lines(text) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == "Uid:" {
			if entry, err := user.LookupId(fields[1]); err == nil {
				return entry.Username
			}
			return "user " + fields[1]
		}
	}
	return "nobody known"
}
