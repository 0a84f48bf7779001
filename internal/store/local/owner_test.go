package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/local"
	"holdfast/internal/store/storetest"
)

// readerStore names the environment variable that turns this test binary into a process that reads a store to its end and then deletes
// what is in it.
const readerStore = "HOLDFAST_TEST_READER_STORE"

// The user to whom the stores of these tests belong. No account has the number.
const (
	strangerUID = 71234
	strangerGID = 71235
)

func reader(dir string) {
	if err := readAll(context.Background(), dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func readAll(ctx context.Context, dir string) error {
	d, err := local.Open(dir, local.Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	var all []string
	for object, err := range d.List(ctx, "") {
		if err != nil {
			return err
		}
		all = append(all, object.Name)
	}
	for _, name := range all {
		r, err := d.Open(ctx, name, 0, -1)
		if err != nil {
			return err
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close(), d.Delete(ctx, name)); err != nil {
			return err
		}
		fmt.Printf("%s=%s\n", name, content)
	}
	return nil
}

// strangersFolder is an empty folder that belongs to another user, who can get there.
func strangersFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, strangerUID, strangerGID); err != nil {
		t.Fatal(err)
	}
	for above := filepath.Dir(dir); above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asStranger runs this test binary as the other user, to read a store.
func asStranger(t *testing.T, dir string) (string, error) {
	t.Helper()
	// A copy, because the folder of the test binary may be closed to others.
	program := filepath.Join(filepath.Dir(dir), "reader.test")
	content, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = []string{readerStore + "=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangerUID, Gid: strangerGID}}
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// wantOwner requires that everything in a store belongs to its owner, and that nothing is left of how it came there.
func wantOwner(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if of := info.Sys().(*syscall.Stat_t); of.Uid != strangerUID || of.Gid != strangerGID {
			t.Errorf("%s belongs to %d:%d", path, of.Uid, of.Gid)
		}
		if strings.HasPrefix(d.Name(), ".tmp-") {
			t.Errorf("%s was left", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	storetest.OwnerAlone(t, dir)
}

// TestRootWritesForTheOwner: a drill is root and leaves its proof in the store of another user, who reads and deletes it as their own.
func TestRootWritesForTheOwner(t *testing.T) {
	dir := strangersFolder(t)
	d := create(t, dir)
	put(t, d, "proofs/app/x/1.json", "proven")
	put(t, d, "proofs/app/y/2.json", "failed")
	put(t, d, "top", "level")
	wantOwner(t, dir)
	said, err := asStranger(t, dir)
	if want := "proofs/app/x/1.json=proven\nproofs/app/y/2.json=failed\ntop=level\n"; err != nil || said != want {
		t.Errorf("its owner reads %q, error %v", said, err)
	}
	wantFiles(t, dir, ".holdfast-store")
}

// TestOwnerIsShutOutOtherwise: what the test above proves could go wrong.
func TestOwnerIsShutOutOtherwise(t *testing.T) {
	dir := strangersFolder(t)
	put(t, create(t, dir), "proofs/app/1.json", "proven")
	if err := os.Chown(filepath.Join(dir, "proofs"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if said, err := asStranger(t, dir); err == nil || !strings.Contains(said, "permission denied") {
		t.Errorf("a folder of root is read by another: %q, error %v", said, err)
	}
}

func TestLawsInAnothersStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
		dir := strangersFolder(t)
		return create(t, dir), func() { remove(t, dir) }
	})
}

func TestManyAtOnceInAnothersStore(t *testing.T) {
	dir := strangersFolder(t)
	d := create(t, dir)
	errs := make(chan error)
	const many = 20
	for i := range many {
		go func() {
			name := fmt.Sprintf("a/b/c/%d", i)
			err := d.Put(t.Context(), name, strings.NewReader("x"))
			if err == nil && i%2 == 1 {
				err = d.Delete(t.Context(), name)
			}
			errs <- err
		}()
	}
	for range many {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := len(names(t, d)); got != many/2 {
		t.Errorf("%d objects, want %d", got, many/2)
	}
	wantOwner(t, dir)
}

// withoutChown runs fn as a root that may not give files away, on a thread that ends with it.
func withoutChown(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << unix.CAP_CHOWN
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRootThatMayNotGive(t *testing.T) {
	dir := strangersFolder(t)
	d := create(t, dir)
	put(t, d, "there/x", "x")
	withoutChown(t, func() {
		for _, name := range []string{"there/y", "new/z"} {
			err := d.Put(t.Context(), name, strings.NewReader("x"))
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "to whom the store belongs") || !strings.Contains(holdfast.Hint(err), "runuser") {
				t.Errorf("%s: error %v, hint %q", name, err, holdfast.Hint(err))
			}
		}
	})
	wantNames(t, d, "there/x")
	wantFiles(t, dir, ".holdfast-store", "there/x")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left are %v, error %v", entries, err)
	}
}
