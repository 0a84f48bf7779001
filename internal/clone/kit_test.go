package clone_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/clone"
	"holdfast/internal/testbed"
)

// later is a clock by which all that was just made is old enough to be vouched for.
func later() time.Time { return time.Now().Add(time.Hour) }

var vouching = clone.Options{Now: later}

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners and mounts")
	}
}

// tester is what rapid's T has too.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func must(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t tester, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func read(t tester, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// folders makes two roots; the second is empty.
func folders(t testing.TB) (from, to string) {
	t.Helper()
	dir := t.TempDir()
	from, to = dir+"/from", dir+"/to"
	must(t, os.Mkdir(from, 0o700))
	must(t, os.Mkdir(to, 0o700))
	return from, to
}

// inMemory makes two roots where writing out costs nothing.
func inMemory(t *testing.T) (from, to string) {
	t.Helper()
	asRoot(t)
	dir := t.TempDir()
	testbed.MountTmpfs(t, dir, "size=64m")
	from, to = dir+"/from", dir+"/to"
	must(t, os.Mkdir(from, 0o700))
	must(t, os.Mkdir(to, 0o700))
	return from, to
}

// emptied makes two roots empty again.
func emptied(t tester, roots ...string) {
	t.Helper()
	for _, root := range roots {
		must(t, os.RemoveAll(root))
		must(t, os.Mkdir(root, 0o700))
	}
}

// listing is a tree, told by paths and system calls that the package does not use: all that is to be kept, in one line for each name.
func listing(t tester, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	first := map[uint64]string{}
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, root)
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x %q", st.Size, sha256.Sum256(data), data[:min(len(data), 100)])
			if st.Nlink > 1 {
				if first[st.Ino] == "" {
					first[st.Ino] = rel
				}
				line += fmt.Sprintf(" one of %d, first %s", st.Nlink, first[st.Ino])
			}
		case syscall.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		list := make([]byte, 4096)
		n, err := unix.Llistxattr(path, list)
		if err != nil {
			return err
		}
		names := strings.Split(string(list[:n]), "\x00")
		slices.Sort(names)
		for _, name := range names[1:] {
			value := make([]byte, 4096)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %s=%q", name, value[:n])
		}
		found[rel] = line
		return nil
	}))
	return found
}

func same(t tester, from, to string) {
	t.Helper()
	want, got := listing(t, from), listing(t, to)
	for _, rel := range slices.Sorted(maps.Keys(want)) {
		if got[rel] != want[rel] {
			t.Errorf("%q is\n\t%.300s\nnot\n\t%.300s", rel, got[rel], want[rel])
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(got)) {
		if _, known := want[rel]; !known {
			t.Errorf("%q is only in the copy", rel)
		}
	}
}

// furnish makes a tree of everything that is kept.
func furnish(t testing.TB, root string) {
	t.Helper()
	must(t, os.MkdirAll(root+"/base/16384", 0o700))
	must(t, os.MkdirAll(root+"/pg_twophase", 0o700))
	must(t, os.Mkdir(root+"/closed", 0o700))
	write(t, root+"/PG_VERSION", "15\n")
	write(t, root+"/base/16384/1247", strings.Repeat("page", 50_000))
	write(t, root+"/base/16384/empty", "")
	write(t, root+"/closed/secret", "secret")
	write(t, root+"/name with\nbreak \xff", "bytes")
	write(t, root+"/suid", "#!")
	must(t, os.Link(root+"/PG_VERSION", root+"/base/PG_VERSION"))
	must(t, os.Link(root+"/PG_VERSION", root+"/zz"))
	must(t, os.Symlink("/nowhere/at all", root+"/base/tablespace"))
	must(t, os.Symlink("../PG_VERSION", root+"/base/link"))
	must(t, unix.Mkfifo(root+"/fifo", 0o640))
	sparse, err := os.Create(root + "/base/sparse")
	must(t, err)
	_, err = sparse.WriteAt([]byte("in the middle"), 3<<20)
	must(t, err)
	must(t, sparse.Truncate(8<<20))
	must(t, sparse.Close())

	must(t, os.Chown(root+"/base", 999, 998))
	must(t, os.Chown(root+"/base/16384/1247", 999, 999))
	must(t, os.Lchown(root+"/base/tablespace", 999, 1))
	must(t, os.Chown(root+"/fifo", 12, 13))
	must(t, os.Chown(root+"/suid", 7, 8))
	must(t, os.Chmod(root+"/suid", 0o755|fs.ModeSetuid|fs.ModeSetgid))
	must(t, os.Chmod(root+"/pg_twophase", 0o777|fs.ModeSticky))
	must(t, unix.Setxattr(root+"/PG_VERSION", "user.note", []byte("a\x00b"), 0))
	must(t, unix.Setxattr(root+"/base", "user.long", bytes.Repeat([]byte("x"), 2000), 0))
	must(t, unix.Setxattr(root+"/base", "trusted.folder", nil, 0))
	must(t, unix.Lsetxattr(root+"/base/link", "trusted.link", []byte("of a link"), 0))
	must(t, unix.Setxattr(root+"/suid", "security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	run(t, "setfacl", "-m", "u:7:rw,g:8:r", root+"/base/16384/1247")
	run(t, "setfacl", "-d", "-m", "u:9:rx", root+"/base/16384")
	stamp(t, root+"/base/16384/1247", 1_000_000_000, 123_456_789)
	stamp(t, root+"/base/link", 1_100_000_000, 1)
	stamp(t, root+"/fifo", 1_200_000_000, 2)
	stamp(t, root+"/pg_twophase", 1_300_000_000, 3)
	must(t, os.Chmod(root+"/closed", 0))
	stamp(t, root+"/base", -5, 4)
	must(t, unix.Setxattr(root, "user.root", []byte("also"), 0))
	must(t, os.Chmod(root, 0o750))
	must(t, os.Chown(root, 999, 999))
	stamp(t, root, 1_400_000_000, 5)
}

func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
}

func stamp(t tester, path string, sec, nsec int64) {
	t.Helper()
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}, unix.AT_SYMLINK_NOFOLLOW))
}

func blocks(t testing.TB, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Lstat(path, &st))
	return st.Blocks
}

func copyTree(t testing.TB, from, to string, was *clone.Ledger, o clone.Options) (*clone.Ledger, clone.Report) {
	t.Helper()
	ledger, report, err := clone.Copy(t.Context(), from, to, was, o)
	if err != nil {
		t.Fatal(err)
	}
	return ledger, report
}
