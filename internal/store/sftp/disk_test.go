package sftp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/sftp"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed"
)

// mount puts a small filesystem where the store of options(s, name) is.
func mount(t *testing.T, s *testbed.SSHD, name, options string) string {
	t.Helper()
	dir := filepath.Join(s.Dir, name)
	testbed.MountTmpfs(t, dir, options)
	return dir
}

func put(t *testing.T, d store.Driver, name, content string) {
	t.Helper()
	if err := d.Put(t.Context(), name, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

// failures calls everything and returns the errors by name.
func failures(t *testing.T, d *sftp.Driver) map[string]error {
	t.Helper()
	errs := map[string]error{}
	errs["Put"] = d.Put(t.Context(), "b/c", strings.NewReader("x"))
	_, errs["Open"] = d.Open(t.Context(), "a", 0, -1)
	errs["Delete"] = d.Delete(t.Context(), "a")
	errs["List"] = errors.New("the list is empty and has no error")
	for _, err := range d.List(t.Context(), "") {
		errs["List"] = err
	}
	_, _, errs["Sweep"] = d.Sweep(t.Context(), 0)
	_, errs["Inspect"] = d.Inspect(t.Context(), store.Inspection{})
	return errs
}

func TestFullDisk(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	dir := mount(t, s, "disk", "size=20m")
	d := open(t, options(s, "disk"))
	put(t, d, "small", "x")
	err := d.Put(t.Context(), "dir/large", bytes.NewReader(make([]byte, 30<<20)))
	if !errors.Is(err, store.ErrFull) || !strings.Contains(holdfast.Hint(err), "make room") {
		t.Errorf("error %v with hint %q, want ErrFull", err, holdfast.Hint(err))
	}
	if got := files(t, dir); !slices.Equal(got, []string{"small"}) {
		t.Errorf("the disk has %q, want small alone", got)
	}
	put(t, d, "dir/other", strings.Repeat("x", 10<<20)) // the room was given back
}

func TestDiskWithoutInodes(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	mount(t, s, "disk", "size=50m,nr_inodes=6")
	d := open(t, options(s, "disk"))
	var err error
	for i := 0; err == nil && i < 10; i++ {
		err = d.Put(t.Context(), fmt.Sprintf("o-%d", i), strings.NewReader("x"))
	}
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
}

// TestFullDiskThatSaysNothing: without statvfs a full disk has no name, but nothing half remains.
func TestFullDiskThatSaysNothing(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{Deny: everyExtension})
	dir := mount(t, s, "disk", "size=20m")
	d := open(t, options(s, "disk"))
	if err := d.Put(t.Context(), "dir/large", bytes.NewReader(make([]byte, 30<<20))); err == nil {
		t.Error("more was put than there is room")
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("the disk has %q, want nothing", got)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	dir := mount(t, s, "disk", "size=20m")
	d := open(t, options(s, "disk"))
	put(t, d, "a", "x")
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=20m"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Put":                d.Put(t.Context(), "b", strings.NewReader("x")),
		"Put below a folder": d.Put(t.Context(), "b/c", strings.NewReader("x")),
		"Delete":             d.Delete(t.Context(), "a"),
	} {
		if !errors.Is(err, store.ErrReadOnly) || holdfast.Hint(err) == "" {
			t.Errorf("%s: error %v with hint %q, want ErrReadOnly", what, err, holdfast.Hint(err))
		}
	}
	if _, err := d.Open(t.Context(), "a", 0, -1); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyServer(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{ReadOnly: true})
	dir := filepath.Join(s.Dir, "store")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, ".holdfast-store"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	d := open(t, options(s, "store"))
	for what, err := range map[string]error{
		"Put":    d.Put(t.Context(), "b", strings.NewReader("x")),
		"Delete": d.Delete(t.Context(), "a"),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: error %v, want fs.ErrPermission", what, err)
		}
	}
}

func TestNoPermission(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{User: "nobody"})
	d := open(t, options(s, "store"))
	put(t, d, "a", "x")
	dir := filepath.Join(s.Dir, "store")
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Put":    d.Put(t.Context(), "b", strings.NewReader("x")),
		"Delete": d.Delete(t.Context(), "a"),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: error %v, want fs.ErrPermission", what, err)
		}
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	for what, err := range failures(t, d) {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: error %v, want fs.ErrPermission", what, err)
		}
	}
}

func TestMissingStoreIsNeverMade(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	for _, c := range []struct {
		name, path string
		create     bool
	}{
		{"no folder", "none", false},
		{"no marker", "", false},
		{"no folder above", "none/deeper", true},
	} {
		opt := options(s, c.path)
		opt.Create = c.create
		_, err := sftp.Open(t.Context(), opt)
		if !errors.Is(err, store.ErrNoStore) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(holdfast.Hint(err), "mount the disk") {
			t.Errorf("%s: error %v with hint %q, want ErrNoStore", c.name, err, holdfast.Hint(err))
		}
	}
	if entries, err := os.ReadDir(s.Dir); err != nil || len(entries) != 0 {
		t.Errorf("Open made %v; error %v", entries, err)
	}
}

