package rsync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/rsync"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed"
)

// options lead to a mirror in s.Dir/name, and make it.
func options(t *testing.T, s *testbed.SSHD, name string) rsync.Options {
	t.Helper()
	return rsync.Options{
		Host: "127.0.0.1", Port: s.Port, User: s.User, Path: filepath.Join(s.Dir, name),
		KeyFile: s.KeyFile, KnownHosts: []string{s.KnownHosts}, Cache: filepath.Join(t.TempDir(), "the cache"),
		Retrier: store.NewRetrier(3, time.Millisecond), Create: true,
	}
}

func open(t *testing.T, opt rsync.Options) *rsync.Driver {
	t.Helper()
	d, err := rsync.Open(t.Context(), opt)
	if err != nil {
		t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(opt.Cache); err != nil || len(left) != 0 {
			t.Errorf("the cache has %v after Close; error %v", left, err)
		}
	})
	return d
}

// TestLaws has hundreds of runs of rsync. A program in the place of ssh runs the far side on this host, because a
// connection for each would take minutes; all other tests go to a real server.
func TestLaws(t *testing.T) {
	s := &testbed.SSHD{Port: 22, User: "root", Dir: t.TempDir(), KnownHosts: "/dev/null"}
	programs := t.TempDir()
	const text = "#!/bin/sh\n[ \"$1 $3\" = '-F mirror' ] || exit 255\nshift 3\nexec \"$@\"\n"
	if err := os.WriteFile(filepath.Join(programs, "ssh"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
		opt := options(t, s, filepath.Base(t.Name()))
		opt.Env = []string{"PATH=" + programs + ":/usr/bin:/bin"}
		return open(t, opt), func() {
			if err := os.RemoveAll(opt.Path); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// objects is a source of objects in memory.
type objects map[string][]byte

func (o objects) list() []store.Object {
	var all []store.Object
	for name, data := range o {
		all = append(all, store.Object{Name: name, Size: int64(len(data))})
	}
	return all
}

func (o objects) open(_ context.Context, name string) (io.ReadCloser, error) {
	data, ok := o[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func sample() objects {
	all := objects{"a-b": []byte("first"), "a/b/c": nil, "z": bytes.Repeat([]byte("sealed"), 100_000)}
	for i := range 30 {
		all[fmt.Sprintf("job/2026/%02d", i)] = bytes.Repeat([]byte{byte(i)}, 1000*i)
	}
	return all
}

// fetch reads a whole object. An Open that fails has read nothing.
func fetch(t *testing.T, d *rsync.Driver, name string) ([]byte, error) {
	t.Helper()
	r, err := d.Open(t.Context(), name, 0, -1)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	return got, errors.Join(err, r.Close())
}

// wantMirror: the mirror has exactly these objects.
func wantMirror(t *testing.T, m store.Comparer, want objects) {
	t.Helper()
	var names []string
	for object, err := range m.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, object.Name)
		if object.Size != int64(len(want[object.Name])) || object.Modified.IsZero() {
			t.Errorf("%s is listed with %d bytes, %v", object.Name, object.Size, object.Modified)
		}
	}
	if len(names) != len(want) || !slices.IsSorted(names) {
		t.Errorf("the mirror lists %q, want %d objects in order", names, len(want))
	}
	different, err := m.Check(t.Context(), names, want.open)
	if err != nil || len(different) != 0 {
		t.Errorf("Check: %q differ; error %v", different, err)
	}
}

func TestPush(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	testPush(t, options(t, s, "mirror"), filepath.Join(s.Dir, "mirror"))
}

func testPush(t *testing.T, opt rsync.Options, dir string) {
	opt.Batch = 100_000 // several batches
	d := open(t, opt)
	all := sample()
	if err := d.Push(t.Context(), all.list(), all.open); err != nil {
		t.Fatal(err)
	}
	wantMirror(t, d, all)
	if got, err := fetch(t, d, "z"); err != nil || !bytes.Equal(got, all["z"]) {
		t.Errorf("Open: %d bytes, error %v", len(got), err)
	}
	if _, err := fetch(t, d, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a missing object: error %v, want fs.ErrNotExist", err)
	}
	// What is there stays, and is not even opened.
	other := objects{"z": []byte("other"), "new": []byte("new")}
	opened := 0
	err := d.Push(t.Context(), other.list(), func(ctx context.Context, name string) (io.ReadCloser, error) {
		opened++
		return other.open(ctx, name)
	})
	if stored, _ := os.ReadFile(filepath.Join(dir, "z")); err != nil || opened != 1 || !bytes.Equal(stored, all["z"]) {
		t.Errorf("second Push: error %v, %d objects opened, want 1; z has %d bytes", err, opened, len(stored))
	}
	other["gone"] = []byte("x")
	different, err := d.Check(t.Context(), []string{"z", "new", "gone", "new"}, other.open)
	if want := []string{"gone", "z"}; err != nil || !slices.Equal(different, want) {
		t.Errorf("Check: %q, error %v; want %q", different, err, want)
	}
	// Damage that keeps size and time is found.
	old, _ := os.Stat(filepath.Join(dir, "new"))
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "new"), []byte("nEw"), 0o600), os.Chtimes(filepath.Join(dir, "new"), old.ModTime(), old.ModTime())); err != nil {
		t.Fatal(err)
	}
	if different, err := d.Check(t.Context(), []string{"new"}, other.open); err != nil || len(different) != 1 {
		t.Errorf("Check of damage: %q, error %v", different, err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v, %v", path, info.Mode(), err)
		}
		if strings.Contains(path, ".holdfast-partial") {
			t.Errorf("%s was left", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestrictedServer: rrsync, which is how a server allows nothing but rsync.
func TestRestrictedServer(t *testing.T) {
	dir := t.TempDir()
	s := testbed.StartSSHD(t, testbed.SSHDOptions{Command: "/usr/bin/rrsync " + dir})
	opt := options(t, s, "")
	opt.Path = "mirror"
	testPush(t, opt, filepath.Join(dir, "mirror"))

	// As docs/rsync.md sets it up.
	s = testbed.StartSSHD(t, testbed.SSHDOptions{Command: "/usr/bin/rrsync -no-del -no-overwrite " + dir})
	opt = options(t, s, "")
	opt.Path = "mirror"
	d := open(t, opt)
	more := objects{"later": random(100_000), "z": []byte("other")}
	if err := d.Push(t.Context(), more.list(), more.open); err != nil {
		t.Errorf("Push where writing over is forbidden: %v", err)
	}
	if err := d.Put(t.Context(), "z", strings.NewReader("other")); !errors.Is(err, store.ErrExists) {
		t.Errorf("Put of a name that is there: error %v, want ErrExists", err)
	}
	// rrsync then finds no difference by itself, which must not be taken for none.
	more["gone"] = nil
	if different, err := d.Check(t.Context(), []string{"later", "z", "gone"}, more.open); err != nil || !slices.Equal(different, []string{"gone", "z"}) {
		t.Errorf("Check where writing over is forbidden: %q, error %v; want gone and z", different, err)
	}
	if err := d.Delete(t.Context(), "z"); !errors.Is(err, fs.ErrPermission) || holdfast.Hint(err) == "" {
		t.Errorf("Delete where it is forbidden: error %v, want fs.ErrPermission", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mirror", "z")); err != nil {
		t.Error(err)
	}

	s = testbed.StartSSHD(t, testbed.SSHDOptions{Command: "/usr/bin/rrsync -ro " + dir})
	opt = options(t, s, "")
	opt.Path = "mirror"
	if err := open(t, opt).Push(t.Context(), []store.Object{{Name: "more"}}, objects{"more": nil}.open); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Push where it is forbidden: error %v, want fs.ErrPermission", err)
	}
}

// TestOldServer: a far side whose rsync does not know --fsync.
func TestOldServer(t *testing.T) {
	script := filepath.Join(t.TempDir(), "old")
	text := "#!/bin/sh\ncase \"$SSH_ORIGINAL_COMMAND\" in *--fsync*) echo 'rsync: --fsync: unknown option' >&2; exit 1;; esac\nexec $SSH_ORIGINAL_COMMAND\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	s := testbed.StartSSHD(t, testbed.SSHDOptions{Command: script})
	opt := options(t, s, "mirror")
	opt.Retrier = store.NewRetrier(1, 0)
	d := open(t, opt)
	all := sample()
	if err := d.Push(t.Context(), all.list(), all.open); err != nil {
		t.Fatal(err)
	}
	wantMirror(t, d, all)
	findings, err := d.Inspect(t.Context(), store.Inspection{WriteOnly: true})
	if err != nil || !slices.ContainsFunc(findings, func(f store.Finding) bool { return strings.Contains(f.Message, "without --fsync") }) {
		t.Errorf("Inspect does not tell of fsync: %v, %v", findings, err)
	}
}

func TestRefusals(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	none := testbed.StartSSHD(t, testbed.SSHDOptions{Command: "no-rsync-here"})
	other := testbed.SSHKey(t, filepath.Join(t.TempDir(), "other"), "ed25519")
	known := func(text string) []string {
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{file}
	}
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	unprotected := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(unprotected, key, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(o *rsync.Options)
		want   error
		hint   string
	}{
		{"unknown key", func(o *rsync.Options) { o.KnownHosts = known("") }, fs.ErrPermission, fmt.Sprintf("ssh-keyscan -p %d 127.0.0.1", s.Port)},
		{"changed key", func(o *rsync.Options) { o.KnownHosts = known(fmt.Sprintf("[127.0.0.1]:%d %s\n", s.Port, other)) }, fs.ErrPermission, "stand between"},
		{"a key that others can read", func(o *rsync.Options) { o.KeyFile = unprotected }, fs.ErrPermission, "chmod 600"},
		{"wrong login", func(o *rsync.Options) { o.KeyFile = s.OtherKey }, fs.ErrPermission, "authorized_keys"},
		{"no folder", func(o *rsync.Options) { o.Create = false }, store.ErrNoStore, "mount the disk"},
		{"no folder above", func(o *rsync.Options) { o.Path += "/deeper" }, store.ErrNoStore, "folder above"},
		{"no rsync there", func(o *rsync.Options) {
			o.Port, o.KnownHosts, o.KeyFile = none.Port, []string{none.KnownHosts}, none.KeyFile
		}, holdfast.ErrUsage, "kind: sftp"},
		{"no rsync here", func(o *rsync.Options) { o.Program = "no-such-rsync" }, holdfast.ErrUsage, "install rsync"},
		{"another program", func(o *rsync.Options) { o.Program = "/bin/true" }, holdfast.ErrUsage, "install rsync"},
		{"a shell in the path", func(o *rsync.Options) { o.Path = "/tmp/$(touch x)" }, holdfast.ErrUsage, "letters"},
		{"an option as path", func(o *rsync.Options) { o.Path = "-x" }, holdfast.ErrUsage, "letters"},
		{"an option as host", func(o *rsync.Options) { o.Host = "-oProxyCommand=x" }, holdfast.ErrUsage, ""},
		{"a setting in the user", func(o *rsync.Options) { o.User = "x\"\nProxyCommand y" }, holdfast.ErrUsage, ""},
		{"no known_hosts", func(o *rsync.Options) { o.KnownHosts = nil }, holdfast.ErrUsage, "known_hosts"},
		{"no path", func(o *rsync.Options) { o.Path = "" }, holdfast.ErrUsage, "rsync://"},
	} {
		opt := options(t, s, "mirror")
		c.change(&opt)
		d, err := rsync.Open(t.Context(), opt)
		if err == nil {
			d.Close()
		}
		if !errors.Is(err, c.want) || !strings.Contains(holdfast.Hint(err), c.hint) {
			t.Errorf("%s: error %v with hint %q, want %v and %q", c.name, err, holdfast.Hint(err), c.want, c.hint)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: the error has several lines: %v", c.name, err)
		}
	}
	if entries, err := os.ReadDir(s.Dir); err != nil || len(entries) != 0 {
		t.Errorf("a refusal made %v; error %v", entries, err)
	}
}

// TestNoPermission: a far side that lets the login in and then not into the folder says something else than one that lets nobody
// in. A program in the place of ssh runs the far side as nobody, who has no shell at a real server.
func TestNoPermission(t *testing.T) {
	s := &testbed.SSHD{Port: 22, User: "nobody", Dir: t.TempDir(), KnownHosts: "/dev/null"}
	programs := t.TempDir()
	const text = "#!/bin/sh\nshift 3\nexec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"\n"
	if err := os.WriteFile(filepath.Join(programs, "ssh"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	opt := options(t, s, "mirror")
	opt.Env, opt.Create = []string{"PATH=" + programs + ":/usr/bin:/bin"}, false
	if err := errors.Join(os.Chmod(filepath.Dir(s.Dir), 0o755), os.Chmod(s.Dir, 0o755), os.Mkdir(opt.Path, 0o700)); err != nil {
		t.Fatal(err)
	}
	d, err := rsync.Open(t.Context(), opt)
	if err == nil {
		d.Close()
	}
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(holdfast.Hint(err), "belong to that user") {
		t.Errorf("error %v with hint %q, want fs.ErrPermission and whose folder it has to be", err, holdfast.Hint(err))
	}
}

func TestDisks(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	dir := filepath.Join(s.Dir, "disk")
	testbed.MountTmpfs(t, dir, "size=2m")
	d := open(t, options(t, s, "disk"))
	large := objects{"dir/large": make([]byte, 4<<20), "dir/small": []byte("x")}
	if err := d.Push(t.Context(), large.list(), large.open); !errors.Is(err, store.ErrFull) || holdfast.Hint(err) == "" {
		t.Errorf("full: error %v, want ErrFull", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "dir/large")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("part of an object has its name: %v", err)
	}

	// Another disk: who ran full may still have its file open.
	dir = filepath.Join(s.Dir, "other")
	testbed.MountTmpfs(t, dir, "size=2m")
	d = open(t, options(t, s, "other"))
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=2m"); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "b", strings.NewReader("x")); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("read-only: error %v, want ErrReadOnly", err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	storetest.Vanished(t, d)
	if err := d.Push(t.Context(), large.list(), large.open); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("unmounted: Push: error %v, want ErrNoStore", err)
	}
	if _, err := d.Check(t.Context(), []string{"dir/small"}, large.open); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("unmounted: Check: error %v, want ErrNoStore", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the empty mount point has %v; error %v", entries, err)
	}
}

// TestFullCache: no room on this host is not a full mirror.
func TestFullCache(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	all := objects{"large": make([]byte, 2<<20)}
	if err := open(t, options(t, s, "mirror")).Push(t.Context(), all.list(), all.open); err != nil {
		t.Fatal(err)
	}
	opt := options(t, s, "mirror")
	opt.Cache = filepath.Join(t.TempDir(), "cache")
	testbed.MountTmpfs(t, opt.Cache, "size=1m")
	d := open(t, opt)
	_, opened := d.Open(t.Context(), "large", 0, -1)
	for what, err := range map[string]error{"Put": d.Put(t.Context(), "other", bytes.NewReader(all["large"])), "Open": opened} {
		if errors.Is(err, store.ErrFull) || !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), "make room there") {
			t.Errorf("%s: error %v with hint %q", what, err, holdfast.Hint(err))
		}
	}
}

// TestCacheIsBounded: what was fetched for ranges goes when others come, and its readers keep reading.
func TestCacheIsBounded(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	opt := options(t, s, "mirror")
	opt.Batch = 150_000
	d := open(t, opt)
	all := objects{"a": bytes.Repeat([]byte("a"), 100_000), "b": bytes.Repeat([]byte("b"), 100_000)}
	if err := d.Push(t.Context(), all.list(), all.open); err != nil {
		t.Fatal(err)
	}
	var readers []io.ReadCloser
	for _, name := range []string{"a", "b", "a", "b"} {
		r, err := d.Open(t.Context(), name, 10, 50_000)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	var size int64
	err := filepath.WalkDir(opt.Cache, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "object" {
			var info fs.FileInfo
			info, err = entry.Info()
			size += info.Size()
		}
		return err
	})
	if err != nil || size != 100_000 {
		t.Errorf("the cache has %d bytes of objects, want one of 100000; error %v", size, err)
	}
	for i, r := range readers {
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, all[[]string{"a", "b"}[i%2]][10:50_010]) {
			t.Errorf("reader %d: %d bytes, error %v", i, len(got), err)
		}
	}
}

// TestAbandonedCache: what a killed run left is removed by the next, and what another run uses is not.
func TestAbandonedCache(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	opt := options(t, s, "mirror")
	used, err := rsync.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(opt.Cache, "rsync-*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("%q, %v", folders, err)
	}
	left := filepath.Join(opt.Cache, "rsync-left")
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(os.MkdirAll(filepath.Join(left, "batch-1"), 0o700), os.Chtimes(left, old, old), os.Chtimes(folders[0], old, old)); err != nil {
		t.Fatal(err)
	}
	second, err := rsync.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed run left: %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(folders[0]); err != nil {
		t.Errorf("what another run uses: %v", err)
	}
	if err := errors.Join(used.Close(), second.Close()); err != nil {
		t.Error(err)
	}
}
