package storetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/internal/store"
)

// OwnerAlone tests, on a store that is the folder dir of this host, that nobody but its owner can look into anything.
func OwnerAlone(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sweeps tests Sweep of an empty store that is the folder dir of this host: what killed runs left there goes when it is old,
// with the folders that are empty then, and nothing else does.
func Sweeps(t *testing.T, d interface {
	store.Driver
	store.Janitor
}, dir string) {
	t.Helper()
	put(t, d, "a/b", sample(1, 1))
	const age = 24 * time.Hour
	young := time.Now()
	old := young.Add(-2 * age)
	for name, when := range map[string]time.Time{
		"c/d/.tmp-holdfast-OLD": old, ".tmp-holdfast-OLD": old, "a/.tmp-holdfast-OLD": old, "a/.tmp-holdfast-YOUNG": young,
		"a/.other": old, "a/old": old, "a/.hidden/.tmp-holdfast-OLD": old, "a/.tmp-holdfast-DIR/file": old,
	} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600), os.Chtimes(name, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../a", filepath.Join(dir, "a", ".tmp-holdfast-LINK")); err != nil {
		t.Fatal(err)
	}
	n, what, err := d.Sweep(t.Context(), age)
	if n != 3 || what != "temporary files" || err != nil {
		t.Errorf("Sweep: %d %s, %v; want 3 temporary files", n, what, err)
	}
	var left []string
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	})
	want := []string{
		".holdfast-store", "a/.hidden/.tmp-holdfast-OLD", "a/.other", "a/.tmp-holdfast-DIR/file", "a/.tmp-holdfast-LINK", "a/.tmp-holdfast-YOUNG", "a/b", "a/old",
	}
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("the store has %q, want %q; error %v", left, want, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "c")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder: %v, want fs.ErrNotExist", err)
	}
}
