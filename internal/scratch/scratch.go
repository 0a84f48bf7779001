// Package scratch makes the folder a drill restores into, and makes it go away.
//
// It hides how a folder's medium is told apart. Its laws: plaintext goes to memory or to an encrypted disk unless the
// caller opted for a plain disk; there is room before anything is written; the folder is gone after Close, and one whose
// process was killed goes with the next that is opened beside it. It is not its job to know what is put there.
//
// BUG: memory is not told from memory that the kernel may swap to a plain disk.
package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
)

// Options say where and how much.
type Options struct {
	Dir       string // under which the folder is made; default /dev/shm
	Need      int64  // bytes that must be free
	AllowDisk bool   // accept a disk that is not encrypted; the caller reports it
}

// Folder is an empty folder of our own, mode 0711.
type Folder struct {
	Path   string
	Medium string   // "memory", "encrypted disk" or "plain disk"
	Left   []string // folders beside it that processes left which were killed, and that are gone now

	lock *os.File // held until Close: whoever may take it knows that nobody uses the folder
}

// kernel is what is asked about file systems, devices and memory.
type kernel struct {
	statfs  func(dir string, fs *unix.Statfs_t) error
	block   string // the folder of sysfs with a folder for each block device, called MAJOR:MINOR
	meminfo string // the file
}

// Open makes a folder. When there is no fit place for it, or no room, the error wraps holdfast.ErrCannotTest.
func Open(opt Options) (*Folder, error) {
	return open(opt, kernel{statfs: unix.Statfs, block: "/sys/dev/block", meminfo: "/proc/meminfo"})
}

func open(opt Options, k kernel) (*Folder, error) {
	dir := opt.Dir
	if dir == "" {
		dir = "/dev/shm"
	}
	var room unix.Statfs_t
	if err := k.statfs(dir, &room); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: scratch folder %s: %w", holdfast.ErrCannotTest, dir, err), "give a folder that exists with --scratch")
	}
	medium, err := k.mediumOf(dir, room)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err), "give another folder with --scratch")
	}
	if medium == "plain disk" && !opt.AllowDisk {
		return nil, holdfast.WithHint(fmt.Errorf("%w: scratch folder %s is on a disk that is not encrypted, and a drill writes plaintext", holdfast.ErrCannotTest, dir),
			"use a tmpfs (--scratch /dev/shm) or an encrypted volume, or accept it with --allow-disk-scratch")
	}
	left := sweep(dir)
	if err := k.statfs(dir, &room); err != nil { // there may be more room now
		return nil, fmt.Errorf("%w: scratch folder %s: %w", holdfast.ErrCannotTest, dir, err)
	}
	free := int64(room.Bavail) * room.Bsize
	if medium == "memory" {
		free = min(free, k.availableMemory())
	}
	if free < opt.Need {
		return nil, holdfast.WithHint(fmt.Errorf("%w: scratch folder %s has %d MB free, and this drill needs %d MB", holdfast.ErrCannotTest, dir, free>>20, opt.Need>>20),
			"give a bigger place with --scratch, such as a folder on an encrypted volume")
	}
	path, lock, err := newFolder(dir)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: make a scratch folder: %w", holdfast.ErrCannotTest, err), "give a folder that this user may write to with --scratch")
	}
	if err := os.Chmod(path, 0o711); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: make a scratch folder: %w", holdfast.ErrCannotTest, err), os.RemoveAll(path), lock.Close())
	}
	return &Folder{Path: path, Medium: medium, Left: left, lock: lock}, nil
}

const prefix = "holdfast-drill-"

// newFolder makes a folder and locks it. One that somebody else took for left before it was locked is let go, and another one is made.
func newFolder(dir string) (path string, lock *os.File, err error) {
	for {
		if path, err = os.MkdirTemp(dir, prefix); err != nil {
			return "", nil, err
		}
		lock, locked, err := tryLock(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(path))
		}
		if locked {
			return path, lock, nil
		}
	}
}

// tryLock locks a folder; false: somebody else has it, or it is another one by now, or none.
func tryLock(path string) (lock *os.File, locked bool, err error) {
	if lock, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err != nil {
		return nil, false, err
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, lock.Close()
	}
	if err != nil {
		return nil, false, errors.Join(err, lock.Close())
	}
	mine, err := lock.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = os.Lstat(path); err == nil && os.SameFile(mine, there) {
			return lock, true, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return nil, false, errors.Join(err, lock.Close())
}

// sweep removes the folders of this user that nobody uses any more: what is in them is plaintext. It returns which those were; what it cannot
// remove stays for the next.
func sweep(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // whoever makes a folder there hears of it
	}
	var gone []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var stat unix.Stat_t
		if !strings.HasPrefix(e.Name(), prefix) || unix.Lstat(path, &stat) != nil || int(stat.Uid) != os.Geteuid() {
			continue
		}
		lock, locked, err := tryLock(path)
		if err != nil || !locked {
			continue
		}
		if os.RemoveAll(path) == nil {
			gone = append(gone, path)
		}
		_ = lock.Close() // nothing was written through it
	}
	return gone
}

// Memory is how many bytes of memory can be had without swapping.
func Memory() int64 { return kernel{meminfo: "/proc/meminfo"}.availableMemory() }

// Close removes the folder and all in it.
func (f *Folder) Close() error {
	err := os.RemoveAll(f.Path)
	_ = f.lock.Close() // nothing was written through it
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("remove the scratch folder: %w", err), "remove "+f.Path+" by hand: it holds plaintext")
	}
	return nil
}

func (k kernel) mediumOf(dir string, fs unix.Statfs_t) (string, error) {
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return "memory", nil
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return "", fmt.Errorf("look at %s: %w", dir, err)
	}
	if encrypted(filepath.Join(k.block, fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))), 0) {
		return "encrypted disk", nil
	}
	return "plain disk", nil
}

// maxDepth is far beyond any stack of devices that someone built on purpose.
const maxDepth = 8

// encrypted reports whether the block device described in sysfs at dir, or all that it is made of, is dm-crypt. A
// device-mapper UUID begins with who made the device, and for cryptsetup the second word says what it is: dm-verity and
// dm-integrity begin alike and encrypt nothing.
func encrypted(dir string, depth int) bool {
	if uuid, err := os.ReadFile(filepath.Join(dir, "dm", "uuid")); err == nil {
		maker, rest, _ := strings.Cut(string(uuid), "-")
		kind, _, _ := strings.Cut(rest, "-")
		if maker == "CRYPT" && kind != "VERITY" && kind != "INTEGRITY" && kind != "SUBDEV" {
			return true
		}
	}
	slaves, err := filepath.Glob(filepath.Join(dir, "slaves", "*"))
	if err != nil || len(slaves) == 0 || depth == maxDepth {
		return false
	}
	for _, slave := range slaves {
		if !encrypted(slave, depth+1) {
			return false
		}
	}
	return true
}

// availableMemory is what the kernel says can be had without swapping.
func (k kernel) availableMemory() int64 {
	data, err := os.ReadFile(k.meminfo)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kilobytes int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kilobytes); err == nil {
			return kilobytes << 10
		}
	}
	return 0
}
