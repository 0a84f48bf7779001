package local_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/local"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed"
)

// victimStore names the environment variable that turns this test binary into a process that is killed in a Put.
const victimStore = "HOLDFAST_TEST_VICTIM_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimStore); dir != "" {
		victim(dir)
	}
	if dir := os.Getenv(readerStore); dir != "" {
		reader(dir)
	}
	os.Exit(m.Run())
}

func create(t *testing.T, dir string) *local.Driver {
	t.Helper()
	return openWith(t, dir, local.Options{Create: true})
}

func openWith(t *testing.T, dir string, opt local.Options) *local.Driver {
	t.Helper()
	d, err := local.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestLaws(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
		dir := filepath.Join(t.TempDir(), "store")
		return create(t, dir), func() { remove(t, dir) }
	})
}

func remove(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, d store.Driver, name, content string) {
	t.Helper()
	if err := d.Put(t.Context(), name, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, d store.Driver) []string {
	t.Helper()
	var found []string
	for object, err := range d.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, object.Name)
	}
	return found
}

func wantNames(t *testing.T, d store.Driver, want ...string) {
	t.Helper()
	if got := names(t, d); !slices.Equal(got, want) {
		t.Errorf("the store lists %q, want %q", got, want)
	}
}

// wantFiles compares all regular files below dir, the hidden ones included.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, path)
		}
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s has the files %q, want %q; error %v", dir, got, want, err)
	}
}

func TestOpenAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	put(t, create(t, dir), "a/b", "x")
	wantNames(t, openWith(t, dir, local.Options{}), "a/b")
	wantNames(t, create(t, dir), "a/b")
}

func TestOwnerAlone(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "store")
	put(t, create(t, dir), "a/b/c", "x")
	storetest.OwnerAlone(t, dir)
}

func wantNoStore(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrNoStore) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(holdfast.Hint(err), "mount the disk") {
		t.Errorf("error %v with hint %q, want ErrNoStore and what to do", err, holdfast.Hint(err))
	}
}

func TestMissingStoreIsNeverMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	_, err := local.Open(dir, local.Options{})
	wantNoStore(t, err)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open made the directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, above := range []string{dir, file} {
		for _, create := range []bool{false, true} {
			_, err := local.Open(filepath.Join(above, "deeper"), local.Options{Create: create})
			wantNoStore(t, err)
		}
	}
}

func TestUnmountedDiskIsNotFilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	testbed.MountTmpfs(t, dir, "size=1m")
	d, err := local.Open(dir, local.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	put(t, d, "a", "x")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	_, err = local.Open(dir, local.Options{})
	wantNoStore(t, err)
	wantFiles(t, dir)
}

func TestStoreThatGoesAwayWhileOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d := create(t, dir)
	put(t, d, "a", "x")
	remove(t, dir)
	storetest.Vanished(t, d)
	wantNoStore(t, d.Put(t.Context(), "b", strings.NewReader("x")))
	_, err := d.Open(t.Context(), "a", 0, -1)
	wantNoStore(t, err)
}

// TestStoreThatGoesAwayInACall: a store that goes between the first look and the end of a call is no missing object either.
func TestStoreThatGoesAwayInACall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d := create(t, dir)
	put(t, d, "a/1", "x")
	put(t, d, "a/2", "x")
	wantNoStore(t, d.Put(t.Context(), "b/c", &removing{Reader: strings.NewReader("x"), t: t, dir: dir}))

	dir = filepath.Join(t.TempDir(), "other")
	d = create(t, dir)
	put(t, d, "a/1", "x")
	put(t, d, "b/2", "x")
	var listed error
	for object, err := range d.List(t.Context(), "") {
		if listed = err; object.Name == "a/1" {
			remove(t, dir)
		}
	}
	wantNoStore(t, listed)
}

// removing takes the store away while it is read.
type removing struct {
	io.Reader
	t   *testing.T
	dir string
}

func (r *removing) Read(p []byte) (int, error) {
	remove(r.t, r.dir)
	return r.Reader.Read(p)
}

func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	testbed.MountTmpfs(t, dir, "size=1m")
	d := create(t, dir)
	put(t, d, "small", "x")
	err := d.Put(t.Context(), "dir/large", bytes.NewReader(make([]byte, 2<<20)))
	if !errors.Is(err, store.ErrFull) || holdfast.Hint(err) == "" {
		t.Errorf("error %v with hint %q, want ErrFull", err, holdfast.Hint(err))
	}
	wantFiles(t, dir, ".holdfast-store", "small")
	put(t, d, "dir/other", strings.Repeat("x", 500<<10)) // the room was given back
}

func TestReadOnlyDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	testbed.MountTmpfs(t, dir, "size=1m")
	d := create(t, dir)
	put(t, d, "a", "x")
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Put":                   d.Put(t.Context(), "b", strings.NewReader("x")),
		"Put below a directory": d.Put(t.Context(), "b/c", strings.NewReader("x")),
		"Delete":                d.Delete(t.Context(), "a"),
	} {
		if !errors.Is(err, store.ErrReadOnly) || holdfast.Hint(err) == "" {
			t.Errorf("%s: error %v with hint %q, want ErrReadOnly", what, err, holdfast.Hint(err))
		}
	}
	wantNames(t, d, "a")
}