func TestUnmountedDiskIsNotFilled(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	dir := mount(t, s, "disk", "size=20m")
	d := open(t, options(s, "disk"))
	put(t, d, "a", "x")
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	storetest.Vanished(t, d)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the empty mount point has %v; error %v", entries, err)
	}
}

func TestOwnerAlone(t *testing.T) {
	old := unix.Umask(0) // inherited by the server
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	unix.Umask(old)
	put(t, open(t, options(s, "store")), "a/b/c", "x")
	storetest.OwnerAlone(t, filepath.Join(s.Dir, "store"))
}

func TestForeignFilesAreNoObjects(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	d := open(t, options(s, "store"))
	put(t, d, "a/b", "x")
	dir := filepath.Join(s.Dir, "store")
	for _, name := range []string{"lost+found", "a/.snapshot"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o700), os.WriteFile(filepath.Join(dir, name, "file"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".tmp-holdfast-XYZ", "a/.hidden", "a/with space", "a/b~"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("/etc", filepath.Join(dir, "link")), os.Symlink("/etc/passwd", filepath.Join(dir, "a", "passwd"))); err != nil {
		t.Fatal(err)
	}
	for object, err := range d.List(t.Context(), "") {
		if err != nil || object.Name != "a/b" {
			t.Errorf("the list has %v, error %v; want a/b alone", object, err)
		}
	}
}

func TestObjectsAndFoldersDoNotMix(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	d := open(t, options(s, "store"))
	put(t, d, "a/b", "x")
	for _, name := range []string{"a", "a/b/c", "a/b/c/d"} {
		if err := d.Put(t.Context(), name, strings.NewReader("x")); !errors.Is(err, store.ErrExists) {
			t.Errorf("Put(%q): error %v, want ErrExists", name, err)
		}
	}
	if got := files(t, filepath.Join(s.Dir, "store")); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("the store has %q", got)
	}
}

func TestDeleteTidiesUp(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	d := open(t, options(s, "store"))
	put(t, d, "a/b/c/1", "x")
	put(t, d, "a/2", "x")
	if err := d.Delete(t.Context(), "a/b/c/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "store/a/b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder: %v, want fs.ErrNotExist", err)
	}
}

func TestSweep(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	storetest.Sweeps(t, open(t, options(s, "store")), filepath.Join(s.Dir, "store"))
}

// TestLargeListsAreCheap: sizes and times come with the names, and what the prefix excludes is not read.
func TestLargeListsAreCheap(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	p := startProxy(t, s.Addr())
	d := open(t, p.through(t, s, options(s, "store")))
	const n = 5000
	dir := filepath.Join(s.Dir, "store", "many")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("o-%05d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		prefix string
		want   int
		most   int64 // bytes of requests; one has at least 40
	}{{"", n, 15_000}, {"many/o-0123", 10, 15_000}, {"other/", 0, 1_000}} {
		before, found := p.up.Load(), 0
		for object, err := range d.List(t.Context(), c.prefix) {
			if err != nil || !strings.HasPrefix(object.Name, c.prefix) {
				t.Fatalf("%v, %v", object, err)
			}
			found++
		}
		if asked := p.up.Load() - before; found != c.want || asked > c.most {
			t.Errorf("prefix %q: %d objects for %d bytes of requests, want %d for at most %d", c.prefix, found, asked, c.want, c.most)
		}
	}
}

func severities(t *testing.T, d *sftp.Driver, about store.Inspection) (warnings string) {
	t.Helper()
	findings, err := d.Inspect(t.Context(), about)
	if err != nil || len(findings) == 0 {
		t.Fatalf("%d findings, error %v", len(findings), err)
	}
	for _, finding := range findings {
		if finding.Severity == store.Fine {
			continue
		}
		if finding.Message == "" || finding.Fix == "" {
			t.Errorf("%+v does not say what to do", finding)
		}
		warnings += finding.Message + "\n"
	}
	return warnings
}

func TestInspect(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	d := open(t, options(s, "store"))
	if got := severities(t, d, store.Inspection{}); got != "" {
		t.Errorf("a sound store has the warnings %q", got)
	}
	if err := errors.Join(os.Chmod(filepath.Join(s.Dir, "store"), 0o750), os.Chmod(s.KeyFile, 0o644)); err != nil {
		t.Fatal(err)
	}
	got := severities(t, d, store.Inspection{WriteOnly: true})
	for _, want := range []string{"mode is 0750", "can read the private key", "can delete"} {
		if !strings.Contains(got, want) {
			t.Errorf("the warnings %q do not say %q", got, want)
		}
	}
	poor := open(t, options(testbed.StartSSHD(t, testbed.SSHDOptions{Deny: everyExtension}), "store"))
	got = severities(t, poor, store.Inspection{})
	for _, want := range []string{"no fsync", "no hard links", "how much room"} {
		if !strings.Contains(got, want) {
			t.Errorf("the warnings %q do not say %q", got, want)
		}
	}
}
