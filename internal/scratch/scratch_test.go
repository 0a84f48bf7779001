package scratch_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/scratch"
)

// machine describes a host: its block devices below the one that dir is on, and its memory.
type machine struct {
	dir, block, meminfo string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	root := t.TempDir()
	m := machine{filepath.Join(root, "dir"), filepath.Join(root, "block"), filepath.Join(root, "meminfo")}
	if err := errors.Join(os.Mkdir(m.dir, 0o700), os.Mkdir(m.block, 0o700)); err != nil {
		t.Fatal(err)
	}
	m.memory(t, "MemTotal:       16000 kB\nMemFree:        1000 kB\nMemAvailable:    4096 kB\n")
	return m
}

func (m machine) memory(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(m.meminfo, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// device describes one device; below are those it is made of.
func (m machine) device(t *testing.T, name, uuid string, below ...string) {
	t.Helper()
	dir := filepath.Join(m.block, name)
	if err := os.MkdirAll(filepath.Join(dir, "slaves"), 0o700); err != nil {
		t.Fatal(err)
	}
	if uuid != "" {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "dm"), 0o700), os.WriteFile(filepath.Join(dir, "dm", "uuid"), []byte(uuid+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range below {
		if err := os.Symlink(filepath.Join(m.block, b), filepath.Join(dir, "slaves", b)); err != nil {
			t.Fatal(err)
		}
	}
}

// top is the name of the device that dir is on.
func (m machine) top(t *testing.T) string {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(m.dir, &stat); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
}

func (m machine) open(opt scratch.Options, fsType int64) (*scratch.Folder, error) {
	opt.Dir = m.dir
	return scratch.OpenOn(opt, fsType, 1<<30, m.block, m.meminfo)
}

func mustClose(t *testing.T, f *scratch.Folder) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(f.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there after Close: %v", f.Path, err)
	}
}

func TestMemory(t *testing.T) {
	f, err := scratch.Open(scratch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, f)
	if f.Medium != "memory" || filepath.Dir(f.Path) != "/dev/shm" {
		t.Errorf("folder %+v", f)
	}
	info, err := os.Stat(f.Path)
	if err != nil || info.Mode() != os.ModeDir|0o711 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// What programs leave there is not always ours to read.
	inner := filepath.Join(f.Path, "a", "b")
	if err := errors.Join(os.MkdirAll(inner, 0o700), os.WriteFile(filepath.Join(inner, "data"), []byte("x"), 0), os.Chmod(filepath.Join(f.Path, "a"), 0)); err != nil {
		t.Fatal(err)
	}
}

// What a process left that was killed goes with the next folder; what is in use, or is nothing of ours, stays.
func TestLeftBehind(t *testing.T) {
	m := newMachine(t)
	used, err := m.open(scratch.Options{AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(used.Path)
	left, others, away := filepath.Join(dir, "holdfast-drill-123"), filepath.Join(dir, "somebody-else"), t.TempDir()
	link, file := filepath.Join(dir, "holdfast-drill-link"), filepath.Join(dir, "holdfast-drill-file")
	if err := errors.Join(os.MkdirAll(filepath.Join(left, "base"), 0o700), os.WriteFile(filepath.Join(left, "base", "rows"), []byte("x"), 0), os.Mkdir(others, 0o700),
		os.Symlink(away, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	next, err := m.open(scratch.Options{AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(next.Left, []string{left}) {
		t.Errorf("it removed %q, want %q", next.Left, left)
	}
	for path, there := range map[string]bool{left: false, used.Path: true, others: true, away: true, link: true, file: true, next.Path: true} {
		if _, err := os.Lstat(path); (err == nil) != there {
			t.Errorf("%s: %v", path, err)
		}
	}
	mustClose(t, used)
	mustClose(t, next)
}

// Whoever opens folders at once takes nobody's for left.
func TestFoldersAtOnce(t *testing.T) {
	m := newMachine(t)
	var group errgroup.Group
	for range 50 {
		group.Go(func() error {
			f, err := m.open(scratch.Options{AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
			if err != nil {
				return err
			}
			_, err = os.Stat(f.Path)
			return errors.Join(err, f.Close())
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestTwoFoldersAreTwo(t *testing.T) {
	m := newMachine(t)
	one, err := m.open(scratch.Options{AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
	if err != nil {
		t.Fatal(err)
	}
	two, err := m.open(scratch.Options{AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, one)
	if _, err := os.Stat(two.Path); err != nil {
		t.Errorf("closing one took the other: %v", err)
	}
	mustClose(t, two)
}

func refused(t *testing.T, f *scratch.Folder, err error, words ...string) {
	t.Helper()
	if err == nil {
		mustClose(t, f)
		t.Fatal("a folder was made")
	}
	if !errors.Is(err, holdfast.ErrCannotTest) || holdfast.Hint(err) == "" {
		t.Errorf("error %v with the hint %q, want ErrCannotTest with a hint", err, holdfast.Hint(err))
	}
	for _, word := range words {
		if !strings.Contains(err.Error()+holdfast.Hint(err), word) {
			t.Errorf("error %v with the hint %q does not say %q", err, holdfast.Hint(err), word)
		}
	}
}

func TestPlainDisk(t *testing.T) {
	m := newMachine(t)
	f, err := m.open(scratch.Options{}, unix.EXT4_SUPER_MAGIC)
	refused(t, f, err, m.dir, "not encrypted", "--allow-disk-scratch", "/dev/shm")
	if entries, err := os.ReadDir(m.dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	f, err = m.open(scratch.Options{AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
	if err != nil {
		t.Fatal(err)
	}
	if f.Medium != "plain disk" {
		t.Errorf("medium %q", f.Medium)
	}
	mustClose(t, f)
}

func TestRoom(t *testing.T) {
	m := newMachine(t)
	f, err := m.open(scratch.Options{Need: 1<<30 + 1, AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
	refused(t, f, err, "1024 MB free", "--scratch")
	f, err = m.open(scratch.Options{Need: 1 << 30, AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, f)

	// A tmpfs may be bigger than what memory has left.
	f, err = m.open(scratch.Options{Need: 4096<<10 + 1}, unix.TMPFS_MAGIC)
	refused(t, f, err, "4 MB free")
	if f, err = m.open(scratch.Options{Need: 4096 << 10}, unix.TMPFS_MAGIC); err != nil {
		t.Fatal(err)
	}
	mustClose(t, f)
	m.memory(t, "MemTotal: 16000 kB\n")
	f, err = m.open(scratch.Options{Need: 1}, unix.TMPFS_MAGIC)
	refused(t, f, err, "0 MB free")
}

func TestFolderThatIsNotThere(t *testing.T) {
	f, err := scratch.Open(scratch.Options{Dir: "/nonexistent/scratch"})
	refused(t, f, err, "/nonexistent/scratch", "--scratch")
}

func TestEncryptedDisk(t *testing.T) {
	const luks, lvm = "CRYPT-LUKS2-0123-home", "LVM-abcdef"
	for _, c := range []struct {
		name    string
		devices func(t *testing.T, m machine, top string)
		want    string
	}{
		{"nothing known", func(*testing.T, machine, string) {}, "plain disk"},
		{"a partition", func(t *testing.T, m machine, top string) { m.device(t, top, "") }, "plain disk"},
		{"LUKS", func(t *testing.T, m machine, top string) { m.device(t, top, luks) }, "encrypted disk"},
		{"plain dm-crypt", func(t *testing.T, m machine, top string) { m.device(t, top, "CRYPT-PLAIN-x") }, "encrypted disk"},
		{"a volume on LUKS", func(t *testing.T, m machine, top string) {
			m.device(t, top, lvm, "dm-0")
			m.device(t, "dm-0", luks, "sda1")
			m.device(t, "sda1", "")
		}, "encrypted disk"},
		{"a volume on a partition", func(t *testing.T, m machine, top string) {
			m.device(t, top, lvm, "sda1")
			m.device(t, "sda1", "")
		}, "plain disk"},
		{"a mirror of two LUKS devices", func(t *testing.T, m machine, top string) {
			m.device(t, top, "", "dm-0", "dm-1")
			m.device(t, "dm-0", luks)
			m.device(t, "dm-1", luks)
		}, "encrypted disk"},
		{"a mirror of which one half is plain", func(t *testing.T, m machine, top string) {
			m.device(t, top, "", "dm-0", "sdb")
			m.device(t, "dm-0", luks)
			m.device(t, "sdb", "")
		}, "plain disk"},
		{"dm-integrity", func(t *testing.T, m machine, top string) {
			m.device(t, top, "CRYPT-INTEGRITY-x", "sda1")
			m.device(t, "sda1", "")
		}, "plain disk"},
		{"dm-verity on LUKS", func(t *testing.T, m machine, top string) {
			m.device(t, top, "CRYPT-VERITY-x", "dm-0")
			m.device(t, "dm-0", luks)
		}, "encrypted disk"},
		{"a name that only looks like it", func(t *testing.T, m machine, top string) { m.device(t, top, "LVM-CRYPT-LUKS2") }, "plain disk"},
		{"a circle", func(t *testing.T, m machine, top string) { m.device(t, top, lvm, top) }, "plain disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			c.devices(t, m, m.top(t))
			f, err := m.open(scratch.Options{AllowDisk: true}, unix.EXT4_SUPER_MAGIC)
			if err != nil {
				t.Fatal(err)
			}
			defer mustClose(t, f)
			if f.Medium != c.want {
				t.Errorf("medium %q, want %q", f.Medium, c.want)
			}
			g, err := m.open(scratch.Options{}, unix.EXT4_SUPER_MAGIC)
			if c.want == "plain disk" {
				refused(t, g, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			mustClose(t, g)
		})
	}
}
