package clone_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"

	"holdfast"
	"holdfast/internal/clone"
)

func TestLedger(t *testing.T) {
	from, to := folders(t)
	write(t, from+"/a", "a")
	write(t, from+"/name \xff\n\"", "b")
	ledger, _ := copyTree(t, from, to, nil, vouching)
	path := t.TempDir() + "/ledger"
	must(t, ledger.Save(path))
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	loaded, err := clone.LoadLedger(path)
	must(t, err)
	if loaded.Files() != 2 {
		t.Errorf("%d files were loaded", loaded.Files())
	}
	if _, report := copyTree(t, from, to, loaded, vouching); report.Skipped != 2 {
		t.Errorf("with a ledger that was saved: %+v", report)
	}

	t.Run("Damaged", func(t *testing.T) {
		good := []byte(read(t, path))
		if _, err := clone.ParseLedger(good); err != nil {
			t.Fatal(err)
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if _, err := clone.ParseLedger(bad); !errors.Is(err, clone.ErrLedger) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			if _, err := clone.ParseLedger(good[:i]); !errors.Is(err, clone.ErrLedger) {
				t.Fatalf("cut at byte %d: %v", i, err)
			}
		}
		write(t, path, string(good[:len(good)-1]))
		if _, err := clone.LoadLedger(path); !errors.Is(err, clone.ErrLedger) || holdfast.Hint(err) == "" {
			t.Errorf("got %v, hint %q", err, holdfast.Hint(err))
		}
	})
	t.Run("Missing", func(t *testing.T) {
		if _, err := clone.LoadLedger(path + "no"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("OfOtherFolders", func(t *testing.T) {
		other := t.TempDir()
		for _, pair := range [][2]string{{from, other}, {other, to}, {to, from}} {
			if _, _, err := clone.Copy(t.Context(), pair[0], pair[1], loaded, vouching); !errors.Is(err, clone.ErrLedger) || holdfast.Hint(err) == "" {
				t.Errorf("%q: %v", pair, err)
			}
		}
		// The same name, and another folder: an empty original would empty the copy.
		must(t, os.Rename(from, from+"-old"))
		must(t, os.Mkdir(from, 0o700))
		if _, _, err := clone.Copy(t.Context(), from, to, loaded, vouching); !errors.Is(err, clone.ErrLedger) {
			t.Error(err)
		}
		if read(t, to+"/a") != "a" {
			t.Error("the copy was changed")
		}
	})
}

func FuzzParseLedger(f *testing.F) {
	dir := f.TempDir()
	must(f, os.Mkdir(dir+"/from", 0o700))
	write(f, dir+"/from/a", "a")
	ledger, _ := copyTree(f, dir+"/from", dir+"/to", nil, vouching)
	must(f, ledger.Save(dir+"/ledger"))
	f.Add([]byte(read(f, dir+"/ledger")))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := clone.ParseLedger(data)
		if (err == nil) != (l != nil) || err != nil && !errors.Is(err, clone.ErrLedger) {
			t.Errorf("%v, %v", l, err)
		}
	})
}
