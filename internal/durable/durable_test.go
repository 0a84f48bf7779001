package durable_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"holdfast/internal/durable"
)

func wantFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("%s has %d bytes, want %d; error %v", path, len(got), len(content), err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
	}
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s has %q, want %q; error %v", dir, got, want, err)
	}
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "", "a longer third one"} {
		if err := durable.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, content, 0o640)
	}
	wantNames(t, dir, "file")
}

func TestWriteFileFailsWhole(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "taken"), []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if err := durable.WriteFile(filepath.Join(dir, "no", "such"), []byte("x"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: error %v, want fs.ErrNotExist", err)
	}
	wantNames(t, dir, "taken")
}

func TestCreateFileNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durable.CreateFile(path, []byte("first"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := durable.CreateFile(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want fs.ErrExist", err)
	}
	wantFile(t, path, "first", 0o400)
	wantNames(t, dir, "file")
}

func TestFreeName(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "x")
	for _, step := range []struct{ take, want string }{
		{"", "x"}, {"x", "x_2"}, {"x_2", "x_3"}, {"x_3-wal", "x_4"},
	} {
		if step.take != "" {
			if err := os.WriteFile(filepath.Join(dir, step.take), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := durable.FreeName(at, "-wal"); err != nil || got != filepath.Join(dir, step.want) {
			t.Errorf("after %q: %q, %v, want %s", step.take, got, err, step.want)
		}
	}
	if _, err := durable.FreeName(filepath.Join(at, "below a file")); err == nil {
		t.Error("a name below a file is free")
	}
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	if err := durable.SyncDir(dir); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

// creators are the two ways to begin a file.
var creators = map[string]func(*os.Root, string, os.FileMode) (*durable.File, error){
	"unnamed": durable.Create,
	"named":   durable.CreateNamed,
}

func eachCreator(t *testing.T, test func(t *testing.T, dir string, begin func(name string) *durable.File)) {
	for name, create := range creators {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { root.Close() })
			test(t, dir, func(name string) *durable.File {
				t.Helper()
				f, err := create(root, name, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				return f
			})
		})
	}
}

func TestFileAppearsAtCommit(t *testing.T) {
	eachCreator(t, func(t *testing.T, dir string, begin func(string) *durable.File) {
		content := strings.Repeat("0123456789abcde\n", 20<<20/16) // more than two spans of writeback
		f := begin("file")
		if _, err := f.Write([]byte(content[:100])); err != nil {
			t.Fatal(err)
		}
		if n, err := f.ReadFrom(strings.NewReader(content[100:])); err != nil || n != int64(len(content)-100) {
			t.Fatalf("ReadFrom: %d, %v", n, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "file")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before Commit: %v, want fs.ErrNotExist", err)
		}
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := f.Abort(); err != nil {
			t.Errorf("Abort after Commit: %v", err)
		}
		wantFile(t, filepath.Join(dir, "file"), content, 0o600)
		wantNames(t, dir, "file")
	})
}

func TestAbortLeavesNothing(t *testing.T) {
	eachCreator(t, func(t *testing.T, dir string, begin func(string) *durable.File) {
		f := begin("file")
		broken := errors.New("broken")
		if _, err := f.ReadFrom(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("ReadFrom: %v, want the reader's error", err)
		}
		if err := f.Abort(); err != nil {
			t.Error(err)
		}
		if err := f.Abort(); err != nil {
			t.Errorf("second Abort: %v", err)
		}
		wantNames(t, dir)
	})
}

func TestCommitToATakenName(t *testing.T) {
	eachCreator(t, func(t *testing.T, dir string, begin func(string) *durable.File) {
		first, second := begin("file"), begin("file")
		for f, content := range map[*durable.File]string{first: "first", second: "second"} {
			if _, err := f.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := first.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := second.Commit(); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("second Commit: %v, want fs.ErrExist", err)
		}
		got, err := io.ReadAll(io.NewSectionReader(second, 0, second.Size()))
		if err != nil || string(got) != "second" {
			t.Errorf("the file that was refused reads %q, error %v", got, err)
		}
		if err := os.Remove(filepath.Join(dir, "file")); err != nil {
			t.Fatal(err)
		}
		if err := second.Commit(); err != nil {
			t.Errorf("Commit once the name is free: %v", err)
		}
		wantFile(t, filepath.Join(dir, "file"), "second", 0o600)
		wantNames(t, dir, "file")
	})
}

func TestCommitIntoADirectoryMadeAgain(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := durable.Create(root, "sub/file", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Commit without the directory: %v, want fs.ErrNotExist", err)
	}
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, sub, "file")
}

func TestModeIsExactWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o777)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "file")
	if err := durable.CreateFile(path, bytes.Repeat([]byte("x"), 10), 0o644); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "xxxxxxxxxx", 0o644)
}

func TestChownBeforeTheName(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, create := range map[string]func(*os.Root, string, os.FileMode) (*durable.File, error){"unnamed": durable.Create, "named": durable.CreateNamed} {
		f, err := create(root, name, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Chown(71234, 71235), f.Commit()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if of := info.Sys().(*syscall.Stat_t); of.Uid != 71234 || of.Gid != 71235 {
			t.Errorf("%s belongs to %d:%d", name, of.Uid, of.Gid)
		}
	}
}

func TestNamesStayInsideTheRoot(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(inside, "out")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"../file", "out/file"} {
		if f, err := durable.Create(root, name, 0o600); err == nil {
			f.Abort()
			t.Errorf("Create(%q) left the root", name)
		}
	}
	wantNames(t, dir, "inside")
}