// asNobody runs fn with the file permissions of another user, on a thread that ends with it.
func asNobody(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		// The answer of setfsuid is the former user; that it worked shows in what fn is refused.
		_ = unix.Setfsuid(65534)
		fn()
	}()
	<-done
}

func TestNoPermission(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d := create(t, dir)
	put(t, d, "a", "x")
	errs := map[string]error{}
	asNobody(func() {
		_, errs["local.Open"] = local.Open(dir, local.Options{})
		errs["Put"] = d.Put(t.Context(), "b", strings.NewReader("x"))
		_, errs["Open"] = d.Open(t.Context(), "a", 0, -1)
		errs["Delete"] = d.Delete(t.Context(), "a")
		for _, err := range d.List(t.Context(), "") {
			errs["List"] = err
		}
	})
	for what, err := range errs {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: error %v, want fs.ErrPermission", what, err)
		}
	}
	if len(errs) != 5 {
		t.Errorf("%d of 5 calls were refused", len(errs))
	}
	wantNames(t, d, "a")
}

func TestForeignFilesAreNoObjects(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d := create(t, dir)
	put(t, d, "a/b", "x")
	for _, name := range []string{"lost+found", "a/.snapshot"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".tmp-holdfast-XYZ", "a/.hidden", "a/with space", "a/b~"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	wantNames(t, d, "a/b")
}

func TestSymlinksDoNotLeadOut(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "store")
	d := create(t, dir)
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Open(t.Context(), "link/secret", 0, -1); err == nil {
		r.Close()
		t.Error("Open left the store")
	}
	if err := d.Put(t.Context(), "link/new", strings.NewReader("x")); err == nil {
		t.Error("Put left the store")
	}
	wantFiles(t, outside, "secret")
}

func TestDeleteTidiesUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d := create(t, dir)
	put(t, d, "a/b/c/1", "x")
	put(t, d, "a/2", "x")
	if err := d.Delete(t.Context(), "a/b/c/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a/b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty directory: %v, want fs.ErrNotExist", err)
	}
	wantNames(t, d, "a/2")
}

func TestObjectsAndDirectoriesDoNotMix(t *testing.T) {
	d := create(t, filepath.Join(t.TempDir(), "store"))
	put(t, d, "a/b", "x")
	for _, name := range []string{"a", "a/b/c"} {
		if err := d.Put(t.Context(), name, strings.NewReader("x")); !errors.Is(err, store.ErrExists) {
			t.Errorf("Put(%q): error %v, want ErrExists", name, err)
		}
	}
	wantNames(t, d, "a/b")
}

// victim begins a Put, says so and then waits to be killed.
func victim(dir string) {
	d, err := local.Open(dir, local.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	err = d.Put(context.Background(), "job/backup/large", io.MultiReader(bytes.NewReader(make([]byte, 20<<20)), announcer{}))
	fmt.Println("Put returned:", err)
	os.Exit(1)
}

// announcer returns from Read when the test that started this process is gone.
type announcer struct{}

func (announcer) Read([]byte) (int, error) {
	fmt.Println("half")
	return io.ReadFull(os.Stdin, make([]byte, 1))
}

func TestKillInPutLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d := create(t, dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimStore+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "half\n" {
		t.Errorf("the victim says %q, error %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("the victim ended with %v, want the signal", err)
	}
	wantNames(t, d)
	wantFiles(t, dir, ".holdfast-store")
	put(t, d, "job/backup/large", "the next run")
}

func TestOthersMayNotLookIn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := local.Open(dir, local.Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o705, 0o701, 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := local.Open(dir, local.Options{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(holdfast.Hint(err), "chmod 700 "+dir) {
			t.Errorf("mode %o: error %v, hint %q", mode, err, holdfast.Hint(err))
		}
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(dir, local.Options{}); err != nil {
		t.Errorf("a group of its own: %v", err)
	}
	// A new disk is closed when it becomes a store; a directory that others use is not.
	disk, shared := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "index.html"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{disk, shared} {
		if err := os.Chmod(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := local.Open(disk, local.Options{Create: true}); err != nil {
		t.Errorf("a new disk: %v", err)
	}
	if info, err := os.Stat(disk); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its mode is %v, error %v", info.Mode(), err)
	}
	if _, err := local.Open(shared, local.Options{Create: true}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a shared directory: %v", err)
	}
	if info, err := os.Stat(shared); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is now %v, error %v", info.Mode(), err)
	}
}

func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	storetest.Sweeps(t, create(t, dir), dir)
}

func TestFreeRoomIsKnown(t *testing.T) {
	d, err := local.Open(filepath.Join(t.TempDir(), "store"), local.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	free, err := d.Free(t.Context())
	if err != nil || free <= 0 {
		t.Errorf("%d bytes are free, error %v", free, err)
	}
	findings, err := d.Inspect(t.Context(), store.Inspection{})
	if err != nil || len(findings) != 1 || !strings.Contains(findings[0].Message, "MB are free") {
		t.Errorf("findings %+v, error %v", findings, err)
	}
}
